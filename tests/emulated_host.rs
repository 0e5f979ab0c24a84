//! `--host emulated` on the command line. A machine without QEMU says so and counts.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::Path;
use std::process::{Command, Output};

const BAD: &str = "version: 1\nname: x\nmachine: { memory: lots }\n";
/// The smallest experiment: one thin guest, once.
const SMALL: &str = "version: 1
name: small
machine: { memory: 256 MiB }
images: { base: { directory: files } }
guests:
  - id: one
    count: 1
    memory: 32 MiB
    disks: [{ image: base }]
    workload: { name: scan, passes: 1 }
matrix: [zero]
repeat: { runs: 1 }
phases:
  - { id: start, timeout: 120 s }
  - { id: workload, timeout: 120 s }
  - { id: stop, timeout: 120 s }
";

fn mirrorball(folder: &Path, path: Option<&str>, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mirrorball"));
    command.current_dir(folder).args(words);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    command.output().unwrap()
}

/// A folder with the experiment, its files and this beside them.
fn folder(name: &str, text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("a"), "a line of a file\n".repeat(10_000)).unwrap();
    std::fs::write(folder.path().join("small.yaml"), SMALL).unwrap();
    std::fs::write(folder.path().join(name), text).unwrap();
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_missing_qemu_names_its_package_and_a_bad_file_starts_nothing() {
    let folder = folder("bad.yaml", BAD);
    let nowhere = Some("/no/such/folder");
    let run = |file| mirrorball(folder.path(), nowhere, &["run", file, "--host", "emulated"]);
    let missing = run("small.yaml");
    assert_eq!(missing.status.code(), Some(4));
    let said = text(&missing.stderr);
    assert!(said.contains("apt-get install qemu-system-x86"), "{said}");
    assert!(missing.stdout.is_empty());
    let bad = run("bad.yaml");
    assert_eq!(bad.status.code(), Some(3));
    assert!(text(&bad.stderr).contains("lots"));
}

#[test]
fn results_are_those_of_the_command_inside() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join("qemu-system-x86_64").exists()) {
        eprintln!("NOT RUN (1): results_are_those_of_the_command_inside needs qemu-system-x86");
        return;
    }
    let expect =
        "expect:\n  - { id: never, claim: no memory, metric: memory.touched, equals: 1 }\n";
    let folder = folder("missed.yaml", &format!("{SMALL}{expect}"));
    let words = [
        "run",
        "missed.yaml",
        "--json",
        "-o",
        "out",
        "--host=emulated",
    ];
    let ran = mirrorball(folder.path(), None, &words);
    let said = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(6), "{said}");
    let summary: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(summary["emulated"], true);
    assert_eq!(summary["verdict"], "not-met");

    let mut runs = std::fs::read_dir(folder.path().join("out")).unwrap();
    let results = runs.next().unwrap().unwrap().path();
    let read = |name| std::fs::read_to_string(results.join(name)).unwrap();
    let stored: serde_json::Value = serde_json::from_str(&read("summary.json")).unwrap();
    assert_eq!(stored, summary);
    let run: serde_json::Value = serde_json::from_str(&read("run.json")).unwrap();
    let host = &run["provenance"]["host"];
    assert_eq!(host["emulated"]["nested_paging"], true, "{host}");
    assert_eq!(host["kvm"], "hardware");
    assert!(read("table.txt").contains("emulated host"));
}
