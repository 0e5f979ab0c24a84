//! What a new user types, from nothing to a judged result. Guests need `/dev/kvm`; a host without it
//! says so and counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn mirrorball(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mirrorball"));
    command.args(words).current_dir(folder);
    command.output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_template_is_resolved_and_planned_without_a_guest() {
    let place = tempfile::tempdir().unwrap();
    let go = |words: &[&str]| mirrorball(place.path(), words);
    assert!(go(&["init", "sweep"]).status.success());
    assert_eq!(
        go(&["init", "sweep"]).status.code(),
        Some(2),
        "nothing is overwritten"
    );
    let unknown = go(&["init", "swep"]);
    assert!(
        err(&unknown).contains("minimal, sweep"),
        "{}",
        err(&unknown)
    );

    let shown = go(&[
        "show",
        "--resolved",
        "--set",
        "guests.touch.vcpus=2",
        "sweep.yaml",
    ]);
    assert!(out(&shown).contains("vcpus: 2  # --set"), "{}", out(&shown));
    // What is shown runs the same: the plans are equal.
    std::fs::write(place.path().join("resolved.yaml"), out(&shown)).unwrap();
    let plan = |words: &[&str]| {
        let planned = go(&[&["plan", "--json"], words].concat());
        serde_json::from_str::<Value>(&out(&planned)).unwrap()
    };
    let first = plan(&["sweep.yaml", "--set", "guests.touch.vcpus=2"]);
    let again = plan(&["resolved.yaml"]);
    assert_eq!(first["experiment"], again["experiment"]);
    assert_eq!(first["runs"].as_array().unwrap().len(), 20);
    assert_eq!(first["runs"][0]["warmup"], true);

    let typo = go(&["plan", "sweep.yaml", "--set", "guests.touch.vpcus=2"]);
    assert_eq!(typo.status.code(), Some(3));
    assert!(
        err(&typo).contains("did you mean `vcpus`?"),
        "{}",
        err(&typo)
    );
    let metrics = go(&["list", "metrics", "--json"]);
    assert!(out(&metrics).contains("\"vcpu_seconds\""));
}

