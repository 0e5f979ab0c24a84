//! The same file and seed give the same result: for guests with one vCPU to the last page.
//! A host without `/dev/kvm` says so and counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::Path;

use mirrorball_experiments::output::summary::Cell;
use mirrorball_experiments::run::{self, Options, Style};
use mirrorball_experiments::spec::{self, HostFacts};
use mirrorball_experiments::{doctor, exit};

fn cells(sources: &Path, output: &Path) -> Vec<Cell> {
    let text = format!(
        "version: 1\nname: same\nseed: 11\nmachine: {{ memory: 1 GiB }}\n\
         images:\n  base: {{ directory: {} }}\n\
         guests:\n  \
         - {{ id: build, count: 2, memory: 32 MiB, disks: [{{ image: base, scratch: 8 MiB }}], workload: {{ name: pmake, jobs: 1 }} }}\n  \
         - {{ id: read, count: 2, memory: 32 MiB, disks: [{{ image: base }}], workload: {{ name: scan, passes: 1 }} }}\n  \
         - {{ id: sort, count: 2, memory: 16 MiB, workload: {{ name: splash, keys: 100000 }} }}\n\
         matrix: [none, disk, zero, content, all]\nscanner: {{ interval: 10 ms }}\n",
        sources.display()
    );
    let host = HostFacts {
        memory: u64::MAX,
        results: Some(output.to_owned()),
    };
    let loaded = spec::check_text("same.yaml", text, Path::new("."), &host)
        .unwrap_or_else(|error| panic!("{error}"));
    let options = Options {
        output: Some(output.to_owned()),
        progress: Style::None,
        ..Options::default()
    };
    let finished = run::run(&loaded, &options).unwrap();
    assert_eq!(
        finished.exit_code,
        exit::OK,
        "{:?}",
        finished.summary.causes
    );
    finished.summary.cells
}

#[test]
fn two_runs_of_one_seed_share_the_same_pages() {
    if doctor::examine().exit_code() != exit::OK {
        eprintln!("NOT RUN (1): two_runs_of_one_seed_share_the_same_pages needs /dev/kvm");
        return;
    }
    let sources = tempfile::tempdir().unwrap();
    for number in 0..40 {
        let line = format!("fn function_{number}(x: u64) -> u64 {{ x + {number} }}\n");
        std::fs::write(
            sources.path().join(format!("{number}.rs")),
            line.repeat(150),
        )
        .unwrap();
    }
    let output = tempfile::tempdir().unwrap();
    let first = cells(sources.path(), output.path());
    let second = cells(sources.path(), output.path());
    for (one, other) in first.iter().zip(&second) {
        let (a, b) = (&one.figures, &other.figures);
        assert!(a.memory.touched.is_some_and(|touched| touched > 0));
        let mut counts = (a.memory.clone(), b.memory.clone());
        // Books of the scanner grow with the passes that happened to be made.
        (counts.0.overhead, counts.1.overhead) = (None, None);
        assert_eq!(counts.0, counts.1, "{}", one.id);
        assert_eq!(a.by_mechanism, b.by_mechanism, "{}", one.id);
        assert_eq!(a.workload.operations, b.workload.operations, "{}", one.id);
        assert_eq!(a.integrity, b.integrity, "{}", one.id);
    }
}
