//! An experiment that is killed at any moment can be resumed: every finished run stays as it was,
//! and none is missing in the end. The kills are real (SIGKILL), at random moments.
//!
//! `MIRRORBALL_KILLS=50 cargo test --test resume -- --nocapture` kills that often and prints what
//! happened. A host without `/dev/kvm` says so and counts.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

const SWEEP: &str = "\
version: 1
name: sweep
machine: { memory: 1 GiB }
guests:
  - id: guest
    count: 2
    memory: 16 MiB
    workload: { name: touch, working-set: 4 MiB, period: 20 ms, zero: 20 %, duration: 40 ms }
matrix: [none, zero, content]
scanner: { interval: 5 ms }
phases: [{ id: settle, until: { scans: 1 } }]
metrics: { sample: 20 ms }
repeat: { runs: 4 }
";
const RUNS: usize = 12;

fn mirrorball(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mirrorball"));
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::null());
    let temporary = folder.join("tmp");
    if fs::create_dir_all(&temporary).is_ok() {
        command.env("TMPDIR", temporary);
    }
    command
}

fn guests_can_run(test: &str) -> bool {
    let examined = mirrorball(&["doctor"], Path::new("/")).output().unwrap();
    if !examined.status.success() {
        eprintln!("NOT RUN (1): {test} needs /dev/kvm; see `mirrorball doctor`");
    }
    examined.status.success()
}

/// The one results folder, if it is there yet.
fn results(place: &Path) -> Option<PathBuf> {
    let folders = fs::read_dir(place.join("results")).ok()?;
    let mut folders = folders.map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        !name.starts_with('.')
    });
    let folder = folders.next();
    assert!(folders.next().is_none(), "there are two results");
    folder
}

/// Finished runs by cell and number, as they are in `run.json`, which can be read at any moment.
fn finished(folder: &Path) -> BTreeMap<(String, u64), Value> {
    let text = fs::read_to_string(folder.join("run.json")).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    serde_json::from_str::<Value>(&fs::read_to_string(folder.join("summary.json")).unwrap())
        .unwrap();
    let mut runs = BTreeMap::new();
    for run in record["runs"].as_array().unwrap() {
        let key = (
            run["cell"].as_str().unwrap().to_owned(),
            run["run"].as_u64().unwrap(),
        );
        assert_eq!(run["complete"], true, "{run}");
        assert!(
            runs.insert(key, run.clone()).is_none(),
            "{run} is there twice"
        );
    }
    runs
}

/// Every row belongs to a finished run, every finished run has rows, and time goes on.
fn check_samples(folder: &Path, runs: &BTreeMap<(String, u64), Value>) {
    let text = fs::read_to_string(folder.join("samples.csv")).unwrap();
    let mut rows = text.lines();
    let names = rows.next().unwrap().split(',').collect::<Vec<_>>();
    let column = |name| names.iter().position(|other| *other == name).unwrap();
    let (cell, run, time) = (column("cell"), column("run"), column("time_seconds"));
    let (mut seen, mut last) = (BTreeMap::new(), 0.0);
    for row in rows {
        let fields = row.split(',').collect::<Vec<_>>();
        assert_eq!(fields.len(), names.len(), "{row}");
        let key = (fields[cell].to_owned(), fields[run].parse().unwrap());
        assert!(runs.contains_key(&key), "{row}");
        let now: f64 = fields[time].parse().unwrap();
        assert!(now >= last, "{row} after {last}");
        last = now;
        *seen.entry(key).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), runs.len());
}

