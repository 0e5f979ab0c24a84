//! `mirrorball run FOLDER`: every experiment of a folder, one after the other.
//!
//! Each is run by a process of its own, as if it had been typed: what ails one leaves the next alone, and
//! those that this machine's KVM can't run go to an emulated host while the others stay here. All files are
//! checked before the first begins.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use mirrorball_experiments::output::summary::{Summary, Verdict};
use mirrorball_experiments::spec::Loaded;
use mirrorball_experiments::{exit, run};
use mirrorball_host::Interrupts;
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use serde::Serialize;

use crate::host::{OPTION, inner_arguments};
use crate::run::RunArguments;
use crate::{Cli, print, print_json};

/// How often an experiment is looked at, and signals are.
const POLL: Duration = Duration::from_millis(50);

/// An experiment of the folder.
struct Member {
    file: PathBuf,
    name: String,
    /// Where its results go.
    directory: PathBuf,
    emulated: bool,
}

/// How one went.
#[derive(Debug, Serialize)]
struct Outcome {
    file: PathBuf,
    name: String,
    /// Whether it was run on an emulated host.
    emulated: bool,
    /// `None` if it was not begun.
    exit_code: Option<u8>,
    results: Option<PathBuf>,
    summary: Option<Summary>,
}

/// The experiment files of a folder, in the order of their names; folders in it are not looked into.
///
/// # Errors
/// The folder can't be read.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let kind = path.extension().and_then(|kind| kind.to_str());
        if matches!(kind, Some("yaml" | "yml")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Runs the experiments of a folder; the exit code is the worst of theirs.
pub(crate) fn run_folder(
    arguments: &RunArguments,
    folder: &Path,
    load: impl Fn(&Path) -> Result<Loaded, u8>,
    json: bool,
) -> anyhow::Result<u8> {
    if let Some(option) = arguments.of_one_experiment() {
        eprintln!(
            "mirrorball: {option} is for one experiment, and {} is a folder",
            folder.display()
        );
        return Ok(exit::USAGE);
    }
    let members = match members(arguments, folder, load)? {
        Ok(members) => members,
        Err(code) => return Ok(code),
    };
    let interrupts = Interrupts::install()?;
    let mut outcomes = Vec::new();
    let mut end = None;
    for (number, member) in members.iter().enumerate() {
        if end.is_some() {
            outcomes.push(Outcome::not_begun(member));
            continue;
        }
        if !arguments.is_silent() {
            let (file, host) = (member.file.display(), member.host());
            let (number, all) = (number + 1, members.len());
            eprintln!("[{number}/{all}] {file}{host}");
        }
        let before = results_of(member);
        let (status, signal) = supervise(command(folder, member, json)?, &interrupts)?;
        let code = code_of(status);
        let results = results_of(member).difference(&before).last().cloned();
        let summary = results.as_ref().and_then(|results| summary_of(results));
        let failed = arguments.fails_fast() && ![exit::OK, exit::NOT_MET].contains(&code);
        end = signal.map(signal_code).or(failed.then_some(code));
        outcomes.push(Outcome {
            exit_code: Some(code),
            results,
            summary,
            ..Outcome::not_begun(member)
        });
    }
    let codes = outcomes.iter().filter_map(|outcome| outcome.exit_code);
    let code = exit::worst(codes.chain(end));
    if json {
        print_json(&serde_json::json!({ "exit_code": code, "experiments": outcomes }))?;
    } else {
        print(&table(&outcomes))?;
        eprint!("{}", closing(&outcomes));
    }
    Ok(code)
}

/// What is to be run, if every file of the folder can be.
fn members(
    arguments: &RunArguments,
    folder: &Path,
    load: impl Fn(&Path) -> Result<Loaded, u8>,
) -> anyhow::Result<Result<Vec<Member>, u8>> {
    let files = files(folder).with_context(|| format!("{} can't be read", folder.display()))?;
    if files.is_empty() {
        let folder = folder.display();
        eprintln!("mirrorball: {folder}: there is no experiment file (*.yaml) in this folder");
        eprintln!("  `mirrorball list {folder}` shows those in folders below it");
        return Ok(Err(exit::INVALID));
    }
    let (mut members, mut codes) = (Vec::new(), Vec::new());
    for file in files {
        match load(&file) {
            Ok(loaded) => members.push(Member {
                name: loaded.experiment.name.clone(),
                directory: arguments.results(&loaded),
                emulated: run::needs_emulated_host(&loaded.experiment),
                file,
            }),
            Err(code) => {
                codes.push(code);
                eprintln!("mirrorball: {} can't be run", file.display());
            }
        }
    }
    if codes.is_empty() {
        return Ok(Ok(members));
    }
    eprintln!("mirrorball: no experiment of the folder was started");
    Ok(Err(exit::worst(codes)))
}

impl Member {
    fn host(&self) -> &'static str {
        match self.emulated {
            true => " (on an emulated host: this machine's KVM can't run it)",
            false => "",
        }
    }
}

