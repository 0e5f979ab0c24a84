//! What reports need of `run.json`. Fields that are not named here are left alone, fields that are
//! missing are empty: the file grows with the runner, and old results stay readable.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::figure::{Published, PublishedFigure};
use crate::summary::Failure;

/// `run.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RunFile {
    /// What was run.
    pub experiment: Experiment,
    /// With what, on what.
    pub provenance: Value,
    /// Disk images by id.
    pub images: BTreeMap<String, Value>,
    /// When it began.
    pub started: String,
    /// What ended it early.
    pub ended_by: Option<String>,
    /// The runs, in the order in which they were made.
    pub runs: Vec<Run>,
    /// All of the file but the runs, as it is.
    #[serde(skip)]
    pub conditions: Value,
}

impl RunFile {
    /// Reads the file's text.
    ///
    /// # Errors
    /// It is no such file.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut run: Self = serde_json::from_slice(bytes)?;
        run.conditions = serde_json::from_slice(bytes)?;
        if let Some(file) = run.conditions.as_object_mut() {
            file.remove("runs");
        }
        Ok(run)
    }
}

/// The experiment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub title: Option<String>,
    /// The question that it answers.
    pub question: Option<String>,
    /// All randomness comes from it.
    pub seed: u64,
    /// How the number of guests changes.
    pub sweep: Option<Sweep>,
    /// Curves of papers.
    pub curves: Vec<PublishedFigure>,
    /// What the results should be.
    pub expect: Vec<Expectation>,
}

/// How the number of guests changes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sweep {
    /// Values that a paper published for such numbers.
    pub published: Option<Published>,
}

/// What a figure should be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Expectation {
    /// Its id.
    pub id: String,
    /// One sentence.
    pub claim: Option<String>,
    /// The figure.
    pub metric: String,
    /// The cell, if it is about one.
    pub cell: Option<String>,
    /// The other cell, if the claim is about a ratio.
    pub ratio_to: Option<String>,
    /// `median`, `mean`, `least` or `most`; empty before there was a choice: the median.
    pub statistic: String,
    /// `fail`, `warn` or `info`; empty before there was a choice: `fail`.
    pub severity: String,
    /// `{"at-least": x}`, `{"at-most": x}`, `{"equals": x}`, `{"between": {"low": x, "high": y}}`,
    /// `{"within": {"part": x, "of": y}}`, `{"around": {"by": x, "of": y}}`.
    pub bound: Value,
    /// The published value.
    pub published: Option<f64>,
    /// Where it was published.
    pub source: Option<String>,
}

/// One run of a cell.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Its cell.
    pub cell: String,
    /// Number of the run in its cell, from 1.
    pub run: u32,
    /// When it began.
    pub started: String,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Whether it was made to warm the host up; its figures do not count.
    pub warmup: bool,
    /// Whether its figures count.
    pub complete: bool,
    /// Its figures, as a tree: see [`crate::metrics::value_in`].
    pub figures: Value,
    /// Why it failed.
    pub failures: Vec<Failure>,
    /// What was noticed.
    pub warnings: Vec<String>,
}
