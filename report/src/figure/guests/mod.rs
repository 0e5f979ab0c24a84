//! What each guest had over time under a memory policy, as in ESX Server's figures 6 to 8.
//!
//! Two figures: the guests' memory on each other, with the machine's reclamation state; and each guest's
//! with what it is entitled to, is thought to use, and says itself.

mod stacked;

use std::collections::BTreeMap;

use kuva::plot::LinePlot;
use kuva::prelude::ReferenceLine;
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

use super::tex::{Chart, Series, Shape, pgfplots};
use super::{Figure, Form, Key, Mark, Panel, color, draw, row};
use crate::results::Results;
use crate::samples::Sample;

/// More guests than this can't be told apart.
const MOST_GUESTS: usize = 7;
/// With more guests than this a picture of all has a line for each, not two.
const MOST_PAIRS: usize = 3;
/// More points than this can't be told apart.
const MOST_POINTS: usize = 400;

/// A line of a guest.
struct Line {
    label: &'static str,
    color: &'static str,
    dashed: bool,
    value: fn(&Sample) -> Option<u64>,
}

const LINES: [Line; 6] = [
    Line {
        label: "allocated",
        color: "#0072B2",
        dashed: false,
        value: |sample| Some(allocated(sample)),
    },
    Line {
        label: "entitled to",
        color: "#000000",
        dashed: true,
        value: |sample| sample.target_bytes,
    },
    Line {
        label: "estimated active",
        color: "#E69F00",
        dashed: false,
        value: |sample| sample.active_bytes,
    },
    Line {
        label: "works in, as it says",
        color: "#009E73",
        dashed: true,
        value: |sample| sample.working_set_bytes,
    },
    Line {
        label: "in its balloon",
        color: "#CC79A7",
        dashed: false,
        value: |sample| sample.ballooned_bytes,
    },
    Line {
        label: "on swap",
        color: "#D55E00",
        dashed: false,
        value: |sample| sample.swapped_bytes,
    },
];

/// What a guest has of the machine's memory, as it sees it.
const fn allocated(sample: &Sample) -> u64 {
    sample.private_bytes + sample.mapped_bytes
}

/// A guest in a cell, with its samples.
struct Guest<'a> {
    name: String,
    samples: Vec<&'a Sample>,
}

/// A cell with its guests and the machine.
struct Cell<'a> {
    id: &'a str,
    /// When its first sample was taken.
    from: f64,
    guests: Vec<Guest<'a>>,
    machine: Vec<&'a Sample>,
}

/// The figures; none without a policy, or with more guests than can be told apart.
#[must_use]
pub fn guests(results: &Results) -> Vec<Figure> {
    let ids = results.summary.cells.iter().map(|cell| cell.id.as_str());
    let cells: Vec<Cell<'_>> = ids.filter_map(|id| cell(results, id)).collect();
    if cells.is_empty() {
        return Vec::new();
    }
    let mut figures = Vec::new();
    if cells.iter().any(|cell| cell.guests.len() > 1) {
        figures.push(stacked::stacked(&cells));
    }
    figures.push(each(&cells));
    figures
}

fn cell<'a>(results: &'a Results, id: &'a str) -> Option<Cell<'a>> {
    let mut of_vms = BTreeMap::<u64, Vec<&Sample>>::new();
    let own = |sample: &&Sample| sample.cell == id && sample.run == 1;
    for sample in results.guests.iter().filter(own) {
        of_vms
            .entry(sample.vm.parse().ok()?)
            .or_default()
            .push(sample);
    }
    let names = names(results, of_vms.len());
    let guests = of_vms
        .into_iter()
        .enumerate()
        .map(|(place, (vm, samples))| {
            let name = names.get(place).cloned();
            Guest {
                name: name.unwrap_or_else(|| format!("VM {vm}")),
                samples: thinned(&samples),
            }
        });
    let guests: Vec<_> = guests.collect();
    if guests.is_empty() || guests.len() > MOST_GUESTS {
        return None;
    }
    let machine: Vec<_> = results.samples.iter().filter(own).collect();
    let first = |guest: &Guest<'_>| guest.samples.first().map(|sample| sample.time_seconds);
    let firsts = guests.iter().filter_map(first);
    Some(Cell {
        id,
        from: firsts.fold(f64::INFINITY, f64::min),
        machine: thinned(&machine),
        guests,
    })
}

/// Names of the guests in the order of their VMs' numbers, if these are all that the groups have.
fn names(results: &Results, count: usize) -> Vec<String> {
    let groups = results.run.conditions["experiment"]["guests"].as_array();
    let mut names = Vec::new();
    for group in groups.into_iter().flatten() {
        let (id, each) = (group["id"].as_str(), group["count"].as_u64());
        let (id, each) = (id.unwrap_or("VM"), each.unwrap_or(1));
        match each {
            1 => names.push(id.to_owned()),
            _ => names.extend((1..=each.min(1000)).map(|number| format!("{id}-{number}"))),
        }
    }
    names.truncate(if names.len() == count { count } else { 0 });
    names
}