/// This command for one experiment of the folder.
fn command(folder: &Path, member: &Member, json: bool) -> anyhow::Result<Command> {
    let given: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words = words_for(&given, folder, &member.file, member.emulated)
        .context("the command line can't be told apart")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(words);
    if json {
        // What it prints is in its results folder, too.
        command.stdout(Stdio::null());
    }
    Ok(command)
}

/// The arguments that run one file as `given` runs its folder: an option's value may read like the folder,
/// so the one that makes another file of it counts. Options of the emulated host go where one is needed.
fn words_for(
    given: &[OsString],
    folder: &Path,
    file: &Path,
    emulated: bool,
) -> Option<Vec<OsString>> {
    let mut words = match emulated {
        true => given.to_vec(),
        false => inner_arguments(given.iter().cloned()),
    };
    if emulated && !words.iter().any(|word| is_host(word)) {
        let end = words.iter().position(|word| word == "--");
        let end = end.unwrap_or(words.len());
        words.splice(end..end, [OPTION.into(), "emulated".into()]);
    }
    let places = words.iter().enumerate();
    let places = places.filter(|(_, word)| Path::new(word) == folder);
    let candidates = places.map(|(place, _)| {
        let mut words = words.clone();
        words[place] = file.into();
        words
    });
    candidates.into_iter().find(|words| {
        let all = [OsString::from("mirrorball")].into_iter();
        let read = Cli::try_parse_from(all.chain(words.iter().cloned()));
        read.is_ok_and(|read| read.runs(file))
    })
}

fn is_host(word: &OsStr) -> bool {
    let rest = word.as_encoded_bytes().strip_prefix(OPTION.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'=')
}

/// Runs a command to its end, passing signals on; its status, and a signal if one came.
fn supervise(
    mut command: Command,
    interrupts: &Interrupts,
) -> anyhow::Result<(ExitStatus, Option<i32>)> {
    let spawned = command.spawn();
    let mut child = spawned.context("this program can't be started again")?;
    let mut came = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, came.or_else(|| interrupts.take())));
        }
        if let Some(signal) = interrupts.take() {
            // The terminal's Ctrl-C goes to all processes of the group: once more would be twice.
            let named = Signal::from_named_raw(signal);
            let ours = signal == Signal::INT.as_raw() && is_in_foreground();
            if let Some(named) = named.filter(|_| !ours) {
                // It may have ended in between.
                let _ = kill_process(Pid::from_child(&child), named);
            }
            came = Some(signal);
        }
        std::thread::sleep(POLL);
    }
}

/// Whether a terminal's keys reach this process.
fn is_in_foreground() -> bool {
    let owners = [
        tcgetpgrp(std::io::stdin()),
        tcgetpgrp(std::io::stderr()),
        tcgetpgrp(std::io::stdout()),
    ];
    owners.contains(&Ok(getpgrp()))
}

fn code_of(status: ExitStatus) -> u8 {
    // What a signal ended, or died otherwise, said nothing.
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(exit::INTERNAL)
}

fn signal_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(exit::INTERRUPTED)
}

/// Results folders of an experiment, by their names, which end with the time.
fn results_of(member: &Member) -> BTreeSet<PathBuf> {
    let prefix = format!("{}-", member.name);
    let entries = std::fs::read_dir(&member.directory);
    let entries = entries.into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    named.map(|entry| entry.path()).collect()
}

fn summary_of(results: &Path) -> Option<Summary> {
    let text = std::fs::read_to_string(results.join("summary.json")).ok()?;
    serde_json::from_str(&text).ok()
}

