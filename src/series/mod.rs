//! `mirrorball run FOLDER`: every experiment of a folder, one after the other.
//!
//! Each is run by a process of its own, as if it had been typed: what ails one leaves the next alone, and
//! those that this machine's KVM can't run go to an emulated host while the others stay here. All files are
//! checked before the first begins.

mod outcome;
mod words;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use mirrorball_experiments::spec::Loaded;
use mirrorball_experiments::{exit, run};
use mirrorball_host::Interrupts;
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;

use crate::results::Results;
use crate::run::{RunArguments, failed, planned};
use crate::{print, print_json};
use outcome::{Outcome, closing, table};
use words::words_for;

/// How often an experiment is looked at, and signals are.
const POLL: Duration = Duration::from_millis(50);

/// An experiment of the folder.
struct Member {
    file: PathBuf,
    loaded: Loaded,
    /// Where its results go.
    directory: PathBuf,
    emulated: bool,
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
        let results = Results::before(&member.directory, member.name());
        let (status, signal) = supervise(command(folder, member, json)?, &interrupts)?;
        let code = code_of(status);
        let judged = [exit::OK, exit::NOT_MET, exit::INCONCLUSIVE].contains(&code);
        let failed = arguments.fails_fast() && !judged;
        end = signal.map(exit::of_signal).or(failed.then_some(code));
        outcomes.push(Outcome::ended(member, code, results.made()));
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

/// Prints what would be run of a folder; the exit code is the worst of the plans'.
pub(crate) fn plan_folder(
    arguments: &RunArguments,
    folder: &Path,
    load: impl Fn(&Path) -> Result<Loaded, u8>,
    json: bool,
) -> anyhow::Result<u8> {
    let members = match members(arguments, folder, load)? {
        Ok(members) => members,
        Err(code) => return Ok(code),
    };
    let mut plans = Vec::new();
    for member in &members {
        match run::dry_run(&member.loaded, &arguments.options(), None) {
            Ok(plan) => plans.push(plan),
            Err(error) => return Ok(failed(&error)),
        }
    }
    if json {
        print_json(&plans)?;
    }
    let mut codes = Vec::new();
    for plan in &plans {
        codes.push(planned(plan, !json, false)?);
    }
    Ok(exit::worst(codes))
}

/// What is to be run, if every file of the folder can be.
fn members(
    arguments: &RunArguments,
    folder: &Path,
    load: impl Fn(&Path) -> Result<Loaded, u8>,
) -> anyhow::Result<Result<Vec<Member>, u8>> {
    if let Some(option) = arguments.of_one_experiment() {
        let folder = folder.display();
        eprintln!("mirrorball: {option} is for one experiment, and {folder} is a folder");
        return Ok(Err(exit::USAGE));
    }
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
                directory: arguments.results(&loaded),
                emulated: run::needs_emulated_host(&loaded.experiment),
                loaded,
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
    fn name(&self) -> &str {
        &self.loaded.experiment.name
    }

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
