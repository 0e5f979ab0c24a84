//! Sweeps: cells by what differs between them.
//!
//! Results tell of each cell which fields of the experiment it changes ([`Cell::point`]). Here these
//! become numbers, and the cells lines of one mechanism set along one of them. What a field means is
//! not known here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::summary::Cell;

/// Units of experiment files, each with how many bytes, seconds or parts of one it is.
const UNITS: [(&str, f64); 13] = [
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("us", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("min", 60.0),
    ("h", 3600.0),
    ("%", 0.01),
    ("/s", 1.0),
    ("/min", 1.0 / 60.0),
    ("", 1.0),
];

/// Cells of one mechanism set that differ in one thing, and in what follows from it.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// The mechanism set.
    pub set: &'a str,
    /// What the line has in common beside the set, in words; empty where there is only one line.
    pub rest: String,
    /// The cells with their places, the least first.
    pub cells: Vec<(f64, &'a Cell)>,
}

impl Line<'_> {
    /// Its name: the set, and what else tells it from other lines.
    #[must_use]
    pub fn name(&self) -> String {
        match self.rest.as_str() {
            "" => self.set.to_owned(),
            rest => format!("{}, {rest}", self.set),
        }
    }
}

/// What a figure of a sweep is drawn against.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The swept field; `None` for the number of guests.
    path: Option<String>,
    /// What stands at the axis, with its unit.
    pub label: String,
    /// What a quantity is divided by.
    unit: f64,
}

impl Axis {
    /// The number of guests where it changes along a line, else the first field that does so; `None`
    /// where nothing is swept that has an order.
    #[must_use]
    pub fn of(cells: &[Cell]) -> Option<Self> {
        let fields: BTreeSet<&String> = cells.iter().flat_map(|cell| cell.point.keys()).collect();
        let fields = fields.into_iter().map(|field| Self::along(field, cells));
        let guests = Self {
            path: None,
            label: "guests".to_owned(),
            unit: 1.0,
        };
        let mut axes = std::iter::once(guests).chain(fields);
        axes.find(|axis| {
            let lines = lines(cells, |cell| axis.place(cell));
            lines.iter().any(|line| {
                let mut places = line.cells.iter().map(|(at, _)| at);
                let first = places.next();
                places.any(|at| Some(at) != first)
            })
        })
    }

    fn along(path: &str, cells: &[Cell]) -> Self {
        let mut values = cells.iter().filter_map(|cell| cell.point.get(path));
        let text = values.find_map(Value::as_str).unwrap_or_default();
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let (name, factor) = match unit.trim() {
            "B" | "KiB" | "MiB" | "GiB" => (" (MiB)", 1_048_576.0),
            "us" | "ms" | "s" | "min" | "h" => (" (s)", 1.0),
            "%" => (" (%)", 0.01),
            "/s" | "/min" => (" (1/s)", 1.0),
            _ => ("", 1.0),
        };
        Self {
            path: Some(path.to_owned()),
            label: format!("{}{name}", short(path)),
            unit: factor,
        }
    }

    /// Where a cell stands.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a place in a figure")]
    pub fn place(&self, cell: &Cell) -> Option<f64> {
        match &self.path {
            None => Some(cell.guests as f64),
            Some(path) => along(cell, path).map(|value| value / self.unit),
        }
    }
}

