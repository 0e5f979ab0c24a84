//! The same file and seed give the same result: guests with one vCPU share the same pages, to the
//! last one. Of a block that was copied first, whether the disk or the scanner comes to share it depends
//! on which comes first. A host without `/dev/kvm` says so and counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::path::Path;

use common::{guests_can_run, load, run, write_sources};
use mirrorball_experiments::exit;
use mirrorball_experiments::output::summary::{Cell, Figures};

fn cells(guests: &str, sources: &Path, output: &Path) -> Vec<Cell> {
    let text = format!(
        "version: 1\nname: same\nseed: 11\nmachine: {{ memory: 1 GiB }}\n\
         images: {{ base: {{ directory: {} }} }}\nguests:\n{guests}\
         matrix: [none, disk, zero, content, all]\nscanner: {{ interval: 10 ms }}\n",
        sources.display()
    );
    let finished = run(&load(text, &[]), output);
    assert_eq!(
        finished.exit_code,
        exit::OK,
        "{:?}",
        finished.summary.causes
    );
    finished.summary.cells
}

/// Two runs of an experiment with these guests, cell by cell.
fn twice(guests: &str) -> Vec<(Cell, Cell)> {
    let sources = tempfile::tempdir().unwrap();
    write_sources(sources.path(), 20);
    let output = tempfile::tempdir().unwrap();
    let first = cells(guests, sources.path(), output.path());
    let second = cells(guests, sources.path(), output.path());
    first.into_iter().zip(second).collect()
}

#[test]
fn without_a_disk_the_same_pages_are_shared_to_the_last() {
    if !guests_can_run("without_a_disk_the_same_pages_are_shared_to_the_last") {
        return;
    }
    let guests =
        "  - { id: sort, count: 3, memory: 16 MiB, workload: { name: splash, keys: 100000 } }\n";
    for (one, other) in twice(guests) {
        let (mut a, mut b) = (one.figures, other.figures);
        assert!(a.memory.touched.is_some_and(|touched| touched > 0));
        // Books of the scanner grow with the passes that happened to be made.
        (a.memory.overhead, b.memory.overhead) = (None, None);
        assert_eq!(a.memory, b.memory, "{}", one.id);
        assert_eq!(a.by_mechanism, b.by_mechanism, "{}", one.id);
        assert_eq!(a.workload.operations, b.workload.operations, "{}", one.id);
        assert_eq!(a.integrity, b.integrity, "{}", one.id);
    }
}

#[test]
fn with_disks_the_same_pages_are_shared_to_the_last() {
    if !guests_can_run("with_disks_the_same_pages_are_shared_to_the_last") {
        return;
    }
    let guests = "  - { id: build, count: 2, memory: 32 MiB, disks: [{ image: base, scratch: 8 MiB }], workload: { name: pmake, jobs: 1 } }\n  \
                  - { id: read, count: 2, memory: 32 MiB, disks: [{ image: base }], workload: { name: scan, passes: 1 } }\n";
    for (one, other) in twice(guests) {
        let (mut a, mut b) = (one.figures, other.figures);
        (a.memory.overhead, b.memory.overhead) = (None, None);
        if one.id == "all" {
            let by = |figures: &Figures| {
                let by = &figures.by_mechanism;
                (by.disk.unwrap() + by.content.unwrap(), by.zero)
            };
            assert_eq!(by(&a), by(&b), "{}", one.id);
            (a.by_mechanism, b.by_mechanism) = Default::default();
        }
        assert_eq!(a.memory, b.memory, "{}", one.id);
        assert_eq!(a.by_mechanism, b.by_mechanism, "{}", one.id);
        assert_eq!(a.workload.operations, b.workload.operations, "{}", one.id);
        assert_eq!(a.integrity, b.integrity, "{}", one.id);
    }
}
