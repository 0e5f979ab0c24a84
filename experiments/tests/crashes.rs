//! Guests that never get as far as their workload, and the guests beside them. A host without
//! `/dev/kvm` says so and counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

#[path = "../../monitor/tests/common/mod.rs"]
mod assembled;
mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mirrorball_experiments::exit;
use mirrorball_experiments::output::samples::Sample;
use mirrorball_experiments::output::summary::{Summary, Verdict};
use mirrorball_experiments::run::{self, Finished, OnFailure, Options};

/// One guest of each of the groups `victim` and `other`, where `victim` boots this ELF; `None`, and
/// told, where no guest can run.
fn run_beside(test: &str, victim: Arc<[u8]>, rest: &str, output: &Path) -> Option<Finished> {
    if !common::guests_can_run(test) {
        return None;
    }
    let sources = tempfile::tempdir().unwrap();
    let text = "fn f(x: u64) -> u64 { x }\n".repeat(4000);
    std::fs::write(sources.path().join("f.rs"), text).unwrap();
    let text = format!(
        "version: 1\nname: crash\nmachine: {{ memory: 1 GiB }}\n\
         images:\n  base: {{ directory: {} }}\n\
         guests:\n  - {{ id: victim, count: 1, memory: 32 MiB, workload: {{ name: touch }} }}\n  \
         - {{ id: other, count: 1, memory: 32 MiB, disks: [{{ image: base }}], workload: {{ name: scan, passes: 1 }} }}\n\
         matrix: [none, disk]\n{rest}",
        sources.path().display()
    );
    let options = Options {
        guests: BTreeMap::from([("victim".to_owned(), victim)]),
        ..common::quiet(output)
    };
    Some(run::run(&common::load(text, &[]), &options).unwrap())
}

/// Every run failed because of the victim alone, the other guest finished in each, and every file
/// can be read.
fn check_blame(finished: &Finished, cause: &str) {
    let summary = &finished.summary;
    assert_eq!(finished.exit_code, exit::RUN_FAILED, "{:?}", summary.causes);
    assert_eq!(summary.verdict, Verdict::Failed);
    assert_eq!(
        summary.causes.len(),
        2,
        "one cause for each run: {:?}",
        summary.causes
    );
    for (cell, told) in summary.cells.iter().zip(&summary.causes) {
        let start = format!("{} run 1: guest: victim-1: ", cell.id);
        assert!(told.starts_with(&start) && told.contains(cause), "{told}");
        assert_eq!(cell.failures[0].class, "guest");
        assert_eq!(cell.runs, 0, "a failed run gives no figures");
        assert_eq!(cell.figures.memory.guest_physical, None);
    }
    eprintln!("{}", summary.causes[0]);
    let next = finished.closing();
    assert!(next.contains("verdict: failed"), "{next}");
    assert!(next.ends_with("summary.json\n"), "{next}");

    let read = |name| std::fs::read_to_string(finished.folder.join(name)).unwrap();
    let stored: Summary = serde_json::from_str(&read("summary.json")).unwrap();
    assert_eq!(stored.causes, summary.causes);
    let run: serde_json::Value = serde_json::from_str(&read("run.json")).unwrap();
    for record in run["runs"].as_array().unwrap() {
        assert_eq!(record["complete"], false);
        let sum = &record["checksums"];
        assert!(sum["other"].is_string(), "the other guest did not finish");
        assert!(sum["victim"].is_null(), "the victim computed nothing");
    }
    let samples = csv::Reader::from_path(finished.folder.join("samples.csv"))
        .unwrap()
        .deserialize::<Sample>()
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    for cell in &summary.cells {
        let measured = |s: &Sample| s.cell == cell.id && s.phase == "measure";
        assert!(samples.iter().any(measured), "{} ended early", cell.id);
    }
    let table = read("table.txt");
    assert!(table.contains("failed"), "{table}");
}

#[test]
fn a_guest_that_crashes_at_boot_is_named_and_the_others_finish() {
    let test = "a_guest_that_crashes_at_boot_is_named_and_the_others_finish";
    let crashes: [(&[u8], &str); 3] = [
        (assembled::PANIC, "the guest panicked"),
        (assembled::NULL, "the guest faulted"),
        (assembled::EXIT, "exit code 7"),
    ];
    for (code, cause) in crashes {
        let output = tempfile::tempdir().unwrap();
        let victim = assembled::guest("crashes", &[code]);
        let Some(finished) = run_beside(test, victim, "", output.path()) else {
            return;
        };
        check_blame(&finished, cause);
    }
}

#[test]
fn a_guest_that_cannot_be_booted_is_named_and_the_others_finish() {
    let test = "a_guest_that_cannot_be_booted_is_named_and_the_others_finish";
    let output = tempfile::tempdir().unwrap();
    let victim: Arc<[u8]> = b"no ELF at all".as_slice().into();
    if let Some(finished) = run_beside(test, victim, "", output.path()) {
        check_blame(&finished, "image is not usable");
    }
}

