//! What guests' memory is used for, as guests see it and in the machine: figure 6 of the Disco paper
//! (SOSP'97), with the published bars beside ours where the experiment has them.

use kuva::plot::BarPlot;
use kuva::render::plots::Plot;
use serde::{Deserialize, Serialize};

use super::tex::{Chart, Series, Shape, pgfplots};
use super::{Figure, Form, Key, Mark, PAGE_WIDTH, Panel, count, draw, mib, row};
use crate::results::Results;
use crate::summary::{ByCategory, Cell, Footprint};

/// Published memory by what it is used for, MB: of each bar the values for text, data and buffer cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishedFootprint {
    /// What each bar is of.
    pub bars: Vec<String>,
    /// As guests see it.
    pub touched: [Vec<f64>; 3],
    /// In the machine.
    pub machine: [Vec<f64>; 3],
}

/// The parts of a bar, in the order of [`PublishedFootprint`]; the colours are Okabe and Ito's.
const PARTS: [(&str, &str); 3] = [
    ("text", "#0072B2"),
    ("data", "#CC79A7"),
    ("buffer cache", "#E69F00"),
];

const TITLE: &str = "Memory by what it is used for, as guests see it (V) and in the machine (M)";

/// Two bars: its name, and the parts of V and of M.
struct Pair {
    name: String,
    touched: [f64; 3],
    machine: [f64; 3],
}

impl Pair {
    /// Both bars with their names.
    fn bars(&self) -> [(String, [f64; 3]); 2] {
        [
            (format!("{} V", self.name), self.touched),
            (format!("{} M", self.name), self.machine),
        ]
    }
}

/// Bars of one origin.
struct Group {
    name: &'static str,
    axis: &'static str,
    pairs: Vec<Pair>,
}

/// The figure; `None` where memory was not told apart.
#[must_use]
pub fn footprint(results: &Results) -> Option<Figure> {
    let ours: Vec<Pair> = results.summary.cells.iter().filter_map(ours).collect();
    if ours.is_empty() {
        return None;
    }
    let sweep = results.run.experiment.sweep.as_ref();
    let published = sweep.and_then(|sweep| sweep.published.as_ref());
    let theirs = published.and_then(|published| published.footprint.as_ref());
    let mut groups = vec![Group {
        name: "here",
        axis: "memory (MiB)",
        pairs: ours,
    }];
    groups.extend(theirs.map(|theirs| Group {
        name: "published",
        axis: "memory (MB)",
        pairs: pairs(theirs),
    }));
    let source = match (published, theirs) {
        (Some(published), Some(_)) => {
            format!("here: summary.json; published: {}", published.source)
        }
        _ => "summary.json".to_owned(),
    };
    let keys = PARTS.iter().map(|(label, color)| Key {
        label: (*label).to_owned(),
        color,
        mark: Mark::Area,
    });
    let page = |(index, group): (usize, &Group)| Panel {
        name: if groups.len() > 1 {
            group.name.to_owned()
        } else {
            String::new()
        },
        svg: drawn(
            Form::Page {
                id: &format!("footprint{index}"),
                width: PAGE_WIDTH,
                height: height(group.pairs.len()),
            },
            std::slice::from_ref(group),
        ),
    };
    let rows = groups.iter().map(|group| group.pairs.len()).sum();
    let file = Form::File {
        title: TITLE,
        source: &source,
        height: height(rows) + 90.0,
    };
    Some(Figure {
        id: "footprint".into(),
        title: TITLE.into(),
        caption:
            "V is what guests use, and what it would take if nothing were shared; M is what the \
                  machine needs for it, each shared frame counted once. At the end of the quiet \
                  period; medians of the runs."
                .into(),
        source: source.clone(),
        keys: keys.collect(),
        panels: groups.iter().enumerate().map(page).collect(),
        file: drawn(file, &groups),
        data: data(&groups),
        tex: pgfplots(&groups.iter().map(chart).collect::<Vec<_>>()),
    })
}

fn ours(cell: &Cell) -> Option<Pair> {
    let ByCategory {
        text, data, cache, ..
    } = &cell.figures.by_category;
    let parts = |value: fn(&Footprint) -> Option<u64>| {
        Some([mib(value(text)?), mib(value(data)?), mib(value(cache)?)])
    };
    Some(Pair {
        name: cell.id.clone(),
        touched: parts(|footprint| footprint.touched)?,
        machine: parts(|footprint| footprint.machine)?,
    })
}