/// A value of an experiment file as a number: bytes, seconds, parts of one, counts; `off` and `on` are
/// 0 and 1. `None` for what has no order.
#[must_use]
pub fn quantity(value: &Value) -> Option<f64> {
    let text = match value {
        Value::Number(number) => return number.as_f64(),
        Value::String(text) => text.trim(),
        _ => return None,
    };
    match text {
        "off" => return Some(0.0),
        "on" => return Some(1.0),
        _ => {}
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim_start();
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(number * factor)
}

/// The place of a cell along a swept field. Older results do not tell what was swept: it was the number
/// of guests.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "a number of guests")]
pub fn along(cell: &Cell, path: &str) -> Option<f64> {
    let unsaid = cell.set.is_empty() && cell.point.is_empty();
    match cell.point.get(path) {
        Some(value) => quantity(value),
        None if unsaid && path.ends_with(".count") => Some(cell.guests as f64),
        None => None,
    }
}

/// The cells that have a place, as lines along it. Fields that change with the place, as in a `zip`,
/// belong to it; each combination of the others has a line of its own.
#[must_use]
pub fn lines<'a>(
    cells: impl IntoIterator<Item = &'a Cell>,
    place: impl Fn(&Cell) -> Option<f64>,
) -> Vec<Line<'a>> {
    let mut sets: Vec<(&str, Vec<(f64, &Cell)>)> = Vec::new();
    for cell in cells {
        let Some(at) = place(cell) else { continue };
        match sets.iter_mut().find(|(set, _)| *set == cell.set_name()) {
            Some((_, cells)) => cells.push((at, cell)),
            None => sets.push((cell.set_name(), vec![(at, cell)])),
        }
    }
    sets.into_iter()
        .flat_map(|(set, cells)| lines_of(set, cells))
        .collect()
}

fn lines_of<'a>(set: &'a str, cells: Vec<(f64, &'a Cell)>) -> Vec<Line<'a>> {
    let fields: BTreeSet<&str> = cells
        .iter()
        .flat_map(|(_, cell)| cell.point.keys().map(String::as_str))
        .collect();
    let free: Vec<&str> = fields
        .into_iter()
        .filter(|field| !follows(&cells, field))
        .collect();
    let mut lines: Vec<Line<'a>> = Vec::new();
    for (at, cell) in cells {
        let rest = text(cell, |field| free.contains(&field));
        match lines.iter_mut().find(|line| line.rest == rest) {
            Some(line) => line.cells.push((at, cell)),
            None => lines.push(Line {
                set,
                rest,
                cells: vec![(at, cell)],
            }),
        }
    }
    for line in &mut lines {
        line.cells.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    }
    lines
}

/// Whether cells at one place have one value of this field.
fn follows(cells: &[(f64, &Cell)], field: &str) -> bool {
    let mut values: BTreeMap<u64, Option<&Value>> = BTreeMap::new();
    cells.iter().all(|(at, cell)| {
        let value = cell.point.get(field);
        *values.entry(at.to_bits()).or_insert(value) == value
    })
}

/// The cell of these that stands where another one does: at the same point, or at a part of it, which is
/// how a set stands that is swept over fewer fields. The nearest there is.
#[must_use]
pub fn beside<'a>(cells: impl IntoIterator<Item = &'a Cell>, of: &Cell) -> Option<&'a Cell> {
    let cells = cells.into_iter().filter(|cell| is_part(cell, of));
    cells.max_by_key(|cell| (cell.guests == of.guests, cell.point.len()))
}

/// Whether all that a cell changes is changed by another one in the same way.
#[must_use]
pub fn is_part(cell: &Cell, of: &Cell) -> bool {
    let mut fields = cell.point.iter();
    fields.all(|(field, value)| of.point.get(field) == Some(value))
}

/// What a cell changes, in words, of the fields that are wanted.
#[must_use]
pub fn text(cell: &Cell, wanted: impl Fn(&str) -> bool) -> String {
    let fields = cell.point.iter().filter(|(field, _)| wanted(field));
    let told = fields.map(|(field, value)| format!("{} {}", short(field), value_text(value)));
    told.collect::<Vec<_>>().join(", ")
}

