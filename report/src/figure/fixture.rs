//! Results for tests.

use crate::results::{Histograms, Results, RunFile};
use crate::summary::{Cell, Summary, Verdict};

/// Results of these cells, with nothing else in them.
pub(super) fn results(cells: Vec<Cell>) -> Results {
    Results {
        path: "x".into(),
        summary: Summary {
            schema_version: 1,
            name: "x".into(),
            verdict: Verdict::Met,
            interrupted: false,
            emulated: false,
            smoke: false,
            causes: Vec::new(),
            cells,
        },
        run: RunFile::default(),
        samples: Vec::new(),
        guests: Vec::new(),
        histograms: Histograms::default(),
    }
}

/// A cell of that name, without figures.
pub(super) fn cell(id: &str) -> Cell {
    Cell {
        id: id.into(),
        ..Cell::default()
    }
}
