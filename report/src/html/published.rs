//! Published values, each with ours.

use crate::figure::{Residual, residuals};
use crate::metrics::number;
use crate::results::Results;

/// Published values at one number of guests, each with ours.
#[derive(Debug)]
pub(super) struct ResidualRow {
    pub(super) guests: u64,
    pub(super) values: Vec<Residue>,
}

#[derive(Debug)]
pub(super) struct Residue {
    pub(super) what: &'static str,
    pub(super) here: String,
    pub(super) published: String,
    pub(super) difference: String,
}

pub(super) fn residual_rows(results: &Results) -> Vec<ResidualRow> {
    let mut rows: Vec<ResidualRow> = Vec::new();
    for point in residuals(results) {
        let value = residue(&point);
        match rows.iter_mut().find(|row| row.guests == point.guests) {
            Some(row) => row.values.push(value),
            None => rows.push(ResidualRow {
                guests: point.guests,
                values: vec![value],
            }),
        }
    }
    rows
}

fn residue(point: &Residual) -> Residue {
    Residue {
        what: point.what,
        here: point.here.map_or_else(|| "not run".to_owned(), number),
        published: number(point.published),
        difference: point.here.map_or_else(String::new, |here| {
            let difference = here - point.published;
            let sign = if difference > 0.0 { "+" } else { "" };
            format!("{sign}{}", number(difference))
        }),
    }
}