/// A value as it is written in a file.
#[must_use]
pub fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A path without the list that it begins in: `guests.web.count` is `web.count`.
#[must_use]
pub fn short(path: &str) -> &str {
    path.strip_prefix("guests.").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cell(set: &str, point: Value) -> Cell {
        Cell {
            id: format!("{set}-{point}"),
            set: set.to_owned(),
            point: serde_json::from_value(point).unwrap(),
            ..Cell::default()
        }
    }

    #[test]
    fn values_are_ordered_as_quantities_not_as_text() {
        let of = |text: &str| quantity(&json!(text));
        assert_eq!(of("1.5 GiB"), Some(1.5 * 1_073_741_824.0));
        assert!(of("900 ms") < of("1 s") && of("90 s") < of("2 min"));
        assert!(of("9 %") < of("10 %") && of("off") < of("on"));
        assert_eq!(of("50000/s"), Some(50000.0));
        assert_eq!(quantity(&json!(8)), Some(8.0));
        for none in ["esx-random", "", "4 MB", "1 2"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(quantity(&json!([1])), None);
    }

    #[test]
    fn every_combination_of_the_other_fields_is_a_line() {
        let mut cells = Vec::new();
        for count in [10, 2, 4] {
            for interval in ["1 s", "4 s"] {
                cells.push(cell(
                    "all",
                    json!({ "guests.a.count": count, "scanner.interval": interval }),
                ));
            }
        }
        let lines = lines(&cells, |cell| along(cell, "guests.a.count"));
        let names: Vec<String> = lines.iter().map(Line::name).collect();
        assert_eq!(
            names,
            ["all, scanner.interval 1 s", "all, scanner.interval 4 s"]
        );
        let places: Vec<f64> = lines[1].cells.iter().map(|(at, _)| *at).collect();
        assert_eq!(places, [2.0, 4.0, 10.0]);
    }

    #[test]
    fn a_figure_is_drawn_against_guests_or_else_what_changes() {
        let with = |guests: u64, point: Value| Cell {
            guests,
            ..cell("all", point)
        };
        let mut cells = vec![
            with(2, json!({ "scanner.interval": "500 ms" })),
            with(2, json!({ "scanner.interval": "2 s" })),
        ];
        let axis = Axis::of(&cells).unwrap();
        assert_eq!(axis.label, "scanner.interval (s)");
        assert_eq!(axis.place(&cells[0]), Some(0.5));
        cells.push(with(8, json!({ "scanner.interval": "2 s" })));
        assert_eq!(Axis::of(&cells).unwrap().label, "guests");
        // Two groups with as many guests together: the number of all says nothing.
        let two = [(1, 2), (2, 1)].map(|(a, b)| {
            with(
                3,
                json!({ "guests.a.memory": format!("{a} GiB"), "scanner.order": b }),
            )
        });
        assert_eq!(Axis::of(&two).unwrap().label, "a.memory (MiB)");
        let words = ["x", "y"].map(|word| with(1, json!({ "scanner.order": word })));
        assert_eq!(Axis::of(&words), None);
    }

    #[test]
    fn a_set_that_is_swept_over_less_stands_at_a_part_of_the_point() {
        let none = [1, 2].map(|count| cell("none", json!({ "guests.a.count": count })));
        let all = cell(
            "all",
            json!({ "guests.a.count": 2, "scanner.interval": "1 s" }),
        );
        assert_eq!(beside(&none, &all).map(|cell| &cell.id), Some(&none[1].id));
        assert!(beside([&all], &none[1]).is_none(), "it is swept over more");
        let plain = cell("none", json!({}));
        let nearest = beside([&plain, &none[1]], &all);
        assert_eq!(nearest.map(|cell| &cell.id), Some(&none[1].id));
        assert!(beside([&none[0]], &all).is_none());
    }

    #[test]
    fn older_results_were_swept_over_guests() {
        let old = Cell {
            id: "all-10".into(),
            guests: 10,
            ..Cell::default()
        };
        assert_eq!(along(&old, "guests.a.count"), Some(10.0));
        assert_eq!(along(&old, "scanner.interval"), None);
        assert_eq!(along(&cell("all", json!({})), "guests.a.count"), None);
    }

    #[test]
    fn fields_that_change_together_are_one_line() {
        let cells = [(1, "8 MiB"), (2, "16 MiB"), (4, "8 MiB")].map(|(count, size)| {
            cell(
                "all",
                json!({ "guests.a.count": count, "guests.a.memory": size }),
            )
        });
        let along_count = lines(&cells, |cell| along(cell, "guests.a.count"));
        assert_eq!(along_count.len(), 1);
        assert_eq!(along_count[0].name(), "all");
        assert_eq!(along_count[0].cells.len(), 3);
        // Two cells have 8 MiB: along the memory they are not on one line.
        let along_memory = lines(&cells, |cell| along(cell, "guests.a.memory"));
        assert_eq!(along_memory.len(), 3);
    }
}
