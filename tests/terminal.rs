//! What a run looks like on a terminal and in a pipe. The terminal is a real one, of `script(1)`;
//! guests need `/dev/kvm`. A host without either says so and counts.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

const SMALL: &str = "\
version: 1
name: small
machine: { memory: 256 MiB }
guests:
  - { id: a, count: 1, memory: 16 MiB, workload: { name: touch, period: 20 ms, duration: 250 ms } }
matrix: [zero]
scanner: { interval: 20 ms }
phases: [{ id: settle, until: { scans: 1 } }]
";

/// A folder with the experiment; `None`, and told, where it can't be run.
fn place(test: &str) -> Option<tempfile::TempDir> {
    let doctor = Command::new(env!("CARGO_BIN_EXE_mirrorball"))
        .arg("doctor")
        .output()
        .unwrap();
    let script = Command::new("script").arg("--version").output();
    if !doctor.status.success() || script.is_err() {
        eprintln!("NOT RUN (1): {test} needs /dev/kvm and script(1)");
        return None;
    }
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("small.yaml"), SMALL).unwrap();
    Some(place)
}

/// What `mirrorball run` shows on a terminal of 80 columns, both streams in one.
fn on_a_terminal(place: &Path, words: &str, variables: &[(&str, &str)]) -> String {
    let program = env!("CARGO_BIN_EXE_mirrorball");
    let line = format!("stty cols 80 rows 24; {program} run small.yaml {words}");
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]);
    command.current_dir(place).stdin(Stdio::null());
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
    command.envs(variables.iter().copied());
    let output = command.output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}");
    shown
}

fn in_a_pipe(place: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mirrorball"));
    command.args(["run", "small.yaml"]).args(words);
    command.current_dir(place).stdin(Stdio::null());
    command.output().unwrap()
}

/// Escape sequences that set colours: `ESC [ numbers m`, but for the reset.
fn colours(shown: &str) -> usize {
    let sequences = shown.split("\x1b[").skip(1);
    let ends = sequences.filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';')?;
        (rest[end..].starts_with('m')).then(|| &rest[..end])
    });
    ends.filter(|numbers| !["", "0"].contains(numbers)).count()
}

#[test]
fn a_terminal_gets_a_live_line_and_no_colour_where_that_is_asked_for() {
    let Some(place) = place("a_terminal_gets_a_live_line_and_no_colour_where_that_is_asked_for")
    else {
        return;
    };
    let shown = on_a_terminal(place.path(), "", &[]);
    assert!(shown.contains("run 0/1"), "{shown:?}");
    assert!(
        shown.contains("\x1b["),
        "the line is drawn again in its place"
    );
    assert!(
        shown.contains("[1/1]") && shown.contains("machine memory"),
        "{shown}"
    );
    // NO_COLOR hides colours, not progress; empty, it hides nothing.
    for value in ["1", ""] {
        let shown = on_a_terminal(place.path(), "", &[("NO_COLOR", value)]);
        assert!(shown.contains("run 0/1"), "NO_COLOR={value}: {shown:?}");
        assert!(value.is_empty() || colours(&shown) == 0, "{shown:?}");
    }
    let dumb = on_a_terminal(place.path(), "", &[("TERM", "dumb")]);
    assert!(!dumb.contains('\x1b') && dumb.contains("[1/1]"), "{dumb:?}");
    let none = on_a_terminal(place.path(), "--progress none", &[]);
    assert!(
        !none.contains('\x1b') && !none.contains("[1/1]"),
        "{none:?}"
    );
}

#[test]
fn a_pipe_gets_plain_lines_and_standard_output_the_result_alone() {
    let Some(place) = place("a_pipe_gets_plain_lines_and_standard_output_the_result_alone") else {
        return;
    };
    let output = in_a_pipe(place.path(), &[]);
    let (out, err) = (output.stdout, output.stderr);
    let (out, err) = (
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    );
    assert!(output.status.success(), "{err}");
    for text in [&out, &err] {
        assert!(!text.contains('\x1b') && !text.contains('\r'), "{text:?}");
    }
    let runs = err.lines().filter(|line| line.starts_with('['));
    assert_eq!(runs.count(), 1, "a line for each run: {err}");
    assert!(
        out.starts_with('|') && out.contains("\n| verdict "),
        "{out}"
    );
    assert!(!out.contains("[1/1]") && !out.contains("results:"), "{out}");

    let output = in_a_pipe(place.path(), &["--json"]);
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["cells"].as_array().unwrap().len(), 1);
}
