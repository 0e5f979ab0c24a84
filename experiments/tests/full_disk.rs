//! A disk that becomes full in the middle of a run. Each test runs itself again in a mount
//! namespace of its own, on a tmpfs of some pages; a host that allows no such namespace, or has no
//! KVM, says so and counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use mirrorball_experiments::output::samples::Sample;
use mirrorball_experiments::output::summary::{Summary, Verdict};
use mirrorball_experiments::run::Finished;
use mirrorball_experiments::{doctor, exit};

/// The tmpfs, in the test's second life.
const SMALL: &str = "MIRRORBALL_TEST_SMALL_DISK";

static SKIPPED: AtomicU32 = AtomicU32::new(0);

fn not_run(test: &str, why: &str) {
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    eprintln!("NOT RUN ({count}): {test} needs {why}");
}

/// The tmpfs if this is the second life of `test`; in the first it starts the second, with
/// `variable` naming the tmpfs.
fn small_disk(test: &str, bytes: u32, variable: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(SMALL) {
        return Some(path.into());
    }
    if doctor::examine().exit_code() != exit::OK {
        not_run(test, "/dev/kvm");
        return None;
    }
    let place = tempfile::tempdir().unwrap();
    let how = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    };
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args([how, "sh", "-c"]);
        command
    };
    let mount = format!("mount -t tmpfs -o size={bytes} none \"${SMALL}\"");
    let mut probe = unshare();
    if !probe
        .arg(&mount)
        .env(SMALL, place.path())
        .status()
        .is_ok_and(|status| status.success())
    {
        not_run(test, "a mount namespace (root, or user namespaces)");
        return None;
    }
    let again = format!("{mount} && exec \"$0\" --exact {test} --nocapture --test-threads 1");
    let second = unshare()
        .arg(again)
        .arg(std::env::current_exe().unwrap())
        .env(SMALL, place.path())
        .env(variable, place.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(second.status.success(), "{said}");
    None
}

/// Guests that read a small folder from their disk, with results in `output`.
fn run(workload: &str, rest: &str, output: &Path) -> Finished {
    let sources = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    common::write_sources(sources.path(), 40);
    let text = format!(
        "version: 1\nname: full\nmachine: {{ memory: 1 GiB }}\n\
         images:\n  base: {{ directory: {} }}\n\
         guests:\n  - id: guest\n    count: 2\n    vcpus: 1\n    memory: 32 MiB\n    \
         disks: [{{ image: base, scratch: 8 MiB }}]\n    workload: {workload}\n\
         matrix: [none, disk]\n{rest}",
        sources.path().display()
    );
    common::run(&common::load(text, &[]), output)
}

#[test]
fn a_full_results_disk_ends_the_run_and_leaves_whole_files() {
    let test = "a_full_results_disk_ends_the_run_and_leaves_whole_files";
    let Some(disk) = small_disk(test, 128 << 10, SMALL) else {
        return;
    };
    let workload = "{ name: touch, duration: 1 h }";
    let finished = run(workload, "metrics: { sample: 10 ms }\n", &disk);
    assert_eq!(finished.exit_code, exit::HOST, "{:?}", finished.summary);
    assert_eq!(finished.summary.verdict, Verdict::Failed);
    let cause = finished.summary.causes.last().unwrap();
    for part in ["samples.csv", "No space left", "make room"] {
        assert!(cause.contains(part), "{cause}");
    }

    let read = |name| std::fs::read_to_string(finished.folder.join(name)).unwrap();
    let summary: Summary = serde_json::from_str(&read("summary.json")).unwrap();
    assert_eq!(
        summary.verdict,
        Verdict::Failed,
        "half a result is no result"
    );
    serde_json::from_str::<serde_json::Value>(&read("run.json")).unwrap();
    let samples = csv::Reader::from_path(finished.folder.join("samples.csv"))
        .unwrap()
        .deserialize::<Sample>()
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    assert!(samples.len() > 10);
    assert!(read("samples.csv").ends_with('\n'));
}

#[test]
fn a_full_disk_below_the_guests_is_named_by_the_runs_that_fail() {
    let test = "a_full_disk_below_the_guests_is_named_by_the_runs_that_fail";
    let Some(disk) = small_disk(test, 64 << 10, "TMPDIR") else {
        return;
    };
    let output = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let finished = run("{ name: pmake, jobs: 2 }", "", output.path());
    assert_eq!(
        finished.exit_code,
        exit::RUN_FAILED,
        "{:?}",
        finished.summary
    );
    for cell in &finished.summary.cells {
        let cause = &cell.failures[0].cause;
        for part in [disk.to_str().unwrap(), "No space left", "TMPDIR"] {
            assert!(cause.contains(part), "{cause}");
        }
    }
}
