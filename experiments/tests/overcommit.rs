//! Guests that want more than there is. They need `/dev/kvm`; a host without it says so and counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::sync::{Mutex, PoisonError};

use common::{guests_can_run, load, run, write_sources};
use mirrorball_experiments::exit;
use mirrorball_pmap::TrackingSupport;

const TORTURE: &str = "\
version: 1
name: pressure
machine: { memory: 16 MiB }
policy: { period: 50 ms, sampling: { pages: 50, period: 100 ms } }
images:
  sources: { directory: SOURCES }
guests:
  - id: victim
    count: 3
    vcpus: 2
    memory: 24 MiB
    disks: [{ image: sources, scratch: 4 MiB }]
    workload: { name: torture, pages: 20000, region: 12 MiB, blocks: 64, equal: 10 % }
matrix: [all]
scanner: { burden: 0 %, nice: 0, interval: 5 ms, settle: 0 }
phases:
  - { id: workload, timeout: 2 min }
  - { id: settle, until: { scans: 1 }, timeout: 30 s }
";

#[test]
fn no_byte_is_lost_while_pages_are_swapped_ballooned_shared_and_broken() {
    let name = "no_byte_is_lost_while_pages_are_swapped_ballooned_shared_and_broken";
    if !guests_can_run(name) {
        return;
    }
    if TrackingSupport::probe().userfaultfd.is_err() {
        return eprintln!("NOT RUN: {name} needs userfaultfd");
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let output = tempfile::tempdir().unwrap();
    let sources = output.path().join("sources");
    std::fs::create_dir(&sources).unwrap();
    write_sources(&sources, 40);
    let text = TORTURE.replace("SOURCES", sources.to_str().unwrap());
    let finished = run(&load(text, &[]), output.path());
    let causes = &finished.summary.causes;
    assert_eq!(finished.exit_code, exit::OK, "{causes:?}");
    let figures = &finished.summary.cells[0].figures;
    assert_eq!(figures.integrity.mismatches, Some(0));
    assert!(figures.integrity.verified_pages.unwrap() >= 60_000);
    let policy = &figures.policy;
    assert!(policy.swapped_out_pages.unwrap() > 0, "{policy:?}");
    let group = &figures.groups["victim"];
    assert!(group.target.unwrap() < 24 << 20, "{group:?}");
    assert!(figures.accounting.gap.unwrap() < 0.01);
}

const GREEDY: &str = "\
version: 1
name: greedy
machine: { memory: 24 MiB }
policy: { period: 50 ms, sampling: { pages: 50, period: 100 ms }, swap: SWAP }
guests:
  - id: greedy
    count: 3
    memory: 24 MiB
    workload: { name: touch, working-set: 14 MiB, period: 1 ms, moved: 1 %, written: 50 % }
matrix: [none]
phases:
  - { id: workload, for: 4 s, measure-after: 2 s, timeout: 60 s }
  - { id: settle, until: { scans: 0 }, timeout: 10 s }
";

/// One run at a time: what the process takes is taken for the run's.
static ALONE: Mutex<()> = Mutex::new(());

/// What three guests did that want twice as much as there is, and share nothing.
fn greedy(name: &str, swap: &str) -> Option<(u64, Vec<String>)> {
    if !guests_can_run(name) {
        return None;
    }
    if TrackingSupport::probe().userfaultfd.is_err() {
        eprintln!("NOT RUN: {name} needs userfaultfd");
        return None;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let output = tempfile::tempdir().unwrap();
    let finished = run(&load(GREEDY.replace("SWAP", swap), &[]), output.path());
    let causes = &finished.summary.causes;
    assert_eq!(finished.exit_code, exit::OK, "{causes:?}");
    let cell = &finished.summary.cells[0];
    assert_eq!(cell.figures.integrity.mismatches, Some(0));
    let policy = &cell.figures.policy;
    assert_eq!(policy.share_passes, Some(0), "nobody scans");
    Some((policy.swapped_out_pages.unwrap_or(0), cell.warnings.clone()))
}

#[test]
fn guests_that_share_nothing_are_swapped_and_go_on() {
    let Some((swapped, warnings)) = greedy("guests_that_share_nothing", "on") else {
        return;
    };
    assert!(swapped > 1000, "{swapped}");
    assert!(!warnings.iter().any(|text| text.contains("were held")));
}

#[test]
fn without_swap_guests_stand_still_at_the_end_of_memory_and_the_run_says_so() {
    let Some((swapped, warnings)) = greedy("without_swap_guests_stand_still", "off") else {
        return;
    };
    assert_eq!(swapped, 0);
    let told = |text: &String| text.contains("held at the end") && text.contains("no swap");
    assert!(warnings.iter().any(told), "{warnings:?}");
}
