//! `mirrorball verify`: checks a package, and runs it again if asked to.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mirrorball_experiments::exit;
use mirrorball_experiments::run::{Options, run};
use mirrorball_report::compare::{Comparison, compare, render};
use mirrorball_report::package::{Check, check, read};
use mirrorball_report::results::Results;
use mirrorball_report::stats::Finding;

/// What a run on another day or host may rightly give otherwise: times. Sizes and counts may not.
const TIMES: [&str; 4] = ["cpu_seconds.", "seconds", "sharing.hold_", "derived.scan_"];

/// Options of `mirrorball verify`.
#[derive(clap::Args, Debug)]
pub(crate) struct VerifyOptions {
    /// The package, as `mirrorball package` made it
    package: PathBuf,
    /// Run the experiment again (needs KVM) and compare the results
    #[arg(long)]
    rerun: bool,
    /// Runs of each cell when it is run again, instead of the experiment's
    #[arg(long, requires = "rerun", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
}

/// Checks the package and says what was found; the exit code.
pub(crate) fn verify(options: &VerifyOptions, json: bool) -> anyhow::Result<u8> {
    let place = tempfile::tempdir().context("no place to unpack the package")?;
    let checks = read(&options.package).and_then(|entries| check(&entries, place.path()));
    let checks = match checks {
        Ok(checks) => checks,
        Err(error) => {
            eprintln!("mirrorball: {error}");
            return Ok(exit::DAMAGED);
        }
    };
    let sound = checks.iter().all(|check| check.problems.is_empty());
    let again = match options.rerun && sound {
        true => Some(rerun(place.path(), options.runs)?),
        false => None,
    };
    let again = match again {
        Some(Err(code)) => return Ok(code),
        Some(Ok(comparison)) => Some(comparison),
        None => None,
    };
    if json {
        let found = serde_json::json!({ "sound": sound, "checks": checks, "rerun": again });
        crate::print(&format!("{found:#}\n"))?;
    } else {
        crate::print(&told(&checks))?;
        if let Some(comparison) = &again {
            crate::print(&format!("\nrun again:\n{}", render(comparison)))?;
        }
    }
    let differ = again.as_ref().map_or_else(Vec::new, differing);
    for what in &differ {
        eprintln!("mirrorball: the run differs from the package: {what}");
    }
    Ok(match (sound, differ.is_empty()) {
        (false, _) => exit::DAMAGED,
        (true, false) => exit::REGRESSION,
        (true, true) => exit::OK,
    })
}

/// The checks, a line each, and their problems.
fn told(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let state = match (&check.skipped, check.problems.as_slice()) {
            (Some(reason), _) => format!("not checked: {reason}"),
            (None, []) => "sound".to_owned(),
            (None, problems) => format!("{} wrong", problems.len()),
        };
        text.push_str(&format!("{}: {state}\n", check.what));
        for problem in &check.problems {
            text.push_str(&format!("  {problem}\n"));
        }
    }
    text
}

/// Runs the package's experiment again and compares; the exit code of a run that was not possible.
fn rerun(package: &Path, runs: Option<u32>) -> anyhow::Result<Result<Comparison, u8>> {
    let output = tempfile::tempdir().context("no place for the results")?;
    let packaged = Results::load(package)?;
    let settings = invoked(&packaged, "set");
    let file = package.join("experiment.yaml");
    let loaded = match crate::load(&file, &settings, Some(output.path())) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(Err(code)),
    };
    let options = Options {
        output: Some(output.path().to_owned()),
        runs,
        only: invoked(&packaged, "only"),
        ..Options::default()
    };
    if let Err(error) = run(&loaded, &options) {
        eprintln!("mirrorball: {error}");
        return Ok(Err(error.exit_code()));
    }
    let made = std::fs::read_dir(output.path())?.flatten().next();
    let made = made.context("the run left no results")?.path();
    let made = Results::load(&made)?;
    Ok(Ok(compare((&packaged, None), (&made, None))?))
}

/// What the command line of the run said: `set`, the fields of the file that it changed, or `only`,
/// the cells that were run.
fn invoked(results: &Results, what: &str) -> Vec<String> {
    let texts = results.run.conditions["invocation"][what].as_array();
    let texts = texts.into_iter().flatten();
    texts
        .filter_map(|text| Some(text.as_str()?.to_owned()))
        .collect()
}

/// Sizes and counts that changed beyond noise.
fn differing(comparison: &Comparison) -> Vec<String> {
    let cells = comparison.cells.iter();
    cells
        .flat_map(|cell| {
            let figures = cell.figures.iter().filter(|figure| {
                let time = TIMES.iter().any(|time| figure.metric.contains(time));
                figure.change.finding == Finding::Changed && !time
            });
            figures.map(|figure| format!("{}: {}", cell.after, figure.metric))
        })
        .collect()
}
