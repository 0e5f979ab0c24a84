//! The command line. What it does is in the crates `experiments`, `report`, `live`, and in `host`
//! for commands that run on an emulated host.

mod check;
mod compare;
mod doctor;
mod documents;
mod examples;
mod host;
mod image;
mod init;
mod logs;
mod package;
mod report;
mod results;
mod run;
mod samples;
mod series;
mod show;
mod simulate;
mod verify;
mod watch;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use host::HostOptions;
use image::ImageCommand;
use mirrorball_experiments::output::provenance;
use mirrorball_experiments::run::plan;
use mirrorball_experiments::spec::{HostFacts, Loaded, SpecError};
use mirrorball_experiments::{bench, exit, list, spec};
use run::RunArguments;

/// A Disco-style research monitor: many guests under one pmap, identical pages kept once.
#[derive(Parser)]
#[command(version, after_help = format!("{}\n\n{}", examples::ALL, exit::HELP), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON, and nothing else, to standard output
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run an experiment, or all of a folder: guests, measurements, results
    #[command(after_help = examples::RUN)]
    Run(Box<RunArguments>),
    /// Print what would be run, with the time and memory that it takes, and start nothing
    #[command(after_help = examples::PLAN)]
    Plan(Box<RunArguments>),
    /// Write an experiment file to begin with
    #[command(after_help = examples::INIT)]
    Init(init::InitOptions),
    /// Show an experiment file, or all of it with defaults and where each value came from
    #[command(after_help = examples::SHOW)]
    Show(show::ShowOptions),
    /// Show why runs failed, with their consoles, events and outputs
    #[command(after_help = examples::LOGS)]
    Logs(logs::LogsOptions),
    /// Print the time series of stored results, one JSON object in each line
    #[command(after_help = examples::SAMPLES)]
    Samples(samples::SamplesOptions),
    /// List the experiments of a folder: purpose, and the time that each takes; or metrics,
    /// mechanisms, workloads, templates
    #[command(after_help = examples::LIST)]
    List {
        /// The folder, or one of the words above
        #[arg(default_value = "experiments")]
        folder: PathBuf,
    },
    /// Print the JSON Schema of experiment files, for editors, or of what runs write, for scripts
    Schema {
        /// Of which file
        #[arg(value_enum, default_value_t = documents::Described::Experiment)]
        of: documents::Described,
        /// Print the reference of all fields instead, in Markdown
        #[arg(long, conflicts_with = "of")]
        reference: bool,
    },
    /// Print completions for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write the pages of all commands to a folder
    Man {
        /// The folder
        folder: Option<PathBuf>,
    },
    /// Watch a run in progress: memory by VM, rates, the scanner; pause a VM, switch a mechanism
    #[command(after_help = examples::WATCH)]
    Watch {
        /// Number of the process that runs it [default: the run that began last]
        process: Option<u32>,
    },
    /// Check experiment files and start nothing
    #[command(after_help = examples::VALIDATE)]
    Validate {
        /// The experiment files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Change a field, such as guests.web.count=8 (may be repeated)
        #[arg(long, value_name = "PATH=VALUE")]
        set: Vec<String>,
    },
    /// Make the images of an experiment, of a folder or of a Linux guest, or list those there are
    #[command(after_help = examples::IMAGE)]
    Image(ImageCommand),
    /// Measure what the mechanisms cost, as ratios from one run
    #[command(after_help = examples::BENCH)]
    Bench {
        /// Repetitions of each measurement
        #[arg(long, default_value_t = bench::LEAST_RUNS, value_parser = clap::value_parser!(u32).range(i64::from(bench::LEAST_RUNS)..))]
        runs: u32,
        /// Only these measurements
        #[arg(long, value_name = "ID")]
        only: Vec<String>,
        /// Also write the JSON to this file
        #[arg(short, long)]
        output: Option<PathBuf>,
        #[command(flatten)]
        host: HostOptions,
    },
    /// Try the memory policy on model guests (policy/models/): thousands of them for an hour in
    /// seconds; needs no KVM
    Simulate {
        /// The file of model guests
        file: PathBuf,
    },
    /// Make one HTML file and figures of stored results; needs no KVM
    #[command(after_help = examples::REPORT)]
    Report(report::ReportOptions),
    /// Judge an experiment's claims from stored results; needs no KVM
    #[command(after_help = examples::CHECK)]
    Check(check::CheckOptions),
    /// Say what changed beyond noise between two results, or two cells; needs no KVM
    #[command(after_help = examples::COMPARE)]
    Compare(compare::CompareOptions),
    /// Pack a results folder with its report, recipes and digests into one archive
    #[command(after_help = examples::PACKAGE)]
    Package(package::PackageOptions),
    /// Check a package: digests, and that every table follows from its runs; needs no KVM
    #[command(after_help = examples::VERIFY)]
    Verify(verify::VerifyOptions),
    /// Say what this host can do and what is in the way; restore KSM after a killed run
    #[command(after_help = examples::DOCTOR)]
    Doctor(doctor::DoctorOptions),
}

