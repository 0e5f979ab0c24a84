//! Whole experiments with real guests. They need `/dev/kvm`; a host without it says so and counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]
#![allow(clippy::expect_used, reason = "helpers of tests may panic")]

mod common;
#[path = "../../report/tests/valid/mod.rs"]
mod valid;

use std::path::{Path, PathBuf};

use common::{guests_can_run, load, write_sources};
use mirrorball_experiments::output::samples::Sample;
use mirrorball_experiments::output::summary::{SCHEMA_VERSION, Summary, Verdict};
use mirrorball_experiments::run::Finished;
use mirrorball_experiments::spec::ImageSource;
use mirrorball_experiments::{exit, image, list};
use mirrorball_report::schema;

fn run(text: String, output: &Path) -> Finished {
    common::run(&load(text, &[]), output)
}

fn sources() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_sources(folder.path(), 40);
    folder
}

fn experiment(sources: &Path, count: u32, workload: &str, rest: &str) -> String {
    format!(
        "version: 1\nname: test\nseed: 3\nmachine: {{ memory: 1 GiB }}\n\
         images:\n  base: {{ directory: {} }}\n\
         guests:\n  - id: guest\n    count: {count}\n    vcpus: 2\n    memory: 32 MiB\n    \
         disks: [{{ image: base, scratch: 8 MiB }}]\n    workload: {workload}\n{rest}",
        sources.display()
    )
}

