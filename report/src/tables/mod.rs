//! Tables for papers and scripts, in the forms that these read.
//!
//! CSV holds base units and all digits, one row for each figure; Markdown and LaTeX hold what the
//! report shows, cells side by side.

#[cfg(feature = "parquet")]
mod parquet;
mod plain;
mod shown;

#[cfg(feature = "parquet")]
pub use parquet::{ParquetError, parquet};
pub use plain::{cells_csv, runs_csv};
pub use shown::{cells_latex, cells_markdown};

use crate::results::Results;

/// Every table with the name of its file.
#[must_use]
pub fn all(results: &Results) -> Vec<(&'static str, String)> {
    vec![
        ("runs.csv", runs_csv(results)),
        ("cells.csv", cells_csv(results)),
        ("cells.md", cells_markdown(results)),
        ("cells.tex", cells_latex(results)),
    ]
}
