//! All guests of a cell on each other, with the machine's reclamation state above them.

use kuva::plot::{LinePlot, StackedAreaPlot};
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

use super::super::tex::{Chart, Series, Shape, pgfplots};
use super::super::time::{panel, with_cells};
use super::super::{Figure, Form, Key, Mark, Panel, color, draw, row};
use super::{Cell, Guest, MOST_POINTS, allocated, axes, begins, end, mib};
use crate::samples::Sample;

/// Reclamation states, the best first, and their colours: the worse the darker. Of the best nothing is
/// shown.
const STATES: [(&str, Option<&str>); 4] = [
    ("high", None),
    ("soft", Some("#BBBBBB")),
    ("hard", Some("#777777")),
    ("low", Some("#000000")),
];
/// How thick the bar of states is.
const BAR: f64 = 7.0;

/// A time, and what each guest has then, MiB.
type Row = (f64, Vec<f64>);

/// A time in one state, by its place among [`STATES`].
#[derive(Debug, PartialEq)]
struct Spell {
    from: f64,
    to: f64,
    state: usize,
}

/// What each guest has at the times of all guests' samples.
fn table(cell: &Cell<'_>) -> Vec<Row> {
    let samples = cell.guests.iter().flat_map(|guest| &guest.samples);
    let mut times: Vec<f64> = samples.map(|sample| sample.time_seconds).collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    let every = times.len().div_ceil(MOST_POINTS).max(1);
    let values = |time| cell.guests.iter().map(|guest| at(guest, time)).collect();
    let times = times.into_iter().step_by(every);
    times.map(|time| (time, values(time))).collect()
}

/// What a guest has at a time, MiB. Guests are sampled in turn: if a value stood until the guest's next, memory
/// that goes from one to the other would be counted twice for a while, beyond what the machine has.
fn at(guest: &Guest<'_>, time: f64) -> f64 {
    let samples = &guest.samples;
    let next = samples.partition_point(|sample| sample.time_seconds <= time);
    let Some(before) = next.checked_sub(1).map(|before| samples[before]) else {
        return 0.0;
    };
    let value = mib(allocated(before));
    samples.get(next).map_or(value, |next| {
        let passed = time - before.time_seconds;
        let part = passed / (next.time_seconds - before.time_seconds);
        (mib(allocated(next)) - value).mul_add(part, value)
    })
}

/// The worst state of these samples, each of which tells of the time before it.
fn worst(samples: &[&Sample]) -> Option<usize> {
    let place = |sample: &&Sample| {
        let name = sample.state.as_deref()?;
        STATES.iter().position(|(state, _)| *state == name)
    };
    samples.iter().filter_map(place).max()
}

/// The states of a cell one after the other.
fn spells(cell: &Cell<'_>) -> Vec<Spell> {
    let every = cell.machine.len().div_ceil(MOST_POINTS).max(1);
    let mut from = cell.from;
    let mut spells: Vec<Spell> = Vec::new();
    for samples in cell.machine.chunks(every) {
        let Some(to) = samples.last().map(|sample| sample.time_seconds) else {
            continue;
        };
        let since = std::mem::replace(&mut from, to);
        let Some(state) = worst(samples) else {
            continue;
        };
        match spells.last_mut() {
            Some(last) if last.state == state => last.to = to,
            _ => spells.push(Spell {
                from: since,
                to,
                state,
            }),
        }
    }
    spells
}