fn read(folder: &Path, name: &str) -> String {
    let path: PathBuf = folder.join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn cells_are_compared_and_every_output_can_be_read() {
    if !guests_can_run("cells_are_compared_and_every_output_can_be_read") {
        return;
    }
    let (sources, output) = (sources(), tempfile::tempdir().unwrap());
    let rest = "matrix: [none, all]\nscanner: { interval: 10 ms }\nrepeat: { runs: 2 }\nexpect:\n  \
                - { id: saved, metric: memory.reclaimed, cell: all, at-least: 1 MiB }\n  \
                - { id: right, metric: integrity.mismatches, equals: 0 }\n";
    let finished = run(
        experiment(sources.path(), 3, "{ name: pmake, jobs: 2 }", rest),
        output.path(),
    );
    assert_eq!(
        finished.exit_code,
        exit::OK,
        "{:?}",
        finished.summary.causes
    );

    let summary: Summary = serde_json::from_str(&read(&finished.folder, "summary.json")).unwrap();
    assert_eq!(
        (summary.schema_version, summary.verdict),
        (SCHEMA_VERSION, Verdict::Met)
    );
    let [none, all] = &summary.cells[..] else {
        panic!("{:?}", summary.cells)
    };
    assert_eq!((none.runs, all.runs), (2, 2));
    assert_eq!(none.figures.memory.guest_physical, Some(3 * (32 << 20)));
    assert_eq!(
        (none.figures.memory.reclaimed, none.figures.memory.shared),
        (Some(0), Some(0)),
        "a baseline that saves is none"
    );
    let (memory, by) = (&all.figures.memory, &all.figures.by_mechanism);
    assert_eq!(memory.ballooned, Some(0), "thin guests have no balloon");
    assert_eq!(
        (by.network, memory.swapped),
        (Some(0), Some(0)),
        "nothing is saved by a network that is not there, nothing is swapped without a policy"
    );
    assert!(all.figures.memory.machine_used < none.figures.memory.machine_used);
    assert!(
        all.figures.sharing.oracle_share.unwrap() > 0.9,
        "{:?}",
        all.figures.sharing
    );
    assert!(all.figures.accounting.gap.unwrap() <= 0.01);
    assert_eq!(
        none.figures.cpu_seconds.scanner, None,
        "what did not run was not measured"
    );

    let samples = csv::Reader::from_path(finished.folder.join("samples.csv"))
        .unwrap()
        .deserialize::<Sample>()
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    for phase in ["start", "workload", "settle", "measure"] {
        assert!(
            samples.iter().any(|sample| sample.phase == phase),
            "no sample in {phase}"
        );
    }
    let run: serde_json::Value = serde_json::from_str(&read(&finished.folder, "run.json")).unwrap();
    assert_eq!(run["experiment"]["seed"], 3);
    assert_eq!(run["runs"].as_array().unwrap().len(), 4);
    assert!(run["provenance"]["host"]["kernel"].is_string());
    let summary = serde_json::from_str(&read(&finished.folder, "summary.json")).unwrap();
    for (schema, result) in [(schema::summary(), &summary), (schema::run(), &run)] {
        let faults = valid::faults(&schema, result);
        assert!(faults.is_empty(), "{faults:#?}");
    }
    assert!(read(&finished.folder, "memory.svg").starts_with("<svg"));
    assert!(read(&finished.folder, "histograms/all-run2.hlog").contains("Tag=exit,"));
}

#[test]
fn a_missed_expectation_is_told_by_the_exit_code() {
    if !guests_can_run("a_missed_expectation_is_told_by_the_exit_code") {
        return;
    }
    let (sources, output) = (sources(), tempfile::tempdir().unwrap());
    let rest =
        "matrix: [disk]\nexpect:\n  - { id: wonder, metric: memory.reclaimed, at-least: 1 GiB }\n";
    let finished = run(
        experiment(sources.path(), 1, "{ name: scan, passes: 1 }", rest),
        output.path(),
    );
    assert_eq!(
        finished.exit_code,
        exit::NOT_MET,
        "{:?}",
        finished.summary.causes
    );
    assert!(finished.summary.causes[0].contains("wonder"));
}

#[test]
fn a_workload_that_hangs_is_named_and_its_run_fails() {
    if !guests_can_run("a_workload_that_hangs_is_named_and_its_run_fails") {
        return;
    }
    let (sources, output) = (sources(), tempfile::tempdir().unwrap());
    let rest = "matrix: [disk]\nphases:\n  - { id: workload, timeout: 300 ms }\n";
    // It would touch its pages for an hour.
    let workload = "{ name: touch, duration: 1 h }";
    let finished = run(experiment(sources.path(), 2, workload, rest), output.path());
    assert_eq!(finished.exit_code, exit::RUN_FAILED);
    let failure = &finished.summary.cells[0].failures[0];
    assert_eq!(failure.class, "timeout");
    assert!(failure.cause.contains("guest-1"), "{}", failure.cause);
    serde_json::from_str::<Summary>(&read(&finished.folder, "summary.json")).unwrap();
}

#[test]
fn a_guest_that_fails_on_a_broken_disk_fails_its_run_only() {
    if !guests_can_run("a_guest_that_fails_on_a_broken_disk_fails_its_run_only") {
        return;
    }
    let (sources, output) = (sources(), tempfile::tempdir().unwrap());
    let source = ImageSource::Directory(sources.path().to_owned());
    let good = image::prepare(&source, Path::new("."), 1, output.path()).unwrap();
    let mut bytes = std::fs::read(good.path).unwrap();
    // A superblock that is in order, and nothing behind it.
    bytes[4096..].fill(0xa5);
    let broken = output.path().join("broken.ext4");
    std::fs::write(&broken, bytes).unwrap();
    let text = format!(
        "version: 1\nname: test\nmachine: {{ memory: 1 GiB }}\n\
         images:\n  broken: {{ file: {} }}\n  good: {{ directory: {} }}\n\
         guests:\n  - {{ id: victim, count: 1, memory: 32 MiB, disks: [{{ image: broken }}], workload: {{ name: scan }} }}\n  \
         - {{ id: other, count: 1, memory: 32 MiB, disks: [{{ image: good }}], workload: {{ name: scan, passes: 1 }} }}\n\
         matrix: [disk]\n",
        broken.display(),
        sources.path().display()
    );
    let finished = run(text, output.path());
    assert_eq!(finished.exit_code, exit::RUN_FAILED);
    let failures = &finished.summary.cells[0].failures;
    assert!(
        failures
            .iter()
            .all(|failure| failure.cause.contains("victim-1")),
        "{failures:?}"
    );
    let run: serde_json::Value = serde_json::from_str(&read(&finished.folder, "run.json")).unwrap();
    assert!(
        run["runs"][0]["checksums"]["other"].is_string(),
        "the other guest did not finish"
    );
    assert!(
        !finished.folder.join("consoles").exists(),
        "an empty file tells nobody anything"
    );
}

#[test]
fn a_budget_of_machine_memory_is_kept() {
    if !guests_can_run("a_budget_of_machine_memory_is_kept") {
        return;
    }
    let (sources, output) = (sources(), tempfile::tempdir().unwrap());
    let text = experiment(
        sources.path(),
        4,
        "{ name: touch, working-set: 16 MiB, duration: 1 h }",
        "matrix: [none]\n",
    );
    let finished = run(
        text.replace("memory: 1 GiB", "memory: 4 MiB"),
        output.path(),
    );
    assert_eq!(finished.exit_code, exit::RUN_FAILED);
    assert_eq!(finished.summary.cells[0].failures[0].class, "memory");
}

#[test]
fn persistent_disks_are_kept_apart_by_cell() {
    if !guests_can_run("persistent_disks_are_kept_apart_by_cell") {
        return;
    }
    let (sources, output) = (sources(), tempfile::tempdir().unwrap());
    let text = experiment(
        sources.path(),
        2,
        "{ name: pmake }",
        "matrix: [none, disk]\n",
    );
    let text = text.replace("scratch: 8 MiB", "scratch: 8 MiB, mode: persistent");
    let finished = run(text, output.path());
    assert_eq!(finished.exit_code, exit::OK);
    for overlay in ["none-1/guest-1-0", "none-1/guest-2-0", "disk-1/guest-2-0"] {
        let path = finished.folder.join("disks").join(overlay);
        assert!(path.metadata().unwrap().len() > 0, "{}", path.display());
    }
}

#[test]
fn short_torture_finds_no_wrong_byte_while_everything_is_switched() {
    if !guests_can_run("short_torture_finds_no_wrong_byte_while_everything_is_switched") {
        return;
    }
    let output = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("torture-short.yaml");
    let finished = run(std::fs::read_to_string(file).unwrap(), output.path());
    assert_eq!(
        finished.exit_code,
        exit::OK,
        "{:?}",
        finished.summary.causes
    );
    let integrity = &finished.summary.cells[0].figures.integrity;
    assert!(
        integrity.verified_pages.unwrap() >= 200_000 && integrity.mismatches == Some(0),
        "{integrity:?}"
    );
}

#[test]
fn every_experiment_of_the_repository_is_valid_and_says_what_to_expect() {
    let entries = list::experiments(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert!(entries.len() >= 14, "{entries:?}");
    for entry in &entries {
        assert!(entry.valid, "{entry:?}");
        let text = std::fs::read_to_string(&entry.file).unwrap();
        for word in ["Question:", "Expected:", "Time:", "Memory:"] {
            let file = entry.file.display();
            assert!(text.contains(word), "{file} does not say {word}");
        }
    }
}
