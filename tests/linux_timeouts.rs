//! Linux guests that hang, at boot or in a command: each is ended by its own time limit and told
//! of, and the others do their work. A machine without QEMU says so and counts.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use std::process::Command;

/// A shell in place of init waits for input that never comes.
const GUESTS: &str = r#"version: 1
name: hanging
machine: { memory: 1 GiB }
guests:
  - id: boot
    count: 1
    kind: linux
    memory: 128 MiB
    linux: { kernel: "6.12", root: none, run: ["true"], command-line: rdinit=/bin/sh, boot-timeout: 90 s }
  - id: command
    count: 1
    kind: linux
    memory: 128 MiB
    linux: { kernel: "6.12", root: none, run: [echo begun, "while :; do :; done"], command-timeout: 20 s }
  - id: well
    count: 1
    kind: linux
    memory: 128 MiB
    linux: { kernel: "6.12", root: none, run: [sleep 5; echo well] }
matrix: [disk]
repeat: { runs: 1 }
phases:
  - { id: start, timeout: 900 s }
  - { id: workload, timeout: 900 s }
  - { id: settle, timeout: 10 s }
  - { id: stop, timeout: 120 s }
"#;

#[test]
fn a_guest_that_hangs_is_ended_and_the_others_go_on() {
    if common::obstacle() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hanging.yaml"), GUESTS).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_mirrorball"))
        .current_dir(folder.path())
        .args(["run", "hanging.yaml", "--host", "emulated", "--json"])
        .args(["--console", "well-1", "-o", "out"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(5), "{said}");
    let summary: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let failures = summary["cells"][0]["failures"].as_array().unwrap();
    let told: Vec<_> = failures
        .iter()
        .map(|failure| (failure["class"].as_str(), failure["cause"].as_str()))
        .collect();
    let timeout = |cause| (Some("timeout"), Some(cause));
    let expected = [
        timeout("boot-1: booting took longer than 90 s"),
        timeout("command-1: `while :; do :; done` took longer than 20 s"),
    ];
    assert_eq!(told, expected, "{said}");

    let mut runs = std::fs::read_dir(folder.path().join("out")).unwrap();
    let results = runs.next().unwrap().unwrap().path();
    let printed = |name: &str| {
        let path = results.join(format!("commands/disk-run1-{name}.txt"));
        std::fs::read_to_string(path).unwrap()
    };
    assert_eq!(printed("well-1-0"), "well\n");
    assert_eq!(printed("command-1-0"), "begun\n");
    // The console that was asked for, and no other.
    assert!(said.contains("well-1| ") && said.contains("reboot: Power down"));
    assert!(!said.contains("boot-1| "), "{said}");
}
