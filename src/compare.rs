//! `mirrorball compare`: two results, and what changed beyond noise.

use mirrorball_experiments::exit;
use mirrorball_report::compare::{Side, compare as compared, render};
use mirrorball_report::results::Results;

/// What may differ: two versions of the program are compared for their difference, and more runs only
/// make a result surer.
const MEANT: [&str; 2] = ["provenance.binary_digest", "experiment.repeat.runs"];

/// Options of `mirrorball compare`.
#[derive(clap::Args, Debug)]
pub(crate) struct CompareOptions {
    /// Before: a results folder, or one cell of it (folder:cell)
    before: String,
    /// After: a results folder, or one cell of it (folder:cell)
    after: String,
    /// Exit with 7 if a figure is worse beyond noise
    #[arg(long)]
    fail_on_regression: bool,
    /// Compare although experiment, images, host or binary differ
    #[arg(long)]
    allow_unlike: bool,
}

/// Compares and says what changed; the exit code.
pub(crate) fn compare(options: &CompareOptions, json: bool) -> anyhow::Result<u8> {
    let (before, after) = (Side::parse(&options.before), Side::parse(&options.after));
    let comparison = (|| {
        let (old, new) = (
            Results::load(&before.folder)?,
            Results::load(&after.folder)?,
        );
        compared(
            (&old, before.cell.as_deref()),
            (&new, after.cell.as_deref()),
        )
    })();
    let comparison = match comparison {
        Ok(comparison) => comparison,
        Err(error) => {
            eprintln!("mirrorball: {error}");
            return Ok(exit::DAMAGED);
        }
    };
    if json {
        crate::print(&format!("{}\n", serde_json::to_string_pretty(&comparison)?))?;
    } else {
        crate::print(&render(&comparison))?;
    }
    let conditions = comparison.conditions.iter();
    let unlike = conditions.filter(|condition| !MEANT.contains(&condition.what.as_str()));
    let unlike = unlike.count();
    if unlike > 0 && !options.allow_unlike {
        eprintln!(
            "mirrorball: {unlike} conditions differ between the two sessions: a change may come \
             from them; --allow-unlike if that is meant"
        );
        return Ok(exit::DAMAGED);
    }
    let regressions = comparison.regressions();
    if options.fail_on_regression && !regressions.is_empty() {
        for (cell, metric) in regressions {
            eprintln!("mirrorball: {cell}: {metric} is worse");
        }
        return Ok(exit::REGRESSION);
    }
    Ok(exit::OK)
}