impl Cli {
    /// Whether it runs that file.
    fn runs(&self, file: &Path) -> bool {
        matches!(&self.command, Command::Run(arguments) if arguments.runs(file))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    mirrorball_experiments::log::start();
    if cfg!(feature = "broken-share-protocol") {
        eprintln!("mirrorball: built with the broken share protocol: guests WILL lose writes");
    }
    if cfg!(feature = "broken-lend-protocol") {
        eprintln!("mirrorball: built with the broken lend protocol: guests WILL send old bytes");
    }
    match dispatch(&cli) {
        Ok(code) => exit::code(code),
        Err(error) => {
            eprintln!("mirrorball: {error:#}");
            exit::code(exit::INTERNAL)
        }
    }
}

fn dispatch(cli: &Cli) -> anyhow::Result<u8> {
    match &cli.command {
        Command::Run(arguments) => run::run_experiment(arguments, cli.json),
        Command::Plan(arguments) => run::plan(arguments, cli.json),
        Command::Init(options) => init::init(options),
        Command::Show(options) => show::show(options, cli.json),
        Command::Logs(options) => logs::logs(options, cli.json),
        Command::Samples(options) => samples::samples(options),
        Command::List { folder } => list_experiments(folder, cli.json),
        Command::Schema {
            reference: true, ..
        } => print(&spec::reference()).map(|()| exit::OK),
        Command::Schema { of, .. } => print_json(&of.schema()),
        Command::Completions { shell } => documents::completions(*shell),
        Command::Man { folder } => documents::manual(folder.as_deref()),
        Command::Watch { process } => watch::run(*process, cli.json),
        Command::Validate { files, set } => validate(files, set, cli.json),
        Command::Image(command) => image::run(command, cli.json),
        Command::Bench {
            runs,
            only,
            output,
            host,
        } => measure(*runs, only, output.as_deref(), host, cli.json),
        Command::Simulate { file } => simulate::simulate(file, cli.json),
        Command::Report(options) => report::report(options, cli.json),
        Command::Check(options) => check::check(options, cli.json),
        Command::Compare(options) => compare::compare(options, cli.json),
        Command::Package(options) => package::package(options, cli.json),
        Command::Verify(options) => verify::verify(options, cli.json),
        Command::Doctor(options) if options.host.emulated() => {
            host::run_here_as_there(&options.host, None)
        }
        Command::Doctor(options) => doctor::doctor(options, cli.json),
    }
}

/// The folder that a file is, or will be, in.
fn folder_of(file: &Path) -> PathBuf {
    let parent = file.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new(".")).to_owned()
}

/// Reads an experiment file for this machine; its problems go to standard error.
fn load(file: &Path, settings: &[String], results: Option<&Path>) -> Result<Loaded, u8> {
    load_for(
        provenance::memory("MemTotal:"),
        file,
        None,
        settings,
        results,
    )
}

