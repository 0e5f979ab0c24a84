//! Guests that want more than there is. They need `/dev/kvm`; a host without it says so and counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use common::{guests_can_run, load, run, write_sources};
use mirrorball_experiments::exit;
use mirrorball_pmap::TrackingSupport;

const TORTURE: &str = "\
version: 1
name: pressure
machine: { memory: 24 MiB }
policy: { period: 50 ms, sampling: { pages: 50, period: 100 ms } }
images:
  sources: { directory: SOURCES }
guests:
  - id: victim
    count: 3
    vcpus: 2
    memory: 24 MiB
    disks: [{ image: sources, scratch: 4 MiB }]
    workload: { name: torture, pages: 20000, region: 12 MiB, blocks: 64, equal: 30 % }
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
