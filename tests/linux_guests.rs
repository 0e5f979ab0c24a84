//! Linux guests on the emulated host, through the whole program: two kernels side by side, one of
//! them with two vCPUs, while a third guest's kernel panics and a fourth runs out of memory. A
//! machine without QEMU says so and counts.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use std::path::Path;
use std::process::Command;

const GUESTS: &str = r#"version: 1
name: linux
machine: { memory: 2 GiB }
guests:
  - id: old
    count: 1
    kind: linux
    memory: 128 MiB
    linux: { kernel: "6.1", run: [nproc, &tree "find / -xdev -type f -exec sha256sum {} + | sort | sha256sum"] }
  - id: new
    count: 1
    kind: linux
    vcpus: 2
    memory: 128 MiB
    linux: { kernel: "6.12", run: [nproc, *tree] }
  - id: crash
    count: 1
    kind: linux
    memory: 128 MiB
    linux: { kernel: "6.12", run: ["echo c > /proc/sysrq-trigger"] }
  - id: greedy
    count: 1
    kind: linux
    memory: 128 MiB
    linux: { kernel: "6.12", run: ["tail /dev/zero", "echo alive"] }
matrix: [disk]
repeat: { runs: 1 }
phases:
  - { id: start, timeout: 600 s }
  - { id: workload, timeout: 600 s }
  - { id: settle, timeout: 10 s }
  - { id: stop, timeout: 120 s }
"#;

/// What a command of a guest printed.
fn printed(results: &Path, guest: &str, command: u32) -> String {
    let name = format!("commands/disk-run1-{guest}-{command}.txt");
    std::fs::read_to_string(results.join(name)).unwrap()
}

#[test]
fn kernels_run_side_by_side_and_one_guests_end_is_its_own() {
    if common::obstacle() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("linux.yaml"), GUESTS).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_mirrorball"))
        .current_dir(folder.path())
        .args([
            "run",
            "linux.yaml",
            "--host",
            "emulated",
            "--json",
            "-o",
            "out",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(5), "{said}");
    let summary: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let failures = summary["cells"][0]["failures"].as_array().unwrap();
    let causes: Vec<_> = failures
        .iter()
        .map(|f| f["cause"].as_str().unwrap())
        .collect();
    assert_eq!(causes.len(), 2, "{causes:?}");
    let told = |text| {
        assert!(
            causes.iter().any(|cause| cause.contains(text)),
            "{causes:?}"
        )
    };
    told("crash-1: the guest's kernel panicked: sysrq triggered crash");
    told("greedy-1: `tail /dev/zero` ended with exit code 137");

    let mut runs = std::fs::read_dir(folder.path().join("out")).unwrap();
    let results = runs.next().unwrap().unwrap().path();
    assert_eq!(printed(&results, "old-1", 0), "1\n");
    assert_eq!(printed(&results, "new-1", 0), "2\n");
    // The same root through each guest's own overlay, on blocks that all guests share.
    let tree = printed(&results, "old-1", 1);
    assert_eq!(tree.len(), "  -\n".len() + 64);
    assert_eq!(tree, printed(&results, "new-1", 1));
    assert_eq!(printed(&results, "greedy-1", 1), "alive\n");
    for guest in ["old-1", "new-1", "greedy-1"] {
        let log = results.join(format!("consoles/disk-run1-{guest}.log"));
        let console = std::fs::read_to_string(log).unwrap();
        assert!(console.contains("reboot: Power down"), "{guest}: {console}");
    }
}
