//! The same file and seed give the same result: guests with one vCPU share the same pages, to the
//! last one without a disk. With a disk one page of each guest depends on when requests complete: its
//! queue's ring, which names the descriptors that were free. It
//! equals another guest's, or does not; and of a block that was copied first, whether the disk or
//! the scanner comes to share it depends on which comes first. A host without `/dev/kvm` says so and counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::path::Path;

use common::{guests_can_run, load, run, write_sources};
use mirrorball_experiments::exit;
use mirrorball_experiments::output::summary::Cell;

const PAGE: u64 = 4096;

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
fn with_disks_two_runs_differ_by_a_page_of_each_guest_at_most() {
    if !guests_can_run("with_disks_two_runs_differ_by_a_page_of_each_guest_at_most") {
        return;
    }
    let guests = "  - { id: build, count: 2, memory: 32 MiB, disks: [{ image: base, scratch: 8 MiB }], workload: { name: pmake, jobs: 1 } }\n  \
                  - { id: read, count: 2, memory: 32 MiB, disks: [{ image: base }], workload: { name: scan, passes: 1 } }\n";
    for (one, other) in twice(guests) {
        let (a, b) = (&one.figures, &other.figures);
        assert_eq!(a.memory.touched, b.memory.touched, "{}", one.id);
        assert_eq!(a.by_mechanism.zero, b.by_mechanism.zero, "{}", one.id);
        assert_eq!(a.workload.operations, b.workload.operations, "{}", one.id);
        let (disk, content) = (a.by_mechanism.disk, a.by_mechanism.content);
        let (other_disk, other_content) = (b.by_mechanism.disk, b.by_mechanism.content);
        if one.id != "all" {
            assert_eq!(disk, other_disk, "{}", one.id);
        }
        let near = |a: Option<u64>, b: Option<u64>| a.unwrap().abs_diff(b.unwrap()) <= 4 * PAGE;
        let sum = |a: Option<u64>, b: Option<u64>| Some(a.unwrap() + b.unwrap());
        let (by, other_by) = (sum(disk, content), sum(other_disk, other_content));
        assert!(near(by, other_by), "{by:?} {other_by:?}");
        let (a, b) = (&a.memory, &b.memory);
        for (one, other) in [
            (a.shared, b.shared),
            (a.reclaimed, b.reclaimed),
            (a.private, b.private),
            (a.oracle_reclaimable, b.oracle_reclaimable),
        ] {
            assert!(near(one, other), "{a:?}\n{b:?}");
        }
    }
}
