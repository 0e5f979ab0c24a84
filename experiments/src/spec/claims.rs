//! What results should be: part of the typed experiment. They are judged in `mirrorball-report`.

use serde::Serialize;

/// What a result should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Expectation {
    /// Id.
    pub id: String,
    /// The claim in one sentence.
    pub claim: Option<String>,
    /// Path of the metric inside a cell of `summary.json`.
    pub metric: String,
    /// The cell; all cells if not given.
    pub cell: Option<String>,
    /// Judged is the ratio to this other cell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_to: Option<String>,
    /// Which figure of several runs.
    pub statistic: Statistic,
    /// What it means if it is not met.
    pub severity: Importance,
    /// What it should be.
    pub bound: Bound,
    /// The published value, if a paper has one.
    pub published: Option<f64>,
    /// Where it was published.
    pub source: Option<String>,
}

/// What a metric should be. Sizes are in bytes, times in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// No less than.
    AtLeast(f64),
    /// No more than.
    AtMost(f64),
    /// Exactly (counts).
    Equals(f64),
    /// In a range, its ends included.
    Between {
        /// The least.
        low: f64,
        /// The most.
        high: f64,
    },
    /// Near to a value.
    Within {
        /// Largest distance, as a fraction of the value.
        part: f64,
        /// The value.
        of: f64,
    },
    /// Near to a value.
    Around {
        /// Largest distance.
        by: f64,
        /// The value.
        of: f64,
    },
    /// More at each higher value of a swept field, by its path.
    IncreasesWith(String),
    /// Less at each higher value of a swept field, by its path.
    DecreasesWith(String),
    /// More in each of these cells than in the one before.
    Order(Vec<String>),
}

impl Bound {
    /// Whether it is about several cells, and not about the value in one.
    #[must_use]
    pub const fn is_shape(&self) -> bool {
        matches!(
            self,
            Self::IncreasesWith(_) | Self::DecreasesWith(_) | Self::Order(_)
        )
    }
}

/// One figure of several runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistic {
    /// The median.
    #[default]
    Median,
    /// The mean.
    Mean,
    /// The least.
    Least,
    /// The most.
    Most,
}

/// What it means if a claim is not met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Importance {
    /// The exit code tells.
    #[default]
    Fail,
    /// It is told.
    Warn,
    /// It is written down.
    Info,
}