#[test]
fn a_guest_of_the_timeline_that_crashes_at_boot_fails_its_run_only() {
    let test = "a_guest_of_the_timeline_that_crashes_at_boot_fails_its_run_only";
    let output = tempfile::tempdir().unwrap();
    let rest = "timeline:\n  - { at: 0 s, start-guests: { guests: victim, count: 1 } }\n";
    let victim = assembled::guest("crashes", &[assembled::NULL]);
    let Some(finished) = run_beside(test, victim, rest, output.path()) else {
        return;
    };
    assert_eq!(finished.exit_code, exit::RUN_FAILED);
    for cell in &finished.summary.cells {
        let causes = cell.failures.iter().map(|f| f.cause.as_str());
        let causes = causes.collect::<Vec<_>>();
        assert!(
            matches!(causes[..], [first, second]
                if first.starts_with("victim-1: ") && second.starts_with("victim-2: ")),
            "{causes:?}"
        );
    }
}

#[test]
fn what_a_failure_means_for_the_runs_that_are_left_is_the_users_choice() {
    let test = "what_a_failure_means_for_the_runs_that_are_left_is_the_users_choice";
    if !common::guests_can_run(test) {
        return;
    }
    let text = "version: 1\nname: crash\nmachine: { memory: 1 GiB }\nguests:\n  \
                - { id: victim, count: 1, memory: 32 MiB, workload: { name: touch } }\n\
                matrix: [none, disk, zero]\n";
    let loaded = common::load(text.to_owned(), &[]);
    let victim = assembled::guest("crashes", &[assembled::PANIC]);
    for (policy, runs) in [
        (OnFailure::GoOn, 3),
        (OnFailure::KeepGoing, 3),
        (OnFailure::End, 1),
        (OnFailure::EndAfter(2), 2),
    ] {
        let output = tempfile::tempdir().unwrap();
        let options = Options {
            guests: BTreeMap::from([("victim".to_owned(), victim.clone())]),
            on_failure: policy,
            ..common::quiet(output.path())
        };
        let finished = run::run(&loaded, &options).unwrap();
        let causes = &finished.summary.causes;
        assert_eq!(finished.exit_code, exit::RUN_FAILED, "{causes:?}");
        let text = std::fs::read(finished.folder.join("run.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(record["runs"].as_array().unwrap().len(), runs, "{policy:?}");
    }
}

/// `1: jmp 1b`.
const HANG: &[u8] = &[0xeb, 0xfe];

#[test]
fn a_guest_that_hangs_is_told_from_one_that_is_slow() {
    let test = "a_guest_that_hangs_is_told_from_one_that_is_slow";
    let rest = "phases: [{ id: start, timeout: 400 ms }]\n";
    // The other one counts, and will never be ready either.
    for (code, class) in [(HANG, "guest-hung"), (assembled::SPIN, "timeout")] {
        let output = tempfile::tempdir().unwrap();
        let victim = assembled::guest("late", &[code]);
        let Some(finished) = run_beside(test, victim, rest, output.path()) else {
            return;
        };
        assert_eq!(finished.exit_code, exit::RUN_FAILED);
        let cells = &finished.summary.cells;
        assert_eq!(cells.len(), 2, "the next run begins all the same");
        for cell in cells {
            let failure = &cell.failures[0];
            assert_eq!((cell.failures.len(), cell.runs), (1, 0));
            assert_eq!(failure.class, class, "{}", failure.cause);
            let named = failure.cause.contains("victim-1") && !failure.cause.contains("other");
            let told = named && failure.cause.contains("0.4 s");
            assert!(told, "{}", failure.cause);
        }
    }
}

/// `1: lock dec qword [0x2020]; jmp 1b`: the status page's operations.
const COUNT_DOWN: &[u8] = &[
    0xf0, 0x48, 0xff, 0x0c, 0x25, 0x20, 0x20, 0x00, 0x00, 0xeb, 0xf5,
];

/// As it looks from outside when a page of a guest's memory is not what the guest wrote there.
#[test]
fn a_status_that_goes_back_fails_the_run_as_a_wrong_page_does() {
    let test = "a_status_that_goes_back_fails_the_run_as_a_wrong_page_does";
    let rest = "phases: [{ id: start, timeout: 400 ms }]\n";
    let output = tempfile::tempdir().unwrap();
    let victim = assembled::guest("back", &[COUNT_DOWN]);
    let Some(finished) = run_beside(test, victim, rest, output.path()) else {
        return;
    };
    assert_eq!(finished.exit_code, exit::RUN_FAILED);
    for cell in &finished.summary.cells {
        let mut causes = cell.failures.iter().map(|failure| &failure.cause);
        let told = causes.any(|cause| {
            cause.starts_with("victim-1: its status page") && cause.contains("operations went back")
        });
        assert!(told, "{:?}", cell.failures);
    }
}
