//! All guests of a cell on each other, with the machine's reclamation state.

use kuva::plot::{LinePlot, StackedAreaPlot};
use kuva::render::plots::Plot;

use super::super::tex::{Chart, Series, Shape, pgfplots};
use super::super::{Figure, Form, Key, Mark, Panel, color, draw, row};
use super::{Cell, Guest, MOST_POINTS, allocated, axes, mib, panel, with_cells};
use crate::samples::Sample;

/// Reclamation states, the best first.
const STATES: [&str; 4] = ["high", "soft", "hard", "low"];

/// Times at which every guest of a cell has a value: those of the first, held from its last sample on.
fn table(cell: &Cell<'_>) -> Vec<(f64, Vec<f64>)> {
    let mut times: Vec<f64> = cell
        .guests
        .iter()
        .flat_map(|guest| &guest.samples)
        .map(|s| s.time_seconds)
        .collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    let every = times.len().div_ceil(MOST_POINTS).max(1);
    let value = |guest: &Guest<'_>, time: f64| {
        let before = guest
            .samples
            .partition_point(|sample| sample.time_seconds <= time);
        let sample = before.checked_sub(1).and_then(|at| guest.samples.get(at));
        sample.map_or(0.0, |sample| mib(allocated(sample)))
    };
    let rows = times.into_iter().step_by(every);
    rows.map(|time| {
        (
            time,
            cell.guests.iter().map(|guest| value(guest, time)).collect(),
        )
    })
    .collect()
}

/// All guests on each other, and the machine's state.
pub(super) fn stacked(cells: &[Cell<'_>]) -> Figure {
    let title = "Guests' memory over time, on each other";
    let tables: Vec<_> = cells.iter().map(table).collect();
    let height = |row: &(f64, Vec<f64>)| row.1.iter().sum::<f64>();
    let highest = tables.iter().flatten().map(height).fold(0.0, f64::max) * 1.05;
    let guests = cells
        .iter()
        .map(|cell| &cell.guests)
        .max_by_key(|guests| guests.len());
    let names: Vec<_> = guests
        .into_iter()
        .flatten()
        .map(|guest| guest.name.clone())
        .collect();
    let (mut panels, mut charts) = (Vec::new(), Vec::new());
    for (cell, table) in cells.iter().zip(&tables) {
        let id = format!("guests-stacked-{}", panels.len());
        let plots = vec![stack(table, &names, cell.from)];
        let svg = draw(panel(&id), plots, |layout| {
            axes(layout).with_y_axis_max(highest)
        });
        panels.push(Panel {
            name: cell.id.to_owned(),
            svg,
        });
        if let Some(line) = states(cell, cell.from) {
            let id = format!("guests-stacked-{}", panels.len());
            let svg = draw(panel(&id), vec![line], |layout| {
                let layout = layout.with_x_label("time (s)").with_y_label("state");
                layout.with_y_axis_min(0.0).with_y_axis_max(3.0)
            });
            panels.push(Panel {
                name: format!("{}: state (0 high, 1 soft, 2 hard, 3 low)", cell.id),
                svg,
            });
        }
        charts.push(stack_chart(cell, table, &names));
    }
    let all: Vec<_> = tables.iter().flatten().cloned().collect();
    let mut plots = vec![stack(&all, &names, 0.0)];
    let any_state = cells.iter().any(|cell| states(cell, 0.0).is_some());
    if any_state {
        // In the picture of its own the state is a line across: its height is a tenth of the axis each.
        let lines = cells.iter().filter_map(|cell| scaled_states(cell, highest));
        plots.extend(lines);
    }
    let source = match any_state {
        true => {
            "the line: reclamation state, on the axis high, a tenth each up for soft, hard, low; source: samples.csv"
        }
        false => "source: samples.csv",
    };
    let file = Form::File {
        title,
        source,
        height: 420.0,
    };
    let file = draw(file, plots, |layout| {
        with_cells(axes(layout), cells).with_y_axis_max(highest)
    });
    let key = |(index, name): (usize, &String)| Key {
        label: name.clone(),
        color: color(index),
        mark: Mark::Area,
    };
    Figure {
        id: "guests-stacked".into(),
        title: title.into(),
        caption: "First run of each cell: what each guest has of the machine's memory, as it sees it \
                  (private pages, and those that it shares). The state is the worst since the sample before."
            .into(),
        source: "samples.csv".into(),
        keys: names.iter().enumerate().map(key).collect(),
        panels,
        file,
        data: stacked_data(cells, &tables, &names),
        tex: pgfplots(&charts),
    }
}

fn stack(table: &[(f64, Vec<f64>)], names: &[String], from: f64) -> Plot {
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

/// The state in each sample of the machine: its place among [`STATES`].
fn numbers(cell: &Cell<'_>) -> Vec<(f64, f64)> {
    let number = |sample: &&Sample| {
        let name = sample.state.as_deref()?;
        let place = (0_u8..).zip(STATES).find(|(_, state)| *state == name)?;
        Some((sample.time_seconds, f64::from(place.0)))
    };
    cell.machine.iter().filter_map(number).collect()
}

fn steps(numbers: &[(f64, f64)], from: f64, scale: f64) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    for (index, (time, state)) in numbers.iter().enumerate() {
        // A sample tells of the time before it.
        let since = index
            .checked_sub(1)
            .map_or(*time, |before| numbers[before].0);
        points.push((since - from, state * scale));
        points.push((time - from, state * scale));
    }
    points
}

fn states(cell: &Cell<'_>, from: f64) -> Option<Plot> {
    let points = steps(&numbers(cell), from, 1.0);
    let line = LinePlot::new()
        .with_data(points.clone())
        .with_color("#000000");
    (!points.is_empty()).then_some(Plot::Line(line))
}

fn scaled_states(cell: &Cell<'_>, highest: f64) -> Option<Plot> {
    let points = steps(&numbers(cell), 0.0, highest / 10.0);
    let line = LinePlot::new()
        .with_data(points.clone())
        .with_color("#000000");
    (!points.is_empty()).then_some(Plot::Line(line))
}

fn stack_chart(cell: &Cell<'_>, table: &[(f64, Vec<f64>)], names: &[String]) -> Chart {
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

fn stacked_data(cells: &[Cell<'_>], tables: &[Vec<(f64, Vec<f64>)>], names: &[String]) -> String {
    let heads = ["cell".to_owned(), "time (s)".to_owned()].into_iter();
    let heads = heads.chain(names.iter().map(|name| format!("{name} (MiB)")));
    let mut text = row(&heads.chain(["state".to_owned()]).collect::<Vec<_>>());
    for (cell, table) in cells.iter().zip(tables) {
        for (time, values) in table {
            let at = cell
                .machine
                .partition_point(|sample| sample.time_seconds < *time);
            let state = cell.machine.get(at).and_then(|sample| sample.state.clone());
            let mut line = vec![cell.id.to_owned(), format!("{:.3}", time - cell.from)];
            line.extend(values.iter().map(|value| format!("{value:.3}")));
            line.push(state.unwrap_or_default());
            text.push_str(&row(&line));
        }
    }
    text
}