/// A number from 0 to 1, from a generator of Marsaglia's (xorshift64).
fn random(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    #[allow(clippy::cast_precision_loss, reason = "53 bits are enough")]
    let fraction = (*state >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}

/// Starts or resumes the experiment.
fn go(place: &Path) -> Command {
    match results(place) {
        Some(folder) => {
            let folder = folder.to_str().unwrap().to_owned();
            mirrorball(&["run", "--resume", &folder, "--progress", "none"], place)
        }
        None => mirrorball(
            &["run", "sweep.yaml", "-o", "results", "--progress", "none"],
            place,
        ),
    }
}

/// After kills there is no process of a run's, and no temporary file of more than a MiB.
fn check_leftovers(place: &Path) {
    for process in fs::read_dir("/proc").unwrap() {
        let folder = fs::read_link(process.unwrap().path().join("cwd"));
        assert_ne!(
            folder.ok().as_deref(),
            Some(place),
            "a process was left behind"
        );
    }
    for file in fs::read_dir(place.join("tmp")).unwrap() {
        let file = file.unwrap();
        let bytes = file.metadata().unwrap().len();
        assert!(
            bytes <= 1 << 20,
            "{} has {bytes} bytes",
            file.path().display()
        );
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[derive(Debug, Default)]
struct Tally {
    kills: u32,
    before_the_folder: u32,
    sweeps: u32,
    resumed: u32,
    kept_runs: usize,
}

#[test]
fn a_sweep_that_is_killed_at_any_moment_is_resumed_and_completes() {
    if !guests_can_run("a_sweep_that_is_killed_at_any_moment_is_resumed_and_completes") {
        return;
    }
    let kills = std::env::var("MIRRORBALL_KILLS");
    let kills = kills.map_or(4, |kills| kills.parse::<u32>().unwrap());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut state = u64::try_from(now.unwrap().as_nanos()).unwrap() | 1;
    eprintln!("seed {state}");
    // Kills are spread over the whole time that a sweep takes here and now.
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("sweep.yaml"), SWEEP).unwrap();
    let began = Instant::now();
    let whole = go(place.path()).output().unwrap();
    assert!(whole.status.success(), "{}", told(&whole));
    let length = began.elapsed();
    assert_eq!(finished(&results(place.path()).unwrap()).len(), RUNS);

    let mut tally = Tally::default();
    while tally.kills < kills {
        sweep(kills, length, &mut state, &mut tally);
        tally.sweeps += 1;
    }
    eprintln!("{tally:?}; an undisturbed sweep takes {length:?}");
}

/// One sweep, killed now and then until it is done.
fn sweep(kills: u32, length: Duration, state: &mut u64, tally: &mut Tally) {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("sweep.yaml"), SWEEP).unwrap();
    let mut before = BTreeMap::new();
    loop {
        let mut command = go(place.path());
        let log = place.path().join("stderr.txt");
        let stderr = fs::File::create(&log).unwrap();
        let mut child = command
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        if tally.kills < kills {
            std::thread::sleep(length.mul_f64(random(state) * 0.5));
        } else {
            child.wait().unwrap();
        }
        let ended = child.try_wait().unwrap().is_some();
        if !ended {
            child.kill().unwrap();
            tally.kills += 1;
        }
        let status = child.wait().unwrap();
        let Some(folder) = results(place.path()) else {
            tally.before_the_folder += 1;
            continue;
        };
        let after = finished(&folder);
        for (key, run) in &before {
            assert_eq!(
                after.get(key),
                Some(run),
                "a finished run was lost or made again"
            );
        }
        tally.kept_runs += before.len();
        before = after;
        if ended {
            let said = fs::read_to_string(&log).unwrap();
            assert!(status.success(), "{status}: {said}");
            break;
        }
        tally.resumed += 1;
    }
    assert_eq!(before.len(), RUNS);
    check_leftovers(place.path());
    let folder = results(place.path()).unwrap();
    check_samples(&folder, &before);
    let histograms = fs::read_dir(folder.join("histograms")).unwrap().count();
    assert_eq!(histograms, RUNS);
    for file in ["table.txt", "memory.svg", "memory.png", "README.txt"] {
        assert!(folder.join(file).exists(), "{file}");
    }
    let left = fs::read_dir(&folder).unwrap();
    let left = left.filter(|e| {
        e.as_ref()
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .starts_with('.')
    });
    assert_eq!(left.count(), 0, "half a file was left behind");
    let summary = fs::read_to_string(folder.join("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(
        (&summary["verdict"], &summary["interrupted"]),
        (&"met".into(), &false.into())
    );
}

#[test]
fn what_has_changed_since_is_refused() {
    if !guests_can_run("what_has_changed_since_is_refused") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("sweep.yaml"), SWEEP).unwrap();
    let arguments = [
        "run",
        "sweep.yaml",
        "-o",
        "results",
        "--only",
        "none",
        "--runs",
        "1",
    ];
    let first = mirrorball(&arguments, place.path()).output().unwrap();
    assert!(first.status.success(), "{}", told(&first));
    let folder = results(place.path()).unwrap();
    let resume = || {
        let folder = folder.to_str().unwrap();
        mirrorball(&["run", "--resume", folder], place.path())
            .output()
            .unwrap()
    };
    // There is nothing left to do, and what was asked for on the command line still holds.
    let again = resume();
    assert!(again.status.success(), "{}", told(&again));
    assert!(
        told(&again).contains("1 run was done before"),
        "{}",
        told(&again)
    );
    assert_eq!(finished(&folder).len(), 1);
    // Words for readers change no figure: nothing is made again.
    let renamed = SWEEP.replace("machine:", "title: Another title\nmachine:");
    fs::write(folder.join("experiment.yaml"), renamed).unwrap();
    let before = finished(&folder);
    let again = resume();
    assert!(again.status.success(), "{}", told(&again));
    assert_eq!(finished(&folder), before);
    // Times of an emulated host compare with no other's, nor by another clock.
    let elsewhere = |clock: &str| {
        let folder = folder.to_str().unwrap();
        let mut resume = mirrorball(&["run", "--resume", folder], place.path());
        resume.env("MIRRORBALL_HOST", "emulated");
        resume.env("MIRRORBALL_HOST_BY_INSTRUCTIONS", clock);
        let refused = resume.output().unwrap();
        assert_eq!(refused.status.code(), Some(9), "{}", told(&refused));
        told(&refused)
    };
    let here = elsewhere("off");
    assert!(here.contains("this machine then, emulated now"), "{here}");
    let record = fs::read_to_string(folder.join("run.json")).unwrap();
    let emulated = record.replace("\"emulated\": null", "\"emulated\": {}");
    assert_ne!(emulated, record);
    fs::write(folder.join("run.json"), emulated).unwrap();
    let other_clock = elsewhere("on");
    assert!(
        other_clock.contains("emulated then, emulated, with a clock that counts instructions now"),
        "{other_clock}"
    );
    fs::write(folder.join("run.json"), record).unwrap();
    let changed = SWEEP.replace("memory: 16 MiB", "memory: 32 MiB");
    fs::write(folder.join("experiment.yaml"), changed).unwrap();
    let refused = resume();
    assert_eq!(refused.status.code(), Some(9), "{}", told(&refused));
    assert!(
        told(&refused).contains("`guests` of the experiment"),
        "{}",
        told(&refused)
    );
    let other = mirrorball(&["run", "--resume", "/proc"], place.path())
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(9), "{}", told(&other));
    assert!(
        told(&other).contains("wants the results folder"),
        "{}",
        told(&other)
    );
}

