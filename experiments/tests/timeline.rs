//! What a timeline does, with real guests. They need `/dev/kvm`; a host without it says so and counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use common::{guests_can_run, load, run};
use mirrorball_experiments::exit;
use serde_json::Value;

const CHANGED: &str = "\
version: 1
name: test
machine: { memory: 1 GiB }
guests:
  - { id: a, count: 2, memory: 16 MiB, workload: { name: touch, working-set: 4 MiB, period: 20 ms } }
matrix: [none]
phases: [{ id: workload, for: 1500 ms }]
";

const FILE: &str = "\
version: 1
name: test
machine: { memory: 1 GiB }
guests:
  - { id: a, count: 2, memory: 16 MiB, workload: { name: touch, working-set: 4 MiB, period: 20 ms } }
  - { id: b, count: 1, memory: 16 MiB, workload: { name: touch, working-set: 4 MiB, duration: 300 ms } }
matrix: [zero]
scanner: { interval: 10 ms }
phases: [{ id: settle, until: { stable: { for: 100 ms, within: 64 KiB } } }]
timeline:
  - { at: 50 ms, mark: begun }
  - { at: 100 ms, run-workload: { guests: a, workload: { name: splash, keys: 50000 } } }
  - { at: 120 ms, disable: zero }
";

#[test]
fn guests_change_their_workload_and_everything_is_written_down() {
    if !guests_can_run("guests_change_their_workload_and_everything_is_written_down") {
        return;
    }
    let output = tempfile::tempdir().unwrap();
    // The first workload of `a` would never end: it was asked to, and the other one did.
    let finished = run(&load(FILE.to_owned(), &[]), output.path());
    assert_eq!(
        finished.exit_code,
        exit::OK,
        "{:?}",
        finished.summary.causes
    );
    let run = std::fs::read(finished.folder.join("run.json")).unwrap();
    let run: Value = serde_json::from_slice(&run).unwrap();
    let sums = &run["runs"][0]["checksums"];
    assert!(
        sums["a"].is_string(),
        "the sort's result, equal in both guests: {sums}"
    );

    let path = finished.folder.join("events/zero-run1.ndjson");
    let text = std::fs::read_to_string(path).unwrap();
    let events = text.lines().map(serde_json::from_str::<Value>);
    let events = events.collect::<Result<Vec<_>, _>>().unwrap();
    let phases = events.iter().filter(|event| event["event"] == "phase");
    let phases = phases.map(|event| event["name"].as_str().unwrap());
    let phases = phases.collect::<Vec<_>>();
    assert_eq!(phases, ["workload", "settle", "measure", "stop"]);
    let happened = events.iter().filter(|event| event["event"] == "timeline");
    let happened = happened.map(|event| event["what"].as_object().unwrap().keys().next().unwrap());
    let happened = happened.collect::<Vec<_>>();
    assert_eq!(happened, ["mark", "run-workload", "switch"]);
    let times = events
        .iter()
        .filter_map(|event| event["time_seconds"].as_f64());
    assert!(times.collect::<Vec<_>>().is_sorted());
}

#[test]
fn memory_targets_change_while_guests_work() {
    if !guests_can_run("memory_targets_change_while_guests_work") {
        return;
    }
    let output = tempfile::tempdir().unwrap();
    let run = |rest: &str| {
        let finished = run(&load(format!("{CHANGED}{rest}"), &[]), output.path());
        let causes = &finished.summary.causes;
        assert_eq!(finished.exit_code, exit::OK, "{causes:?}");
        finished.summary.cells.into_iter().next().unwrap().figures
    };
    // Two guests give 4 MiB each.
    let balloon = "timeline: [{ at: 50 ms, set-balloon: { guests: a, target: 4 MiB } }]\n";
    let figures = run(balloon);
    assert_eq!(figures.memory.ballooned, Some(8 << 20));
    assert_eq!(figures.integrity.mismatches, Some(0));

    // Equal guests in less than they are promised: who gets ten times the shares gets more.
    let claim = "policy: { swap: off, balloon: off, period: 50 ms }\n\
                 timeline: [{ at: 200 ms, set-claim: { guests: b, shares: 160 } }]\n";
    let like = "  - { id: b, count: 2, memory: 16 MiB, workload: { name: touch, working-set: 4 MiB, period: 20 ms } }\n";
    let file = CHANGED.replace("1 GiB", "40 MiB");
    let file = file.replace("matrix", &format!("{like}matrix"));
    let finished = common::run(&load(format!("{file}{claim}"), &[]), output.path());
    let groups = &finished.summary.cells[0].figures.groups;
    let target = |id: &str| groups[id].target.unwrap();
    assert!(target("b") > target("a"), "{groups:?}");
}