#[test]
fn a_smoke_run_is_marked_and_a_result_is_judged_again() {
    if !mirrorball(Path::new("/"), &["doctor"]).status.success() {
        eprintln!("NOT RUN (1): a_smoke_run_is_marked_and_a_result_is_judged_again needs /dev/kvm");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let go = |words: &[&str]| mirrorball(place.path(), words);
    go(&["init", "sweep"]);
    let short = [
        "--set",
        "sweep.matrix={ guests.touch.count: [2, 3] }",
        "--set",
        "expect[1].cell=all-2",
    ];
    let smoke = go(&[
        &["run", "sweep.yaml", "-o", "out", "--smoke", "--json"],
        &short[..],
    ]
    .concat());
    let summary: Value = serde_json::from_str(&out(&smoke)).unwrap();
    assert!(
        smoke.status.success() && summary["smoke"] == true,
        "{}",
        err(&smoke)
    );
    assert_eq!(summary["cells"][0]["expect"], serde_json::json!([]));

    let run = [
        "run",
        "sweep.yaml",
        "-o",
        "out",
        "--only",
        "none",
        "--set",
        "repeat.runs=1",
    ];
    let more = [
        "--set",
        "phases.workload.for=300 ms",
        "--set",
        "expect[0].at-most=50 %",
    ];
    let ran = go(&[&run[..], &more, &short].concat());
    assert!(ran.status.success(), "{}", err(&ran));
    let folders = std::fs::read_dir(place.path().join("out")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().path());
    let folder = folders.filter(|path| !path.to_str().unwrap().contains("smoke"));
    let folder = folder.collect::<Vec<_>>();
    let folder = folder[0].to_str().unwrap();
    let checked = go(&["check", folder]);
    assert!(
        checked.status.success() && out(&checked).contains("met"),
        "{}",
        out(&checked)
    );
    // The same results under a claim that they don't bear out.
    let other = "metric: accounting.gap, at-most: 1 %";
    let file = std::fs::read_to_string(place.path().join("sweep.yaml")).unwrap();
    let harder = file.replace(other, "metric: memory.touched, at-least: 1 GiB");
    assert_ne!(file, harder);
    std::fs::write(place.path().join("harder.yaml"), harder).unwrap();
    let checked = go(&["check", folder, "--file", "harder.yaml"]);
    assert_eq!(checked.status.code(), Some(6), "{}", out(&checked));
    let logs = go(&["logs", folder, "none:1"]);
    assert!(out(&logs).contains("none run 1: ok"), "{}", out(&logs));
    assert!(
        out(&logs).contains("events/none-run1.ndjson"),
        "{}",
        out(&logs)
    );
}

#[test]
fn what_would_take_more_than_it_may_is_not_begun() {
    let place = tempfile::tempdir().unwrap();
    let go = |words: &[&str]| mirrorball(place.path(), words);
    assert!(go(&["init", "sweep"]).status.success());
    assert!(go(&["plan", "sweep.yaml"]).status.success());
    let small = go(&["plan", "sweep.yaml", "--max-memory", "1MiB", "--json"]);
    assert_eq!(small.status.code(), Some(4), "{}", err(&small));
    assert!(err(&small).contains("may use 1 MiB"), "{}", err(&small));
    let plan: Value = serde_json::from_str(&out(&small)).unwrap();
    assert_eq!(plan["over"].as_array().unwrap().len(), 1);

    let run = go(&["run", "sweep.yaml", "-o", "out", "--max-time", "1ms"]);
    assert_eq!(run.status.code(), Some(4), "{}", err(&run));
    assert!(err(&run).contains("may take 0 s"), "{}", err(&run));
    assert!(!place.path().join("out").exists(), "nothing was begun");
    let nowhere = go(&["run", "sweep.yaml", "-o", "/proc/results"]);
    assert_eq!(nowhere.status.code(), Some(4), "{}", err(&nowhere));
    assert!(
        err(&nowhere).contains("outputs.directory"),
        "{}",
        err(&nowhere)
    );
    let unit = go(&["run", "sweep.yaml", "--max-time", "10"]);
    assert_eq!(unit.status.code(), Some(2), "a time needs a unit");
}

#[test]
fn a_measurement_that_is_none_is_a_usage_error_with_those_there_are() {
    for host in [&[][..], &["--host", "emulated"]] {
        let words = [&["bench", "--only", "brake"], host].concat();
        let unknown = mirrorball(Path::new("/"), &words);
        assert_eq!(unknown.status.code(), Some(2), "{}", err(&unknown));
        assert!(
            err(&unknown).contains("merge, clean-pass"),
            "{}",
            err(&unknown)
        );
    }
}

/// An experiment of a second, with a claim that `bound` judges.
fn short(name: &str, bound: &str) -> String {
    format!(
        "version: 1\nname: {name}\nmachine: {{ memory: 64 MiB }}\n\
         guests:\n  - id: a\n    count: 1\n    memory: 16 MiB\n    \
         workload: {{ name: touch, working-set: 1 MiB, period: 100 ms }}\n\
         matrix: [none]\nphases:\n  - {{ id: workload, for: 300 ms, timeout: 20 s }}\n  \
         - {{ id: settle, until: {{ scans: 0 }}, timeout: 10 s }}\n\
         expect:\n  - {{ id: claimed, metric: integrity.mismatches, {bound} }}\n"
    )
}

#[test]
fn a_folder_with_a_file_that_is_wrong_starts_nothing() {
    let place = tempfile::tempdir().unwrap();
    let empty = mirrorball(place.path(), &["run", "."]);
    assert_eq!(empty.status.code(), Some(3), "{}", err(&empty));
    assert!(err(&empty).contains("*.yaml"), "{}", err(&empty));

    std::fs::write(place.path().join("a.yaml"), short("a", "equals: 0")).unwrap();
    std::fs::write(place.path().join("b.yaml"), "version: 1\nname: b\n").unwrap();
    let bad = mirrorball(place.path(), &["run", ".", "-o", "out"]);
    assert_eq!(bad.status.code(), Some(3), "{}", err(&bad));
    assert!(err(&bad).contains("b.yaml can't be run"), "{}", err(&bad));
    assert!(!place.path().join("out").exists(), "something was started");

    for option in [["--only", "none"], ["--metrics", "127.0.0.1:9300"]] {
        let one = mirrorball(place.path(), &[&["run", "."][..], &option].concat());
        assert_eq!(one.status.code(), Some(2), "{}", err(&one));
        assert!(err(&one).contains(option[0]), "{}", err(&one));
    }
}

#[test]
fn a_plan_of_a_folder_is_of_all_its_experiments() {
    let place = tempfile::tempdir().unwrap();
    for name in ["first", "second"] {
        let file = place.path().join(format!("{name}.yaml"));
        std::fs::write(file, short(name, "equals: 0")).unwrap();
    }
    let plan = mirrorball(place.path(), &["plan", "."]);
    assert_eq!(plan.status.code(), Some(0), "{}", err(&plan));
    let (first, second) = (out(&plan).find("first: "), out(&plan).find("second: "));
    assert!(first.is_some() && first < second, "{}", out(&plan));

    let told = mirrorball(place.path(), &["plan", ".", "--json"]);
    let told: Value = serde_json::from_str(&out(&told)).unwrap();
    assert_eq!(told[1]["experiment"]["name"], "second");

    let large = mirrorball(place.path(), &["plan", ".", "--max-memory", "1MiB"]);
    assert_eq!(large.status.code(), Some(4), "{}", out(&large));
}

#[test]
fn a_folder_is_run_by_name_and_the_worst_verdict_counts() {
    if !mirrorball(Path::new("/"), &["doctor"]).status.success() {
        eprintln!(
            "NOT RUN (1): a_folder_is_run_by_name_and_the_worst_verdict_counts needs /dev/kvm"
        );
        return;
    }
    let place = tempfile::tempdir().unwrap();
    for (file, name, bound) in [
        ("2.yaml", "second", "at-least: 1"),
        ("1.yaml", "first", "equals: 0"),
        ("3.yml", "third", "equals: 0"),
    ] {
        std::fs::write(place.path().join(file), short(name, bound)).unwrap();
    }
    let words = ["run", ".", "-o", "out", "--runs", "2"];
    let ran = mirrorball(place.path(), &words);
    assert_eq!(ran.status.code(), Some(6), "{}", err(&ran));
    let lines = out(&ran);
    let lines = lines.lines().filter(|line| line.contains("out/"));
    let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let lines = lines.collect::<Vec<_>>();
    let [first, second, third] = &lines[..] else {
        panic!("{}", out(&ran));
    };
    assert_eq!(first[..5], ["first", "met", "1", "of", "1"]);
    assert_eq!(second[..6], ["second", "not", "met", "0", "of", "1"]);
    assert_eq!(third[..2], ["third", "met"]);
    assert!(err(&ran).contains("report:  mirrorball report out/first-"));

    let told = mirrorball(place.path(), &[&words[..], &["--json"]].concat());
    let told: Value = serde_json::from_str(&out(&told)).unwrap();
    assert_eq!(told["exit_code"], 6);
    let cells = &told["experiments"][2]["summary"]["cells"];
    assert_eq!(cells[0]["runs"], 2, "an option is not for all: {told}");
}

#[test]
fn a_folder_that_is_stopped_keeps_what_there_is_and_begins_no_other() {
    if !mirrorball(Path::new("/"), &["doctor"]).status.success() {
        eprintln!("NOT RUN (1): a_folder_that_is_stopped_keeps_what_there_is needs /dev/kvm");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let long = short("long", "equals: 0")
        .replace("for: 300 ms, timeout: 20 s", "for: 60 s, timeout: 90 s");
    std::fs::write(place.path().join("1.yaml"), long).unwrap();
    std::fs::write(place.path().join("2.yaml"), short("late", "equals: 0")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mirrorball"))
        .args(["run", ".", "-o", "out"])
        .current_dir(place.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let folder = place.path().join("out");
    let begun = || {
        let results = std::fs::read_dir(&folder).ok()?.next()?.ok()?;
        let samples = std::fs::metadata(results.path().join("samples.csv")).ok()?;
        (samples.len() > 0).then_some(())
    };
    while begun().is_none() {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let asked = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(asked.unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let said = out(&ended);
    assert_eq!(ended.status.code(), Some(143), "{said}");
    assert!(said.contains("late        not begun"), "{said}");
    assert!(said.contains("long        stopped"), "{said}");
    let results = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
    assert!(results.path().join("summary.json").exists());
}

#[test]
fn samples_are_one_object_in_each_line() {
    let place = tempfile::tempdir().unwrap();
    let rows = "cell,run,time_seconds,phase,vm,private_bytes,reclaimed_bytes\n\
                none,1,0.5,start,machine,4096,0\n\
                none,1,0.5,start,1,4096,\n\
                all,2,1.5,measure,machine,8192,4096\n";
    std::fs::write(place.path().join("samples.csv"), rows).unwrap();
    let lines = |words: &[&str]| {
        let shown = mirrorball(place.path(), &[&["samples", "."], words].concat());
        assert!(shown.status.success(), "{}", err(&shown));
        let lines = out(&shown);
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines.collect::<Vec<Value>>()
    };
    assert_eq!(lines(&[]).len(), 3);
    let machine = lines(&["--vm", "machine", "--run", "2"]);
    assert_eq!(machine.len(), 1);
    assert_eq!(machine[0]["reclaimed_bytes"], 4096);
    let vm = lines(&["--cell", "none", "--vm", "1"]);
    assert!(vm[0]["reclaimed_bytes"].is_null(), "not measured is no 0");
    let none = mirrorball(Path::new("/"), &["samples", "."]);
    assert_eq!(none.status.code(), Some(9));
}

#[test]
fn the_schemas_of_results_are_printed() {
    for (word, part) in [
        ("summary", "retried"),
        ("run", "sampler_seconds"),
        ("experiment", "increases-with"),
    ] {
        let shown = mirrorball(Path::new("/"), &["schema", word]);
        let schema: Value = serde_json::from_str(&out(&shown)).unwrap();
        assert!(schema["$schema"].is_string());
        assert!(out(&shown).contains(part), "{word}: {part}");
    }
}