#[test]
fn ctrl_c_ends_with_whole_files_and_says_how_to_go_on() {
    if !guests_can_run("ctrl_c_ends_with_whole_files_and_says_how_to_go_on") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("sweep.yaml"), SWEEP).unwrap();
    let mut command = go(place.path());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    // As soon as one run is finished.
    let until = Instant::now() + Duration::from_secs(60);
    let some = || {
        results(place.path())
            .is_some_and(|folder| folder.join("run.json").exists() && !finished(&folder).is_empty())
    };
    while !some() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let process = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &process]).status();
    assert!(sent.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let folder = results(place.path()).unwrap();
    // The run that was under way is there too, marked.
    let record = fs::read_to_string(folder.join("run.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    let runs = record["runs"].as_array().unwrap().iter();
    let runs: Vec<&Value> = runs.filter(|run| run["complete"] == true).collect();
    let samples = fs::read_to_string(folder.join("samples.csv")).unwrap();
    let columns = |row: &str| row.split(',').count();
    let mut rows = samples.lines().map(columns);
    let names = rows.next().unwrap();
    assert!(rows.all(|fields| fields == names), "half a row");
    if runs.len() < RUNS {
        assert_eq!(output.status.code(), Some(130), "{}", told(&output));
        let said = told(&output);
        assert!(
            said.contains("run --resume ") && said.contains("results/sweep-"),
            "{said}"
        );
        let summary = fs::read_to_string(folder.join("summary.json")).unwrap();
        let summary: Value = serde_json::from_str(&summary).unwrap();
        assert_eq!(summary["interrupted"], true);
    }
    assert!(go(place.path()).output().unwrap().status.success());
    let after = finished(&folder);
    assert_eq!(after.len(), RUNS);
    check_samples(&folder, &after);
    for run in runs {
        assert!(
            after.values().any(|other| other == run),
            "made again: {run}"
        );
    }
}