fn thinned<'a>(samples: &[&'a Sample]) -> Vec<&'a Sample> {
    let every = samples.len().div_ceil(MOST_POINTS).max(1);
    let last = samples.len().saturating_sub(1);
    let kept = samples.iter().enumerate();
    let kept = kept.filter(|(index, _)| index % every == 0 || *index == last);
    kept.map(|(_, sample)| *sample).collect()
}

fn panel(id: &str) -> Form<'_> {
    Form::Page {
        id,
        width: 340.0,
        height: 230.0,
    }
}

fn axes(layout: Layout) -> Layout {
    let layout = layout.with_x_label("time (s)").with_y_label("memory (MiB)");
    layout.with_ticks(5).with_y_axis_min(0.0)
}

/// A line where each cell begins, with its name.
fn with_cells(mut layout: Layout, cells: &[Cell<'_>]) -> Layout {
    for cell in cells {
        let line = ReferenceLine::vertical(cell.from).with_color("#444444");
        layout = layout.with_reference_line(line.with_label(cell.id.to_owned()));
    }
    layout
}

/// A panel for each guest of each cell.
fn each(cells: &[Cell<'_>]) -> Figure {
    let title = "Each guest's memory over time";
    let of_guests = || {
        cells
            .iter()
            .flat_map(|cell| cell.guests.iter().map(move |guest| (cell, guest)))
    };
    let any = |line: &&Line| {
        let mut samples = of_guests().flat_map(|(_, guest)| &guest.samples);
        samples.any(|sample| (line.value)(sample).is_some_and(|value| value > 0))
    };
    let lines: Vec<&Line> = LINES.iter().filter(any).collect();
    let several = cells.len() > 1;
    let values = of_guests().flat_map(|(_, guest)| &guest.samples);
    let values = values.flat_map(|sample| lines.iter().filter_map(|line| (line.value)(sample)));
    let highest = mib(values.max().unwrap_or(0)) * 1.05;
    let (mut panels, mut charts) = (Vec::new(), Vec::new());
    for (cell, guest) in of_guests() {
        let name = match several {
            true => format!("{}: {}", cell.id, guest.name),
            false => guest.name.clone(),
        };
        let id = format!("guests-{}", panels.len());
        let drawn = lines
            .iter()
            .map(|line| drawn(line, guest, cell.from, true))
            .collect();
        let svg = draw(panel(&id), drawn, |layout| {
            axes(layout).with_y_axis_max(highest)
        });
        charts.push(each_chart(name.clone(), cell, guest, &lines));
        panels.push(Panel { name, svg });
    }
    // One picture of all: guests one after the other would be as wide as a page is long, so each has its
    // colour, and two lines at most.
    let mut plots = Vec::new();
    let alone = of_guests().count() == 1;
    let few = cells.iter().all(|cell| cell.guests.len() <= MOST_PAIRS);
    let shown = |line: &&&Line| match line.label {
        "allocated" => true,
        "estimated active" => few,
        _ => alone,
    };
    for (number, cell) in cells.iter().enumerate() {
        for (index, guest) in cell.guests.iter().enumerate() {
            for line in lines.iter().filter(shown) {
                plots.push(match alone {
                    true => drawn(line, guest, 0.0, true),
                    false => of_many(line, guest, color(index), number == 0),
                });
            }
        }
    }
    let file = Form::File {
        title,
        source: "source: samples.csv",
        height: 420.0,
    };
    let file = draw(file, plots, |layout| {
        with_cells(axes(layout), cells).with_y_axis_max(highest)
    });
    Figure {
        id: "guests".into(),
        title: title.into(),
        caption: "First run of each cell. Allocated: what the guest has of the machine's memory. Entitled \
                  to: its target by shares and tax. The estimate is of 100 sampled pages, the greatest of \
                  three averages."
            .into(),
        source: "samples.csv".into(),
        keys: lines.iter().map(|line| key(line)).collect(),
        panels,
        file,
        data: each_data(cells, &lines),
        tex: pgfplots(&charts),
    }
}

fn key(line: &Line) -> Key {
    Key {
        label: line.label.to_owned(),
        color: line.color,
        mark: match line.dashed {
            true => Mark::Dashed,
            false => Mark::Line,
        },
    }
}

fn points(line: &Line, guest: &Guest<'_>, from: f64) -> Vec<(f64, f64)> {
    let point = |sample: &&Sample| Some((sample.time_seconds - from, mib((line.value)(sample)?)));
    guest.samples.iter().filter_map(point).collect()
}

fn drawn(line: &Line, guest: &Guest<'_>, from: f64, named: bool) -> Plot {
    let mut plot = LinePlot::new()
        .with_data(points(line, guest, from))
        .with_color(line.color);
    if line.dashed {
        plot = plot.with_dashed();
    }
    if named {
        plot = plot.with_legend(line.label);
    }
    Plot::Line(plot)
}

/// A guest's line in a picture of several guests: full what it has, dashed what it uses.
fn of_many(line: &Line, guest: &Guest<'_>, color: &'static str, named: bool) -> Plot {
    let mut plot = LinePlot::new()
        .with_data(points(line, guest, 0.0))
        .with_color(color);
    if line.label != "allocated" {
        plot = plot.with_dashed();
    }
    if named {
        plot = plot.with_legend(format!("{}, {}", guest.name, line.label));
    }
    Plot::Line(plot)
}

fn each_chart(title: String, cell: &Cell<'_>, guest: &Guest<'_>, lines: &[&Line]) -> Chart {
    let series = lines.iter().map(|line| Series {
        label: line.label.to_owned(),
        color: line.color,
        dashed: line.dashed,
        points: points(line, guest, cell.from)
            .into_iter()
            .map(Into::into)
            .collect(),
    });
    Chart {
        title,
        x: "time (s)".to_owned(),
        y: "memory (MiB)".to_owned(),
        shape: Shape::Lines,
        series: series.collect(),
    }
}

fn each_data(cells: &[Cell<'_>], lines: &[&Line]) -> String {
    let heads = ["cell", "guest", "time (s)"].map(str::to_owned).into_iter();
    let heads = heads.chain(lines.iter().map(|line| format!("{} (MiB)", line.label)));
    let mut text = row(&heads.collect::<Vec<_>>());
    for cell in cells {
        for guest in &cell.guests {
            for sample in &guest.samples {
                let time = format!("{:.3}", sample.time_seconds - cell.from);
                let mut values = vec![cell.id.to_owned(), guest.name.clone(), time];
                let value =
                    |line: &&Line| (line.value)(sample).map(|value| format!("{:.3}", mib(value)));
                values.extend(lines.iter().map(|line| value(line).unwrap_or_default()));
                text.push_str(&row(&values));
            }
        }
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "a height in a figure")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::MACHINE;
    use crate::summary;

    /// Two guests for ten seconds: one gives up a MiB a second, the other gets it.
    fn results() -> Results {
        let sample = |vm: &str, time: u32, private: u32| Sample {
            cell: "none".into(),
            run: 1,
            time_seconds: 5.0 + f64::from(time),
            vm: vm.into(),
            private_bytes: u64::from(private) << 20,
            target_bytes: (vm != MACHINE).then_some(7 << 20),
            active_bytes: (vm != MACHINE).then_some(1 << 20),
            state: (vm == MACHINE).then(|| if time < 5 { "high" } else { "hard" }.to_owned()),
            ..Sample::default()
        };
        let mut results = crate::figure::claimed::tests::results(&[]);
        results.summary.cells = vec![summary::Cell {
            id: "none".into(),
            ..summary::Cell::default()
        }];
        results.run.conditions = serde_json::json!({ "experiment": { "guests": [
            { "id": "idle", "count": 1 }, { "id": "busy", "count": 1 } ] } });
        results.guests = (0..10)
            .flat_map(|time| [sample("3", time, 12 - time), sample("4", time, 2 + time)])
            .collect();
        results.samples = (0..10).map(|time| sample(MACHINE, time, 14)).collect();
        results
    }

    #[test]
    fn guests_stand_on_each_other_with_the_state() {
        let figures = guests(&results());
        let stacked = &figures[0];
        assert_eq!(stacked.panels.len(), 2, "the state has a panel");
        let lines: Vec<_> = stacked.data.lines().collect();
        assert_eq!(lines[0], "cell,time (s),idle (MiB),busy (MiB),state");
        assert_eq!(lines[1], "none,0.000,12.000,2.000,high");
        assert_eq!(lines[10], "none,9.000,3.000,11.000,hard");
        for name in ["idle", "busy", "reclamation state"] {
            assert!(stacked.file.contains(name), "{name}");
        }
    }

    #[test]
    fn each_guest_has_its_lines_and_only_those_with_values() {
        let figures = guests(&results());
        let each = &figures[1];
        let head = each.data.lines().next();
        assert_eq!(
            head,
            Some("cell,guest,time (s),allocated (MiB),entitled to (MiB),estimated active (MiB)")
        );
        assert_eq!(each.panels.len(), 2);
        assert!(each.file.contains("busy, allocated"));
    }

    #[test]
    fn guests_without_a_policy_or_too_many_make_no_figure() {
        let mut many = results();
        let first = many.guests[0].clone();
        many.guests.extend((10..20).map(|vm| Sample {
            vm: vm.to_string(),
            ..first.clone()
        }));
        assert!(guests(&many).is_empty());
        many.guests.clear();
        assert!(guests(&many).is_empty());
    }
}