/// Reads an experiment file for a machine with so much memory; its paths are relative to `base`, or
/// to its own folder.
fn load_for(
    memory: Option<u64>,
    file: &Path,
    base: Option<&Path>,
    settings: &[String],
    results: Option<&Path>,
) -> Result<Loaded, u8> {
    let host = HostFacts {
        memory: memory.unwrap_or(u64::MAX),
        results: results.map(Path::to_owned),
    };
    match spec::load(file, base, settings, &host) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("{warning}");
            }
            Ok(loaded)
        }
        Err(error) => {
            eprintln!("{error}");
            if let SpecError::Invalid { .. } = error {
                eprintln!("nothing was started");
            }
            Err(if error.is_host_only() {
                exit::HOST
            } else {
                exit::INVALID
            })
        }
    }
}

fn validate(files: &[PathBuf], settings: &[String], json: bool) -> anyhow::Result<u8> {
    let (mut codes, mut checked) = (Vec::new(), Vec::new());
    for file in files {
        let loaded = load(file, settings, None);
        let plan = loaded.as_ref().ok().map(|l| plan(&l.experiment));
        match &plan {
            _ if json => {
                let valid = plan.is_some();
                checked.push(serde_json::json!({ "file": file, "valid": valid, "plan": plan }));
            }
            Some(plan) => print(&format!("{}: valid; {plan}\n", file.display()))?,
            None => {}
        }
        codes.extend(loaded.err());
    }
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&checked)?))?;
    }
    Ok(exit::worst(codes))
}

fn measure(
    runs: u32,
    only: &[String],
    output: Option<&Path>,
    host: &HostOptions,
    json: bool,
) -> anyhow::Result<u8> {
    if let Err(error) = bench::check(only) {
        eprintln!("mirrorball: {error}");
        return Ok(exit::USAGE);
    }
    if host.emulated() {
        bench::prepare(only, &|line| eprintln!("{line}"))?;
        return host::run_here_as_there(host, output.map(folder_of));
    }
    let report = bench::run(runs, only, |line| eprintln!("{line}"))?;
    let text = format!("{}\n", serde_json::to_string_pretty(&report)?);
    if let Some(path) = output {
        std::fs::write(path, &text)
            .with_context(|| format!("{} can't be written", path.display()))?;
    }
    print(if json { &text } else { &report.table })?;
    Ok(exit::OK)
}

fn list_experiments(folder: &Path, json: bool) -> anyhow::Result<u8> {
    let words = folder.to_str().and_then(list::words::words);
    match words.filter(|_| !folder.exists()) {
        Some(words) if json => return print_json(&words),
        Some(words) => return print(&list::words::text(&words)).map(|()| exit::OK),
        None => {}
    }
    let entries = list::experiments(folder)
        .with_context(|| format!("{}: no folder of experiments", folder.display()))?;
    if json {
        return print_json(&entries);
    }
    print(&list::text(&entries))?;
    Ok(exit::OK)
}

/// Prints a value as JSON, in lines.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<u8> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))?;
    Ok(exit::OK)
}

/// Writes to standard output; a reader that has gone away (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn examples_in_the_help_are_commands() {
        let mut lines = 0;
        let command = Cli::command();
        let helps = command.get_subcommands().chain([&command]);
        for help in helps.filter_map(clap::Command::get_after_help) {
            let help = help.to_string();
            for line in help
                .lines()
                .filter(|line| line.starts_with("  mirrorball "))
            {
                let words = line.trim_start().split("   ").next().unwrap_or_default();
                let read = Cli::try_parse_from(words.split_whitespace());
                assert!(read.is_ok(), "{words}: {}", read.err().unwrap());
                lines += 1;
            }
        }
        assert!(lines > 30, "{lines}");
    }

    #[test]
    fn progress_is_an_option_of_what_shows_it() {
        Cli::command().debug_assert();
        let takes = |words: &[&str]| {
            let all = ["mirrorball"].iter().chain(words).copied();
            Cli::try_parse_from(all.chain(["--progress", "none"])).is_ok()
        };
        assert!(takes(&["run", "x.yaml"]));
        for other in [
            &["validate", "x"][..],
            &["image", "x"],
            &["bench"],
            &["show", "x"],
            &["doctor"],
        ] {
            assert!(!takes(other), "{other:?}");
        }
    }
}
