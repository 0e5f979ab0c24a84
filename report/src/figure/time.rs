//! What the figures over time have in common.

use kuva::prelude::{ReferenceLine, TextAnnotation};
use kuva::render::layout::Layout;

use super::{Form, count};
use crate::samples::Sample;

/// Width of a file's axis across, about, in the units that text is measured in.
const AXIS: f64 = 570.0;
/// Width of a letter, and the space around a name.
const LETTER: f64 = 7.0;
const SPACE: f64 = 4.0;
/// Height of a row of names, as a part of the axis.
const ROW: f64 = 0.06;
/// Names in more rows than these would leave no room for the figure.
const MOST_ROWS: usize = 6;

/// The form of a panel of the page: two of them stand side by side.
pub(super) fn panel(id: &str) -> Form<'_> {
    Form::Page {
        id,
        width: 340.0,
        height: 230.0,
    }
}

/// No more samples than can be told apart; the last of each cell is always among them.
pub(super) fn thinned<'a>(samples: &[&'a Sample], most: usize) -> Vec<&'a Sample> {
    let every = samples.len().div_ceil(most).max(1);
    let kept = samples.iter().enumerate().filter(|(index, sample)| {
        let next = samples.get(index + 1);
        index % every == 0 || next.is_none_or(|next| next.cell != sample.cell)
    });
    kept.map(|(_, sample)| *sample).collect()
}

/// A line where each cell begins, and its name above all that is drawn, which is `highest`. Names that
/// would hide each other stand in rows. One cell alone needs no name.
pub(super) fn with_cells(
    mut layout: Layout,
    cells: &[(f64, &str)],
    end: f64,
    highest: f64,
) -> Layout {
    if cells.len() < 2 {
        return layout.with_y_axis_max(highest.max(1.0) * 1.05);
    }
    let first = cells.iter().map(|(from, _)| *from).fold(end, f64::min);
    let unit = (end - first) / AXIS;
    let rows = rows(cells, unit);
    let needed = rows.iter().flatten().max().map_or(0, |row| row + 1);
    let top = highest.max(1.0) / ROW.mul_add(-count(needed), 0.98);
    for ((from, name), row) in cells.iter().zip(rows) {
        layout = layout.with_reference_line(ReferenceLine::vertical(*from).with_color("#444444"));
        if let Some(row) = row {
            // The library sets text around its place, and a little above it.
            let middle = (width(name) / 2.0 + SPACE).mul_add(unit, *from);
            let height = top * ROW.mul_add(-count(row) - 1.0, 1.0);
            layout = layout.with_annotation(TextAnnotation::new(*name, middle, height));
        }
    }
    layout.with_y_axis_max(top)
}

/// The row of each name, if there is one in which it hides no other. A letter's worth of time is `unit`
/// times its width.
fn rows(cells: &[(f64, &str)], unit: f64) -> Vec<Option<usize>> {
    let mut ends = [f64::NEG_INFINITY; MOST_ROWS];
    let place = |(from, name): &(f64, &str)| {
        let row = ends.iter().position(|end| end <= from)?;
        ends[row] = (width(name) + 2.0 * SPACE).mul_add(unit, *from);
        Some(row)
    };
    cells.iter().map(place).collect()
}

fn width(name: &str) -> f64 {
    count(name.chars().count()) * LETTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_hide_each_other_stand_in_rows() {
        let cells = [
            (0.0, "a-long-name"),
            (1.0, "b-long-name"),
            (2.0, "c"),
            (100.0, "d"),
        ];
        let rows = rows(&cells, 0.2);
        assert_eq!(rows, [Some(0), Some(1), Some(2), Some(0)]);
    }

    #[test]
    fn a_name_without_room_is_left_out() {
        let cells = [(0.0, "name"); MOST_ROWS + 1];
        let rows = rows(&cells, 1.0);
        assert_eq!(rows.iter().flatten().count(), MOST_ROWS);
        assert_eq!(rows[MOST_ROWS], None);
    }

    #[test]
    fn a_thinned_cell_ends_where_it_ended() {
        let sample = |time: u32| Sample {
            cell: if time < 10 { "none" } else { "disk" }.into(),
            time_seconds: f64::from(time),
            ..Sample::default()
        };
        let samples: Vec<_> = (0..20).map(sample).collect();
        let all: Vec<&Sample> = samples.iter().collect();
        let kept = thinned(&all, 4);
        assert!(kept.len() <= 6);
        let times: Vec<f64> = kept.iter().map(|sample| sample.time_seconds).collect();
        assert!(times.contains(&9.0) && times.contains(&19.0), "{times:?}");
    }
}
