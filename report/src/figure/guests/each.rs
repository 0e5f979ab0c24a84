//! Each guest's memory: a panel for each guest of each cell, and one picture of all.

use kuva::plot::LinePlot;
use kuva::render::plots::Plot;

use super::super::tex::{Chart, Series, Shape, pgfplots};
use super::super::time::{panel, with_cells};
use super::super::{Figure, Form, Key, Mark, Panel, color, draw, row};
use super::{Cell, Guest, allocated, axes, begins, end, mib};
use crate::samples::Sample;

/// With more guests than this a picture of all has a line for each, not two.
const MOST_PAIRS: usize = 3;

/// A line of a guest.
struct Line {
    label: &'static str,
    color: &'static str,
    dashed: bool,
    among: Among,
    value: fn(&Sample) -> Option<u64>,
}

/// Where a line is drawn in a picture of several guests, which tells them apart by colour.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Among {
    /// In any.
    All,
    /// Only among few.
    Few,
    /// Not there.
    None,
}

const LINES: [Line; 6] = [
    Line {
        label: "allocated",
        color: "#0072B2",
        dashed: false,
        among: Among::All,
        value: |sample| Some(allocated(sample)),
    },
    Line {
        label: "entitled to",
        color: "#000000",
        dashed: true,
        among: Among::None,
        value: |sample| sample.target_bytes,
    },
    Line {
        label: "estimated active",
        color: "#E69F00",
        dashed: false,
        among: Among::Few,
        value: |sample| sample.active_bytes,
    },
    Line {
        label: "works in, as it says",
        color: "#009E73",
        dashed: true,
        among: Among::None,
        value: |sample| sample.working_set_bytes,
    },
    Line {
        label: "in its balloon",
        color: "#CC79A7",
        dashed: false,
        among: Among::None,
        value: |sample| sample.ballooned_bytes,
    },
    Line {
        label: "on swap",
        color: "#D55E00",
        dashed: false,
        among: Among::None,
        value: |sample| sample.swapped_bytes,
    },
];

/// All guests, with the cell that each is of.
fn all<'a>(cells: &'a [Cell<'a>]) -> impl Iterator<Item = (&'a Cell<'a>, &'a Guest<'a>)> + Clone {
    let of = |cell: &'a Cell<'a>| cell.guests.iter().map(move |guest| (cell, guest));
    cells.iter().flat_map(of)
}

/// The lines that any guest has a value for, and the highest of their values, MiB.
fn lines(cells: &[Cell<'_>]) -> (Vec<&'static Line>, f64) {
    let samples = all(cells).flat_map(|(_, guest)| &guest.samples);
    let values = |line: &Line| {
        let values = samples.clone().filter_map(|sample| (line.value)(sample));
        values.max().unwrap_or(0)
    };
    let lines = LINES.iter().map(|line| (line, values(line)));
    let lines: Vec<_> = lines.filter(|(_, most)| *most > 0).collect();
    let highest = lines.iter().map(|(_, most)| *most).max();
    let lines = lines.into_iter().map(|(line, _)| line);
    (lines.collect(), mib(highest.unwrap_or(0)))
}

/// Each guest's memory.
pub(super) fn each(cells: &[Cell<'_>]) -> Figure {
    let title = "Each guest's memory over time";
    let (lines, highest) = lines(cells);
    let (mut panels, mut charts) = (Vec::new(), Vec::new());
    for (cell, guest) in all(cells) {
        let name = match cells.len() {
            1 => guest.name.clone(),
            _ => format!("{}: {}", cell.id, guest.name),
        };
        let id = format!("guests-{}", panels.len());
        let drawn = lines.iter().map(|line| drawn(line, guest, cell.from));
        let svg = draw(panel(&id), drawn.collect(), |layout| {
            axes(layout).with_y_axis_max(highest * 1.05)
        });
        charts.push(chart(name.clone(), cell, guest, &lines));
        panels.push(Panel { name, svg });
    }
    let file = Form::File {
        title,
        source: "source: samples.csv",
        height: 420.0,
    };
    let file = draw(file, together(cells, &lines), |layout| {
        with_cells(axes(layout), &begins(cells), end(cells), highest)
    });
    Figure {
        id: "guests".into(),
        title: title.into(),
        caption: "First run of each cell. Allocated: what the guest has of the machine's memory. Entitled \
                  to: its target by shares and tax. The estimate is of sampled pages, the greatest of three \
                  averages."
            .into(),
        source: "samples.csv".into(),
        keys: lines.iter().map(|line| key(line)).collect(),
        panels,
        file,
        data: data(cells, &lines),
        tex: pgfplots(&charts),
    }
}

/// One picture of all: guests one after the other would be as wide as a page is long, so each has its
/// colour, and two lines at most.
fn together(cells: &[Cell<'_>], lines: &[&Line]) -> Vec<Plot> {
    if let ([only], 1) = (cells, all(cells).count()) {
        let guests = only.guests.iter();
        let plots = guests.flat_map(|guest| lines.iter().map(|line| drawn(line, guest, 0.0)));
        return plots.collect();
    }
    let few = cells.iter().all(|cell| cell.guests.len() <= MOST_PAIRS);
    let mut plots = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        for (index, guest) in cell.guests.iter().enumerate() {
            let shown = |line: &&&Line| line.among == Among::All || few && line.among == Among::Few;
            let shown = lines.iter().filter(shown);
            plots.extend(shown.map(|line| of_many(line, guest, color(index), number == 0)));
        }
    }
    plots
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

fn plot(line: &Line, guest: &Guest<'_>, from: f64) -> LinePlot {
    LinePlot::new().with_data(points(line, guest, from))
}

fn drawn(line: &Line, guest: &Guest<'_>, from: f64) -> Plot {
    let mut plot = plot(line, guest, from)
        .with_color(line.color)
        .with_legend(line.label);
    if line.dashed {
        plot = plot.with_dashed();
    }
    Plot::Line(plot)
}

/// A guest's line in a picture of several guests: full what it has, dashed what it uses.
fn of_many(line: &Line, guest: &Guest<'_>, color: &'static str, named: bool) -> Plot {
    let mut plot = plot(line, guest, 0.0).with_color(color);
    if line.among != Among::All {
        plot = plot.with_dashed();
    }
    if named {
        plot = plot.with_legend(format!("{}, {}", guest.name, line.label));
    }
    Plot::Line(plot)
}

fn chart(title: String, cell: &Cell<'_>, guest: &Guest<'_>, lines: &[&Line]) -> Chart {
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

fn data(cells: &[Cell<'_>], lines: &[&Line]) -> String {
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
