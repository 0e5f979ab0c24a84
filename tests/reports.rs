//! `report`, `compare`, `package` and `verify` from the outside, on a result of the repository. None
//! of them needs KVM.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const QUICK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results/reference/quick");
const SCALE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results/reference/scale");

fn mirrorball(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mirrorball"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

#[test]
fn a_report_is_made_and_told_of_in_json() {
    let place = tempfile::tempdir().unwrap();
    let output = mirrorball(place.path(), &["report", "--json", QUICK, "-o", "out"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let written: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let page = place.path().join(written["page"].as_str().unwrap());
    assert_eq!(
        fs::metadata(page).unwrap().len(),
        written["bytes"].as_u64().unwrap()
    );
    let output = mirrorball(place.path(), &["report", "nowhere"]);
    assert_eq!(code(&output), 9, "{output:?}");
}

#[test]
fn a_comparison_says_what_changed_and_ends_with_it() {
    let place = tempfile::tempdir().unwrap();
    let (none, all) = (format!("{QUICK}:none"), format!("{QUICK}:all"));
    let output = mirrorball(place.path(), &["compare", &none, &all]);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(
        text.contains("changed beyond noise: machine memory (−"),
        "{text}"
    );
    let worse = ["compare", &all, &none, "--fail-on-regression", "5"];
    assert_eq!(code(&mirrorball(place.path(), &worse)), 7);
    let disk = format!("{QUICK}:disk");
    let output = mirrorball(place.path(), &["compare", "--json", &none, &disk, &all]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["comparisons"].as_array().unwrap().len(), 2);
    let other = [&*all, SCALE];
    let output = mirrorball(place.path(), &["compare", other[0], other[1]]);
    assert_eq!(code(&output), 9, "{output:?}");
    let unknown = format!("{QUICK}:al");
    let output = mirrorball(place.path(), &["compare", &none, &unknown]);
    assert_eq!(code(&output), 9);
    assert!(String::from_utf8_lossy(&output.stderr).contains("its cells are"));
}

/// The stored result as if each cell had been run once.
fn run_once(folder: &Path) {
    let stored = Path::new(QUICK);
    let mut run: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(stored.join("run.json")).unwrap()).unwrap();
    let runs = run["runs"].as_array_mut().unwrap();
    runs.retain(|run| run["run"] == 1);
    fs::write(folder.join("run.json"), run.to_string()).unwrap();
    fs::copy(stored.join("summary.json"), folder.join("summary.json")).unwrap();
}

#[test]
fn what_too_few_runs_show_stops_only_the_strict() {
    let place = tempfile::tempdir().unwrap();
    run_once(place.path());
    // All sharing lost, seen once.
    let mut worse = vec!["compare", ".:all", ".:none", "--fail-on-regression", "10"];
    assert_eq!(code(&mirrorball(place.path(), &worse)), 0);
    worse.push("--strict");
    assert_eq!(code(&mirrorball(place.path(), &worse)), 8);
}

#[test]
fn results_of_another_kernel_are_not_compared_unless_it_is_meant() {
    let place = tempfile::tempdir().unwrap();
    for name in ["summary.json", "run.json"] {
        let text = fs::read_to_string(Path::new(QUICK).join(name)).unwrap();
        let text = text.replacen("\"kernel\": \"", "\"kernel\": \"9.", 1);
        fs::write(place.path().join(name), text).unwrap();
    }
    let output = mirrorball(place.path(), &["compare", QUICK, "."]);
    assert_eq!(code(&output), 9, "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("provenance.host.kernel: "), "{told}");
    assert!(output.stdout.is_empty(), "it was compared all the same");
    let meant = ["compare", QUICK, ".", "--allow", "provenance.host.kernel"];
    let output = mirrorball(place.path(), &meant);
    assert_eq!(code(&output), 0, "{output:?}");
}

#[test]
fn a_package_is_sound_until_it_is_touched() {
    let place = tempfile::tempdir().unwrap();
    let output = mirrorball(place.path(), &["package", QUICK]);
    assert_eq!(code(&output), 0, "{output:?}");
    let output = mirrorball(place.path(), &["verify", "quick.tar.gz"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let unnamed = ["package", "--anonymous", QUICK, "-o", "unnamed.tar.gz"];
    assert_eq!(code(&mirrorball(place.path(), &unnamed)), 0);
    let output = mirrorball(place.path(), &["verify", "unnamed.tar.gz"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let file = place.path().join("quick.tar.gz");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&file, bytes).unwrap();
    let output = mirrorball(place.path(), &["verify", "quick.tar.gz"]);
    assert_eq!(code(&output), 9, "{output:?}");
}
