//! `mirrorball logs`: why runs failed, and where their consoles, events and outputs are; needs no KVM.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use mirrorball_experiments::exit;
use mirrorball_report::results::{Results, Run};
use serde::Serialize;

/// Folders of a result that hold files of one run each.
const FOLDERS: [&str; 5] = ["consoles", "commands", "events", "histograms", "disks"];
/// Lines of a console that are shown.
const LINES: usize = 15;

/// Options of `mirrorball logs`.
#[derive(clap::Args, Debug)]
pub(crate) struct LogsOptions {
    /// The results folder
    folder: PathBuf,
    /// One run, such as all:2, or all runs of a cell, such as all [default: those that failed]
    run: Option<String>,
}

/// What there is of a run.
#[derive(Debug, Serialize)]
struct Found<'a> {
    cell: &'a str,
    run: u32,
    started: &'a str,
    seconds: f64,
    /// Class and cause.
    failures: Vec<(&'a str, &'a str)>,
    warnings: Vec<String>,
    files: Vec<PathBuf>,
}

/// Shows what there is of the runs; the exit code.
pub(crate) fn logs(options: &LogsOptions, json: bool) -> anyhow::Result<u8> {
    let results = match Results::load(&options.folder) {
        Ok(results) => results,
        Err(error) => {
            eprintln!("mirrorball: {error}");
            return Ok(exit::DAMAGED);
        }
    };
    let runs = chosen(&results.run.runs, options.run.as_deref());
    if runs.is_empty() && options.run.is_some() {
        let known = results.run.runs.iter();
        let known: Vec<String> = known
            .map(|run| format!("{}:{}", run.cell, run.run))
            .collect();
        eprintln!(
            "mirrorball: there is no such run; there are {}",
            known.join(", ")
        );
        return Ok(exit::USAGE);
    }
    let found: Vec<Found<'_>> = runs
        .into_iter()
        .map(|run| found(&options.folder, run))
        .collect();
    if json {
        return crate::print_json(&serde_json::json!({ "schema_version": 1, "runs": found }));
    }
    if found.is_empty() {
        let all = results.run.runs.len();
        crate::print(&format!(
            "none of {all} runs failed; name one, such as CELL:RUN\n"
        ))?;
    }
    for found in &found {
        crate::print(&text(found))?;
    }
    if let Some(ended_by) = &results.run.ended_by {
        crate::print(&format!("the experiment was ended by: {ended_by}\n"))?;
    }
    Ok(exit::OK)
}

/// The runs that were asked for, failed ones first; without a wish those that failed.
fn chosen<'a>(runs: &'a [Run], wanted: Option<&str>) -> Vec<&'a Run> {
    let is_wanted = |run: &&Run| match wanted {
        None => !run.failures.is_empty(),
        Some(wanted) => match wanted.rsplit_once(':') {
            Some((cell, number)) => run.cell == cell && run.run.to_string() == number,
            None => run.cell == wanted,
        },
    };
    let mut chosen: Vec<&Run> = runs.iter().filter(is_wanted).collect();
    chosen.sort_by_key(|run| run.failures.is_empty());
    chosen
}

fn found<'a>(folder: &Path, run: &'a Run) -> Found<'a> {
    let failures = run.failures.iter();
    Found {
        cell: &run.cell,
        run: run.run,
        started: &run.started,
        seconds: run.seconds,
        failures: failures
            .map(|failure| (failure.class.as_str(), failure.cause.as_str()))
            .collect(),
        warnings: run.warnings.clone(),
        files: files(folder, run),
    }
}

/// The files of a run, by name.
fn files(folder: &Path, run: &Run) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for name in FOLDERS {
        let Ok(entries) = std::fs::read_dir(folder.join(name)) else {
            continue;
        };
        let of_run = |path: &PathBuf| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let names = [
                format!("{}-run{}", run.cell, run.run),
                format!("{}-{}", run.cell, run.run),
            ];
            names.iter().any(|name| {
                let rest = file.strip_prefix(name.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
            })
        };
        files.extend(entries.flatten().map(|entry| entry.path()).filter(of_run));
    }
    files.sort();
    files
}

fn text(found: &Found<'_>) -> String {
    let state = if found.failures.is_empty() {
        "ok"
    } else {
        "FAILED"
    };
    let mut text = format!(
        "{} run {}: {state}, {:.1} s, began {}\n",
        found.cell, found.run, found.seconds, found.started
    );
    for (class, cause) in &found.failures {
        let _ = writeln!(text, "  {class}: {cause}");
    }
    for warning in &found.warnings {
        let _ = writeln!(text, "  warning: {warning}");
    }
    for file in &found.files {
        let _ = writeln!(text, "  {}", file.display());
        if !found.failures.is_empty() && file.parent().is_some_and(|p| p.ends_with("consoles")) {
            text.push_str(&tail(file));
        }
    }
    text
}

/// The last lines of a console.
fn tail(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap_or_default();
    let whole = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = whole.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    let shown = last.iter().map(|line| {
        // Control characters of a guest would do things to the terminal.
        let plain: String = line.chars().filter(|c| !c.is_control()).collect();
        format!("    | {plain}\n")
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirrorball_report::summary::Failure;

    fn run(cell: &str, number: u32, failed: bool) -> Run {
        let failure = Failure {
            run: number,
            class: "guest".into(),
            cause: "a-1: it died".into(),
        };
        Run {
            cell: cell.into(),
            run: number,
            failures: failed.then_some(failure).into_iter().collect(),
            ..Run::default()
        }
    }

    #[test]
    fn failed_runs_come_first_and_are_all_that_is_shown_unasked() {
        let runs = [
            run("all", 1, false),
            run("all", 2, true),
            run("all-2", 1, false),
        ];
        let names = |wanted| {
            let chosen = chosen(&runs, wanted);
            let names = chosen.iter().map(|run| format!("{}:{}", run.cell, run.run));
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["all:2"]);
        assert_eq!(names(Some("all")), ["all:2", "all:1"]);
        assert_eq!(names(Some("all-2:1")), ["all-2:1"]);
        assert!(names(Some("all:9")).is_empty());
    }

    #[test]
    fn the_console_of_a_run_that_died_is_shown_and_that_of_another_is_not() {
        let place = tempfile::tempdir().unwrap();
        let consoles = place.path().join("consoles");
        std::fs::create_dir(&consoles).unwrap();
        std::fs::write(consoles.join("all-run1-a-1.log"), "boot\n\x1b[2Jpanic\n").unwrap();
        std::fs::write(consoles.join("all-run12-a-1.log"), "other\n").unwrap();
        std::fs::write(consoles.join("all-2-run1-a-1.log"), "other\n").unwrap();
        let dead = run("all", 1, true);
        let shown = text(&found(place.path(), &dead));
        assert!(shown.contains("all run 1: FAILED") && shown.contains("guest: a-1: it died"));
        assert!(shown.contains("    | [2Jpanic\n"), "{shown}");
        assert!(!shown.contains("other"), "{shown}");
    }
}