impl Outcome {
    fn not_begun(member: &Member) -> Self {
        Self {
            file: member.file.clone(),
            name: member.name.clone(),
            emulated: member.emulated,
            exit_code: None,
            results: None,
            summary: None,
        }
    }

    /// What is said of it in a word or two.
    fn verdict(&self) -> String {
        match (&self.summary, self.exit_code) {
            (_, None) => "not begun".to_owned(),
            (Some(summary), _) if summary.interrupted => "stopped".to_owned(),
            (Some(summary), _) => summary.verdict.word().to_owned(),
            (None, Some(code)) => format!("no result ({code})"),
        }
    }

    /// Claims that are met, of how many; empty without any.
    fn claims(&self) -> String {
        let cells = self.summary.iter().flat_map(|summary| &summary.cells);
        let claims = cells.flat_map(|cell| &cell.expect).collect::<Vec<_>>();
        let met = claims.iter().filter(|claim| claim.verdict == Verdict::Met);
        match claims.len() {
            0 => String::new(),
            all => format!("{} of {all}", met.count()),
        }
    }
}

/// A line for each experiment.
fn table(outcomes: &[Outcome]) -> String {
    let head = ["experiment", "verdict", "claims met", "results"].map(str::to_owned);
    let rows = outcomes.iter().map(|outcome| {
        let results = outcome.results.as_ref();
        let results = results.map_or_else(String::new, |path| path.display().to_string());
        [
            outcome.name.clone(),
            outcome.verdict(),
            outcome.claims(),
            results,
        ]
    });
    let rows = std::iter::once(head).chain(rows).collect::<Vec<_>>();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.max().unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    let mut text = "\n".to_owned();
    for [name, verdict, claims, results] in &rows {
        let [a, b, c] = widths;
        let line = format!("{name:a$}  {verdict:b$}  {claims:c$}  {results}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// What to do next.
fn closing(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let results = |outcome: &Outcome| outcome.results.clone();
    let stopped = |outcome: &&Outcome| outcome.summary.as_ref().is_some_and(|s| s.interrupted);
    for folder in outcomes.iter().filter(stopped).filter_map(results) {
        let _ = writeln!(
            text,
            "next:    mirrorball run --resume {}",
            folder.display()
        );
    }
    let left = outcomes
        .iter()
        .filter(|outcome| outcome.exit_code.is_none());
    for outcome in left {
        let _ = writeln!(text, "next:    mirrorball run {}", outcome.file.display());
    }
    let folders = outcomes.iter().filter(|outcome| outcome.summary.is_some());
    let folders = folders.filter_map(results);
    let folders = folders.map(|folder| folder.display().to_string());
    let folders = folders.collect::<Vec<_>>().join(" ");
    if !folders.is_empty() {
        let _ = writeln!(text, "report:  mirrorball report {folders}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(given: &[&str], emulated: bool) -> String {
        let given = given.iter().map(OsString::from).collect::<Vec<_>>();
        let words = words_for(&given, Path::new("esx"), Path::new("esx/a.yaml"), emulated);
        let words = words.unwrap().into_iter();
        let words = words.map(|word| word.into_string().unwrap());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_file_takes_the_place_of_its_folder_and_of_nothing_else() {
        let given = ["run", "-o", "esx", "esx", "--runs", "2"];
        assert_eq!(words(&given, false), "run -o esx esx/a.yaml --runs 2");
        let given = ["--json", "run", "esx/", "--output=esx"];
        assert_eq!(words(&given, false), "--json run esx/a.yaml --output=esx");
    }

    #[test]
    fn the_emulated_host_is_for_those_that_need_it() {
        assert_eq!(
            words(&["run", "esx"], true),
            "run esx/a.yaml --host emulated"
        );
        assert_eq!(
            words(&["run", "--", "esx"], true),
            "run --host emulated -- esx/a.yaml"
        );
        let given = [
            "run",
            "--host=emulated",
            "--host-memory",
            "3GiB",
            "esx",
            "--smoke",
        ];
        assert_eq!(
            words(&given, true),
            "run --host=emulated --host-memory 3GiB esx/a.yaml --smoke"
        );
        assert_eq!(words(&given, false), "run esx/a.yaml --smoke");
    }
}
