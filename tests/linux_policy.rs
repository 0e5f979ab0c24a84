//! A Linux guest under the memory policy, on the emulated host, through the whole program: its balloon
//! takes what another guest needs, and gives it back when that one is gone. A machine without QEMU says so
//! and counts.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use std::process::Command;

/// What the guest waits for can only come about by its balloon; a wait in vain ends by its time limit.
/// Its balloon alone is used: what is swapped is not free to the guest's eyes, nor does it come back by
/// itself. The 48 MiB of a file that its kernel keeps are what it has to give; they are written before the
/// other guest wants memory, on a busy machine too: who takes memory can't give any.
const GUESTS: &str = r#"version: 1
name: squeezed
machine: { memory: 208 MiB }
policy: { period: 500 ms, swap: off }
guests:
  - id: linux
    count: 1
    kind: linux
    memory: 160 MiB
    min: 32 MiB
    linux:
      kernel: "6.12"
      root: { packages: [busybox-static], size: 192 MiB }
      run:
        - dd if=/dev/zero of=/file bs=1M count=48 && sync
        - &account awk '/^(MemFree|Cached)/ { free += $2 } /^balloon_inflate/ { in_it = $2 } /^balloon_deflate/ { in_it -= $2 } END { print free, 4 * in_it }' /proc/meminfo /proc/vmstat | tee -a /accounts
        - "until [ $(awk '/^balloon_inflate/ { print $2 }' /proc/vmstat) -gt 4096 ]; do sleep 1; done; sleep 2"
        - *account
        - "until awk '/^balloon_inflate/ { i = $2 } /^balloon_deflate/ { exit $2 < i }' /proc/vmstat; do sleep 1; done"
        # Pages that it is just reporting as free are not free to its own eyes.
        - "until awk 'NR == 1 { first = $1 } /^(MemFree|Cached)/ { free += $2 } END { exit free < first - 8000 }' /accounts /proc/meminfo; do sleep 1; done"
        - *account
      command-timeout: 180 s
  - id: greedy
    count: 1
    memory: 128 MiB
    min: 112 MiB
    workload: &small { name: touch, working-set: 8 MiB, period: 1 s, written: 50 % }
timeline:
  - { at: 50 s, run-workload: { guests: greedy, workload: { <<: *small, working-set: 100 MiB } } }
  - { at: 110 s, stop-guests: { guests: greedy } }
matrix: [none]
repeat: { runs: 1 }
phases:
  - { id: start, timeout: 600 s }
  - { id: workload, timeout: 600 s }
  - { id: settle, until: { scans: 0 }, timeout: 10 s }
  - { id: stop, timeout: 120 s }
"#;

#[test]
fn a_balloon_takes_what_another_guest_needs_and_gives_it_back() {
    if common::obstacle() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("squeezed.yaml"), GUESTS).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_mirrorball"))
        .current_dir(folder.path())
        .args(["run", "squeezed.yaml", "--host", "emulated", "--json"])
        .args(["-o", "out"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(0), "{said}");
    let summary: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let groups = &summary["cells"][0]["groups"];
    assert_eq!(groups["linux"]["ballooned"], 0, "{groups}");

    let mut runs = std::fs::read_dir(folder.path().join("out")).unwrap();
    let results = runs.next().unwrap().unwrap().path();
    // KiB that are free or a file's, and KiB in the balloon, by the guest's own account.
    let account = |number: u32| {
        let path = results.join(format!("commands/none-run1-linux-1-{number}.txt"));
        let text = std::fs::read_to_string(path).unwrap();
        let numbers: Vec<i64> = text
            .split_whitespace()
            .map(|n| n.parse().unwrap())
            .collect();
        (numbers[0], numbers[1])
    };
    let (first, squeezed, last) = (account(1), account(3), account(6));
    assert!(squeezed.1 > 16 << 10, "{squeezed:?}");
    assert_eq!(last.1, 0, "something is still in the balloon");
    // What is in the balloon is not free, and is again afterwards.
    for (free, ballooned) in [squeezed, last] {
        let moved = (free + ballooned) - (first.0 + first.1);
        assert!(moved.abs() < 12 << 10, "{first:?} {squeezed:?} {last:?}");
    }

    // The machine's side of it: what the guest gave was there for the other.
    let samples = std::fs::read_to_string(results.join("samples.csv")).unwrap();
    let mut lines = samples
        .lines()
        .map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let column = head
        .iter()
        .position(|name| *name == "ballooned_bytes")
        .unwrap();
    let most = lines
        .filter_map(|line| line[column].parse::<i64>().ok())
        .max();
    assert!(most.unwrap() >= squeezed.1 << 10, "{most:?} {squeezed:?}");
}
