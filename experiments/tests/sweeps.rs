//! Sweeps and repeats with real guests. They need `/dev/kvm`; a host without it says so and counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::path::Path;

use common::{guests_can_run, run};
use mirrorball_experiments::exit;
use mirrorball_experiments::run::{Style, Unfinished, resume};
use mirrorball_experiments::spec::Loaded;
use serde_json::Value;

fn load(rest: &str, settings: &[String]) -> Loaded {
    let text = format!(
        "version: 1\nname: test\nseed: 3\nmachine: {{ memory: 1 GiB }}\nguests:\n  \
         - {{ id: a, count: 1, memory: 16 MiB, workload: {{ name: touch, working-set: 4 MiB, zero: 5 %, period: 20 ms, duration: 40 ms }} }}\n\
         scanner: {{ interval: 5 ms }}\n{rest}"
    );
    common::load(text, settings)
}

fn record(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("run.json")).unwrap()).unwrap()
}

#[test]
fn what_is_swept_is_what_runs() {
    if !guests_can_run("what_is_swept_is_what_runs") {
        return;
    }
    let output = tempfile::tempdir().unwrap();
    let rest = "matrix: [none, zero]\nsweep: { matrix: { guests.a.workload.zero: [10 %, 90 %], guests.a.count: [1, 2] }, sets: [zero] }\n";
    let loaded = load(rest, &["guests.a.memory=32 MiB".to_owned()]);
    let finished = run(&loaded, output.path());
    assert_eq!(
        finished.exit_code,
        exit::OK,
        "{:?}",
        finished.summary.causes
    );
    let cells = &finished.summary.cells;
    let ids = cells.iter().map(|cell| cell.id.as_str());
    let expected = [
        "none",
        "zero-10pct-1",
        "zero-10pct-2",
        "zero-90pct-1",
        "zero-90pct-2",
    ];
    assert_eq!(ids.collect::<Vec<_>>(), expected);
    let zero = |cell: usize| cells[cell].figures.memory.zero.unwrap();
    assert!(zero(3) > 4 * zero(1), "{} {}", zero(3), zero(1));
    assert_eq!((cells[3].guests, cells[4].guests), (1, 2));
    assert_eq!(cells[4].figures.memory.guest_physical, Some(64 << 20));
    assert_eq!(cells[3].point["guests.a.workload.zero"], "90 %");
    let run = record(&finished.folder);
    assert_eq!(run["invocation"]["set"][0], "guests.a.memory=32 MiB");
}

#[test]
fn warming_up_is_kept_and_counts_for_nothing() {
    if !guests_can_run("warming_up_is_kept_and_counts_for_nothing") {
        return;
    }
    let output = tempfile::tempdir().unwrap();
    let rest = "matrix: [zero]\nrepeat: { warmup: 1, runs: 2 }\n";
    let loaded = load(rest, &[]);
    let finished = run(&loaded, output.path());
    assert_eq!(
        finished.exit_code,
        exit::OK,
        "{:?}",
        finished.summary.causes
    );
    assert_eq!(finished.summary.cells[0].runs, 2);
    let run = record(&finished.folder);
    let runs = run["runs"].as_array().unwrap();
    let marks = runs
        .iter()
        .map(|run| (run["warmup"] == true, run["complete"] == true));
    assert_eq!(
        marks.collect::<Vec<_>>(),
        [(true, false), (false, true), (false, true)]
    );
    assert!(
        runs[0]["figures"]["memory"]["touched"].is_number(),
        "it is kept"
    );
    // Each repeat has its own seed, and the first that of the file.
    let seeds = runs.iter().map(|run| run["seed"].as_u64().unwrap());
    let seeds = seeds.collect::<Vec<_>>();
    assert!(
        seeds[0] == 3 && seeds[1] != 3 && seeds[1] != seeds[2],
        "{seeds:?}"
    );
    assert!(finished.folder.join("histograms/zero-run1.hlog").exists());

    // Resuming finds nothing to do: the run for warming up is done, and not failed.
    let unfinished = Unfinished::open(&finished.folder, true).unwrap();
    let options = unfinished.options(Style::None);
    let again = resume(&loaded, &options, unfinished).unwrap();
    assert_eq!(again.summary.cells[0].runs, 2);
    assert_eq!(record(&again.folder)["runs"], run["runs"]);
}

#[test]
fn repeats_end_when_the_figure_is_known() {
    if !guests_can_run("repeats_end_when_the_figure_is_known") {
        return;
    }
    let output = tempfile::tempdir().unwrap();
    // Guest-physical memory is the same in each run: three are enough. Time is never known to 0 %.
    let rest = |metric: &str| {
        format!(
            "matrix: [none]\nrepeat: {{ runs: {{ min: 3, max: 4, until: {{ metric: {metric}, relative-half-width: 0 % }} }} }}\n"
        )
    };
    for (metric, runs, because) in [
        ("memory.guest_physical", 3, "precise"),
        ("start.seconds", 4, "max-runs"),
    ] {
        let finished = run(&load(&rest(metric), &[]), output.path());
        let cell = &finished.summary.cells[0];
        assert_eq!(cell.runs, runs, "{metric}");
        assert_eq!(cell.stopped.as_ref().unwrap().because, because);
    }
}
