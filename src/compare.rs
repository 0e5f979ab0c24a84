//! `mirrorball compare`: stored results, and what changed beyond noise.

use mirrorball_experiments::exit;
use mirrorball_report::compare::{
    Comparison, Gate, Side, compare as compared, render, render_many, unlike_text,
};
use mirrorball_report::results::{Results, ResultsError};

/// Options of `mirrorball compare`.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct CompareOptions {
    /// Before: a results folder, or one cell of it (folder:cell)
    pub(crate) before: String,
    /// After: the same; each of several is compared with the first
    #[arg(required = true)]
    pub(crate) after: Vec<String>,
    /// Exit with 7 if a figure is worse by more than so many percent, its whole interval beyond
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) fail_on_regression: Option<f64>,
    /// With --fail-on-regression: exit with 8 if that can't be said of a figure
    #[arg(long, requires = "fail_on_regression")]
    pub(crate) strict: bool,
    /// Compare although this condition differs, for example provenance.host.kernel, or all below
    /// it, for example provenance.host
    #[arg(long, value_name = "FIELD")]
    pub(crate) allow: Vec<String>,
}

pub(crate) fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim_end().parse() {
        Ok(percent) if (0.0..=10_000.0).contains(&percent) => Ok(percent),
        _ => Err("expected percent, for example 5".to_owned()),
    }
}

/// Whether there is a result to compare with; asked before anything is run.
pub(crate) fn check(before: &str) -> Result<(), ResultsError> {
    let before = Side::parse(before);
    let stored = Results::load(&before.folder)?;
    match before.cell {
        Some(cell) => stored.cell(&cell).map(|_| ()),
        None => Ok(()),
    }
}

/// Compares and says what changed; the exit code.
pub(crate) fn compare(options: &CompareOptions, json: bool) -> anyhow::Result<u8> {
    let comparisons = match all(options) {
        Ok(comparisons) => comparisons,
        Err(error) => {
            eprintln!("mirrorball: {error}");
            return Ok(exit::DAMAGED);
        }
    };
    let unlike: Vec<_> = comparisons
        .iter()
        .flat_map(|comparison| comparison.unlike(&options.allow))
        .collect();
    if !unlike.is_empty() {
        if json {
            let refused = serde_json::json!({ "schema_version": 2, "unlike": unlike });
            crate::print(&format!("{refused:#}\n"))?;
        }
        eprint!(
            "mirrorball: not compared, since a change may come from what else differs:\n{}\
             --allow FIELD for each that is meant\n",
            unlike_text(unlike)
        );
        return Ok(exit::DAMAGED);
    }
    if json {
        let found = serde_json::json!({ "schema_version": 2, "comparisons": comparisons });
        crate::print(&format!("{found:#}\n"))?;
    } else if let [one] = comparisons.as_slice() {
        crate::print(&render(one))?;
    } else {
        crate::print(&render_many(&comparisons))?;
    }
    Ok(options.fail_on_regression.map_or(exit::OK, |percent| {
        gate(&comparisons, percent, options.strict)
    }))
}

/// The first against each other.
fn all(options: &CompareOptions) -> Result<Vec<Comparison>, ResultsError> {
    let before = Side::parse(&options.before);
    let old = Results::load(&before.folder)?;
    let against = |after: &String| {
        let after = Side::parse(after);
        let new = Results::load(&after.folder)?;
        compared(
            (&old, before.cell.as_deref()),
            (&new, after.cell.as_deref()),
        )
    };
    options.after.iter().map(against).collect()
}

/// The exit code for figures that are worse by more than a threshold; they are named.
fn gate(comparisons: &[Comparison], percent: f64, strict: bool) -> u8 {
    let stopped: Vec<_> = comparisons
        .iter()
        .flat_map(|comparison| comparison.stopped(percent))
        .collect();
    for figure in &stopped {
        let (cell, metric) = (figure.cell, figure.metric);
        match figure.gate {
            Gate::Regression => {
                eprintln!("mirrorball: {cell}: {metric} is worse by more than {percent} %");
            }
            _ if strict => eprintln!(
                "mirrorball: {cell}: it can't be said whether {metric} is worse by more than \
                 {percent} %; more runs would tell"
            ),
            _ => {}
        }
    }
    let any = |gate| stopped.iter().any(|figure| figure.gate == gate);
    if any(Gate::Regression) {
        exit::REGRESSION
    } else if strict && any(Gate::Inconclusive) {
        exit::INCONCLUSIVE
    } else {
        exit::OK
    }
}