/// The bar of states at a height, with times since `from`.
fn bar(cells: &[Cell<'_>], from: f64, height: f64) -> Vec<Plot> {
    let spells: Vec<Spell> = cells.iter().flat_map(spells).collect();
    let mut plots = Vec::new();
    for (state, (name, color)) in STATES.iter().enumerate() {
        let Some(color) = color else { continue };
        let own = spells.iter().filter(|spell| spell.state == state);
        for (index, spell) in own.enumerate() {
            let mut line = LinePlot::new()
                .with_data([(spell.from - from, height), (spell.to - from, height)])
                .with_color(*color)
                .with_stroke_width(BAR);
            if index == 0 {
                line = line.with_legend(format!("state {name}"));
            }
            plots.push(Plot::Line(line));
        }
    }
    plots
}

/// All guests on each other, and the machine's state.
pub(super) fn stacked(cells: &[Cell<'_>]) -> Figure {
    let title = "Guests' memory over time, on each other";
    let tables: Vec<_> = cells.iter().map(table).collect();
    let height = |row: &Row| row.1.iter().sum::<f64>();
    let highest = tables.iter().flatten().map(height).fold(0.0, f64::max);
    let (state, highest) = (highest * 1.06, highest * 1.1);
    let names = names(cells);
    let (mut panels, mut charts) = (Vec::new(), Vec::new());
    for (cell, table) in cells.iter().zip(&tables) {
        let id = format!("guests-stacked-{}", panels.len());
        let mut plots = vec![stack(table, &names, cell.from)];
        plots.extend(bar(std::slice::from_ref(cell), cell.from, state));
        let top = |layout: Layout| axes(layout).with_y_axis_max(highest);
        panels.push(Panel {
            name: cell.id.to_owned(),
            svg: draw(panel(&id), plots, top),
        });
        charts.push(chart(cell, table, &names));
    }
    let rows: Vec<_> = tables.iter().flatten().cloned().collect();
    let mut plots = vec![stack(&rows, &names, 0.0)];
    plots.extend(bar(cells, 0.0, state));
    let file = Form::File {
        title,
        source: "source: samples.csv",
        height: 420.0,
    };
    let file = draw(file, plots, |layout| {
        with_cells(axes(layout), &begins(cells), end(cells), highest)
    });
    Figure {
        id: "guests-stacked".into(),
        title: title.into(),
        caption: "First run of each cell: what each guest has of the machine's memory, as it sees it \
                  (private pages, and those that it shares). Guests are sampled in turn, and what one \
                  has in between is drawn as a straight line. The bar above is the machine's reclamation \
                  state, where it is not high."
            .into(),
        source: "samples.csv".into(),
        keys: keys(cells, &names),
        panels,
        file,
        data: data(cells, &tables, &names),
        tex: pgfplots(&charts),
    }
}

/// The guests of the cell that has most of them.
fn names(cells: &[Cell<'_>]) -> Vec<String> {
    let guests = cells.iter().map(|cell| &cell.guests);
    let most = guests.max_by_key(|guests| guests.len());
    let guests = most.into_iter().flatten();
    guests.map(|guest| guest.name.clone()).collect()
}

fn keys(cells: &[Cell<'_>], names: &[String]) -> Vec<Key> {
    let guests = names.iter().enumerate().map(|(index, name)| Key {
        label: name.clone(),
        color: color(index),
        mark: Mark::Area,
    });
    let spells: Vec<Spell> = cells.iter().flat_map(spells).collect();
    let states = STATES
        .iter()
        .enumerate()
        .filter_map(|(state, (name, color))| {
            spells.iter().find(|spell| spell.state == state)?;
            Some(Key {
                label: format!("state {name}"),
                color: (*color)?,
                mark: Mark::Area,
            })
        });
    guests.chain(states).collect()
}

fn stack(table: &[Row], names: &[String], from: f64) -> Plot {
    let mut stack = StackedAreaPlot::new()
        .with_x(table.iter().map(|(time, _)| time - from))
        .with_strokes(false)
        .with_fill_opacity(1.0);
    for (index, name) in names.iter().enumerate() {
        let values = table
            .iter()
            .map(|(_, row)| row.get(index).copied().unwrap_or(0.0));
        stack = stack
            .with_series(values)
            .with_color(color(index))
            .with_legend(name.clone());
    }
    Plot::StackedArea(stack)
}

fn chart(cell: &Cell<'_>, table: &[Row], names: &[String]) -> Chart {
    let series = names.iter().enumerate().map(|(index, name)| Series {
        label: name.clone(),
        color: color(index),
        dashed: false,
        points: table
            .iter()
            .map(|(time, row)| (time - cell.from, row.get(index).copied().unwrap_or(0.0)).into())
            .collect(),
    });
    Chart {
        title: cell.id.to_owned(),
        x: "time (s)".to_owned(),
        y: "memory (MiB)".to_owned(),
        shape: Shape::Areas,
        series: series.collect(),
    }
}

/// Each row with the worst state since the row before.
fn data(cells: &[Cell<'_>], tables: &[Vec<Row>], names: &[String]) -> String {
    let heads = ["cell".to_owned(), "time (s)".to_owned()].into_iter();
    let heads = heads.chain(names.iter().map(|name| format!("{name} (MiB)")));
    let mut text = row(&heads.chain(["state".to_owned()]).collect::<Vec<_>>());
    for (cell, table) in cells.iter().zip(tables) {
        let mut told = 0;
        for (time, values) in table {
            let machine = &cell.machine[told..];
            let until = machine.partition_point(|sample| sample.time_seconds <= *time);
            let state = worst(&machine[..until]).map(|state| STATES[state].0);
            told += until;
            let mut line = vec![cell.id.to_owned(), format!("{:.3}", time - cell.from)];
            line.extend(values.iter().map(|value| format!("{value:.3}")));
            line.push(state.unwrap_or_default().to_owned());
            text.push_str(&row(&line));
        }
    }
    text
}