fn pairs(published: &PublishedFootprint) -> Vec<Pair> {
    let at = |parts: &[Vec<f64>; 3], index: usize| {
        std::array::from_fn(|part| parts[part].get(index).copied().unwrap_or(0.0))
    };
    let bars = published.bars.iter().enumerate();
    bars.map(|(index, name)| Pair {
        name: name.clone(),
        touched: at(&published.touched, index),
        machine: at(&published.machine, index),
    })
    .collect()
}

fn drawn(form: Form<'_>, groups: &[Group]) -> String {
    let mut bars = BarPlot::new().with_stacked().with_horizontal(true);
    // The library draws the first group at the bottom.
    for group in groups.iter().rev() {
        for (name, values) in group.pairs.iter().flat_map(Pair::bars).rev() {
            let name = match groups.len() {
                1 => name,
                _ => format!("{name}, {}", group.name),
            };
            let parts = PARTS.iter().zip(values);
            let values = parts.map(|((_, color), value)| (value, *color));
            bars = bars.with_group(name, values.collect::<Vec<_>>());
        }
    }
    let labels = PARTS.iter().map(|(label, _)| *label).collect();
    let axis = match groups {
        [group] => group.axis,
        _ => "memory (here MiB, published MB)",
    };
    draw(form, vec![Plot::Bar(bars.with_legend(labels))], |layout| {
        layout.with_x_label(axis)
    })
}

fn chart(group: &Group) -> Chart {
    let bars: Vec<_> = group.pairs.iter().flat_map(Pair::bars).collect();
    let series = PARTS.iter().enumerate().map(|(part, (label, color))| {
        let points = bars.iter().enumerate();
        Series {
            label: (*label).to_owned(),
            color,
            dashed: false,
            points: points
                .map(|(place, (_, values))| (values[part], count(place)).into())
                .collect(),
        }
    });
    Chart {
        title: format!("{TITLE}, {}", group.name),
        x: group.axis.to_owned(),
        y: String::new(),
        shape: Shape::Bars(bars.iter().map(|(name, _)| name.clone()).collect()),
        series: series.collect(),
    }
}

fn data(groups: &[Group]) -> String {
    let head = ["where", "bar", "text", "data", "buffer cache", "unit"];
    let mut text = row(&head.map(str::to_owned));
    for group in groups {
        let unit = if group.name == "here" { "MiB" } else { "MB" };
        for (name, values) in group.pairs.iter().flat_map(Pair::bars) {
            let [a, b, c] = values.map(|value| format!("{value:.2}"));
            text.push_str(&row(&[group.name.into(), name, a, b, c, unit.into()]));
        }
    }
    text
}

/// Height of a drawing of so many pairs.
fn height(pairs: usize) -> f64 {
    40.0f64.mul_add(count(pairs), 90.0)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::results::Sweep;

    fn results(published: Option<PublishedFootprint>) -> Results {
        let part = |touched: u64, machine: u64| Footprint {
            touched: Some(touched << 20),
            machine: Some(machine << 20),
        };
        let mut cell = fixture::cell("disk-8");
        cell.figures.by_category = ByCategory {
            text: part(8, 1),
            data: part(5, 5),
            cache: part(40, 12),
            kept: Some(0),
        };
        let published = super::super::Published {
            source: "a paper".into(),
            footprint: published,
            ..Default::default()
        };
        let mut results = fixture::results(vec![cell, Cell::default()]);
        results.run.experiment.sweep = Some(Sweep {
            published: Some(published),
        });
        results
    }

    #[test]
    fn both_sides_of_each_cell_are_drawn_beside_what_was_published() {
        let theirs = PublishedFootprint {
            bars: vec!["8 VMs".into()],
            touched: [vec![13.1], vec![13.8], vec![45.5]],
            machine: [vec![1.6], vec![13.7], vec![17.7]],
        };
        let figure = footprint(&results(Some(theirs))).unwrap();
        assert_eq!(
            figure.data,
            "where,bar,text,data,buffer cache,unit\n\
             here,disk-8 V,8.00,5.00,40.00,MiB\n\
             here,disk-8 M,1.00,5.00,12.00,MiB\n\
             published,8 VMs V,13.10,13.80,45.50,MB\n\
             published,8 VMs M,1.60,13.70,17.70,MB\n"
        );
        assert_eq!(figure.panels.len(), 2, "one for each unit");
        for text in [
            "disk-8 V, here",
            "8 VMs M, published",
            "buffer cache",
            "a paper",
        ] {
            assert!(figure.file.contains(text), "{text}");
        }
    }

    #[test]
    fn without_categories_there_is_no_figure() {
        let mut results = results(None);
        assert_eq!(footprint(&results).unwrap().panels.len(), 1);
        results.summary.cells.remove(0);
        assert!(footprint(&results).is_none());
    }
}
