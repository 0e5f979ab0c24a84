//! `mirrorball run`: a new experiment, or the rest of an interrupted one.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mirrorball_experiments::exit;
use mirrorball_experiments::output::summary::Verdict;
use mirrorball_experiments::output::{provenance, table};
use mirrorball_experiments::run::{
    self, Budget, Finished, OnFailure, Options, Plan, RunError, Style, Unfinished,
};
use mirrorball_experiments::spec::{Loaded, Size, Time};

use crate::compare::{self, CompareOptions, percent};
use crate::host::{self, HostOptions};
use crate::{load_for, print, print_json, series};

/// Causes that are shown; a fault of the host often fails all guests alike.
const MOST_CAUSES: usize = 5;

/// What `run` takes.
#[derive(Args)]
pub(crate) struct RunArguments {
    /// The experiment file, or a folder: its experiments by name, one after the other
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    file: Option<PathBuf>,
    /// Do what is left of an interrupted experiment in this results folder
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["output", "runs", "seed", "retries", "only", "set"])]
    resume: Option<PathBuf>,
    /// With --resume: do failed runs again too
    #[arg(long, requires = "resume")]
    retry_failed: bool,
    /// Folder for results instead of the file's
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Runs of each cell instead of the file's
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// Seed instead of the file's
    #[arg(long)]
    seed: Option<u64>,
    /// Make a run again so often that failed by the host's fault, instead of the file's
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// Change a field of the file, such as guests.web.count=8 (may be repeated)
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Only this cell (may be repeated)
    #[arg(long, value_name = "CELL")]
    only: Vec<String>,
    /// Show this VM's console on standard error while it runs (may be repeated)
    #[arg(long, value_name = "VM")]
    console: Vec<String>,
    /// Go on with the next run even after an error that ails the whole host
    #[arg(long, conflicts_with = "fail_fast")]
    keep_going: bool,
    /// End the experiment with the first run that fails
    #[arg(long)]
    fail_fast: bool,
    /// Begin no other run when so many have failed
    #[arg(long, value_name = "N", conflicts_with_all = ["fail_fast", "keep_going"],
          value_parser = clap::value_parser!(u32).range(1..))]
    max_failures: Option<u32>,
    /// Run every cell once, as shortly as possible, to see that it works: what it gives is no result
    #[arg(long, conflicts_with_all = ["runs", "resume"])]
    smoke: bool,
    /// Exit with 8 if a claim can't be judged
    #[arg(long)]
    strict: bool,
    /// Compare with a stored result afterwards, or with one cell of it (folder:cell)
    #[arg(long, value_name = "RESULT")]
    compare: Option<String>,
    /// With --compare: exit with 7 if a figure is worse by more than so many percent
    #[arg(long, value_name = "PERCENT", requires = "compare", value_parser = percent)]
    fail_on_regression: Option<f64>,
    /// With --compare: although this condition differs, for example provenance.host
    #[arg(long, value_name = "FIELD", requires = "compare")]
    allow: Vec<String>,
    /// Print what would be run, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Start nothing if it should take longer than this, by earlier runs or else the file's estimate
    #[arg(long, value_name = "TIME")]
    max_time: Option<Time>,
    /// Start nothing if guests of a run should use more machine memory than this
    #[arg(long, value_name = "SIZE")]
    max_memory: Option<Size>,
    /// How progress is shown on standard error
    #[arg(long, value_enum, default_value_t = ProgressStyle::Auto)]
    progress: ProgressStyle,
    /// Serve figures for Prometheus while it runs, such as on 127.0.0.1:9300
    #[arg(long, value_name = "ADDR", conflicts_with = "host")]
    metrics: Option<String>,
    #[command(flatten)]
    host: HostOptions,
}

#[derive(Clone, Copy, ValueEnum)]
enum ProgressStyle {
    /// A live line on a terminal, plain lines elsewhere
    Auto,
    /// A live line
    Bar,
    /// A line when a run ends, and at least one in 30 s
    Plain,
    /// Nothing but warnings and the result
    None,
}

impl From<ProgressStyle> for Style {
    fn from(style: ProgressStyle) -> Self {
        match style {
            ProgressStyle::Auto => Self::Auto,
            ProgressStyle::Bar => Self::Bar,
            ProgressStyle::Plain => Self::Plain,
            ProgressStyle::None => Self::None,
        }
    }
}

impl RunArguments {
    fn on_failure(&self) -> OnFailure {
        match (self.keep_going, self.fail_fast, self.max_failures) {
            (true, ..) => OnFailure::KeepGoing,
            (_, true, _) => OnFailure::End,
            (.., Some(most)) => OnFailure::EndAfter(most),
            _ => OnFailure::GoOn,
        }
    }

    /// Whether it is that file that is to be run.
    pub(crate) fn runs(&self, file: &Path) -> bool {
        self.file.as_deref() == Some(file)
    }

    /// An option that was given and makes no sense for several experiments.
    pub(crate) fn of_one_experiment(&self) -> Option<&'static str> {
        let given = [
            ("--only", !self.only.is_empty()),
            ("--console", !self.console.is_empty()),
            ("--compare", self.compare.is_some()),
            ("--metrics", self.metrics.is_some()),
        ];
        given
            .iter()
            .find(|(_, given)| *given)
            .map(|(name, _)| *name)
    }

    /// Whether nothing but warnings and results is to be said.
    pub(crate) fn is_silent(&self) -> bool {
        Style::from(self.progress) == Style::None
    }

    /// Whether no experiment begins after one that failed.
    pub(crate) const fn fails_fast(&self) -> bool {
        self.fail_fast
    }

    /// The words that do what is left of the experiment in this results folder as this command would, all
    /// but where.
    pub(crate) fn words_to_resume(&self, folder: &Path, json: bool) -> Vec<OsString> {
        let mut words = vec!["run".into(), "--resume".into(), folder.into()];
        let switches = [
            ("--json", json),
            ("--retry-failed", self.retry_failed),
            ("--keep-going", self.keep_going),
            ("--fail-fast", self.fail_fast),
            ("--strict", self.strict),
        ];
        let given = switches.iter().filter(|(_, given)| *given);
        words.extend(given.map(|(name, _)| OsString::from(name)));
        let progress = self.progress.to_possible_value();
        let values = [
            ("--progress", progress.map(|style| style.get_name().into())),
            ("--max-failures", self.max_failures.map(|n| n.to_string())),
            ("--compare", self.compare.clone()),
            (
                "--fail-on-regression",
                self.fail_on_regression.map(|percent| percent.to_string()),
            ),
        ];
        let lists = [("--console", &self.console), ("--allow", &self.allow)];
        let listed = lists.into_iter().flat_map(|(name, values)| {
            let values = values.iter().cloned();
            values.map(move |value| (name, value))
        });
        let given = values.into_iter();
        let given = given.filter_map(|(name, value)| Some((name, value?)));
        for (name, value) in given.chain(listed) {
            words.extend([name.into(), value.into()]);
        }
        words
    }

    /// Where the results of an experiment go.
    pub(crate) fn results(&self, loaded: &Loaded) -> PathBuf {
        let output = self.output.as_ref();
        output.map_or_else(|| loaded.experiment.outputs.directory.clone(), Clone::clone)
    }

    const fn budget(&self) -> Budget {
        Budget {
            time: self.max_time,
            memory: self.max_memory,
        }
    }

    /// The options of a new experiment.
    pub(crate) fn options(&self) -> Options {
        Options {
            output: self.output.clone(),
            runs: self.runs,
            seed: self.seed,
            retries: self.retries,
            only: self.only.clone(),
            smoke: self.smoke,
            budget: self.budget(),
            console: self.console.clone(),
            progress: self.progress.into(),
            on_failure: self.on_failure(),
            metrics: self.metrics.clone(),
            ..Options::default()
        }
    }
}

/// Prints what would be run; the exit code.
pub(crate) fn plan(arguments: &RunArguments, json: bool) -> anyhow::Result<u8> {
    start(arguments, true, json)
}

/// Runs an experiment, or what is left of one; the exit code.
pub(crate) fn run_experiment(arguments: &RunArguments, json: bool) -> anyhow::Result<u8> {
    start(arguments, arguments.dry_run, json)
}

fn start(arguments: &RunArguments, dry_run: bool, json: bool) -> anyhow::Result<u8> {
    if let Some(folder) = arguments.file.as_deref().filter(|file| file.is_dir()) {
        let memory = arguments.host.memory();
        let memory = memory.or_else(|| provenance::memory("MemTotal:"));
        let results = arguments.output.as_deref();
        let load = |file: &Path| load_for(memory, file, None, &arguments.set, results);
        return match dry_run {
            true => series::plan_folder(arguments, folder, load, json),
            false => series::run_folder(arguments, folder, load, json),
        };
    }
    let mut options = arguments.options();
    let unusable = arguments.compare.as_ref();
    if let Some(code) = unusable.and_then(|before| check_comparison(before, json)) {
        return Ok(code);
    }
    let mut unfinished = None;
    if let Some(folder) = &arguments.resume {
        match Unfinished::open(folder, arguments.retry_failed) {
            Ok(found) => {
                options = Options {
                    on_failure: options.on_failure,
                    console: options.console,
                    metrics: options.metrics,
                    budget: options.budget,
                    ..found.options(options.progress)
                };
                unfinished = Some(found);
            }
            Err(error) => return Ok(failed(&error.into())),
        }
    }
    let file = unfinished.as_ref().map(Unfinished::file);
    let Some(file) = file.or_else(|| arguments.file.clone()) else {
        anyhow::bail!("there is neither a file nor a folder to run");
    };
    let memory = arguments.host.memory();
    let memory = memory.or_else(|| provenance::memory("MemTotal:"));
    let base = unfinished.as_ref().map(Unfinished::base);
    let settings = unfinished
        .as_ref()
        .map_or(&arguments.set[..], Unfinished::settings)
        .to_vec();
    let results = options.output.as_deref();
    let loaded = load_for(memory, &file, base.as_deref(), &settings, results);
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    if dry_run || options.budget.is_given() {
        let plan = match run::dry_run(&loaded, &options, unfinished.as_ref()) {
            Ok(plan) => plan,
            Err(error) => return Ok(failed(&error)),
        };
        if dry_run || !plan.over.is_empty() {
            return planned(&plan, dry_run, json);
        }
    }
    if arguments.host.emulated() {
        // The process on the emulated host opens the folder, and locks it.
        drop(unfinished);
        let resume = |folder: &Path| arguments.words_to_resume(folder, json);
        return host::run_experiment(
            &file,
            &loaded,
            &options,
            &arguments.host,
            arguments.resume.as_deref(),
            resume,
        );
    }
    match run_here(&loaded, &options, unfinished) {
        Ok(finished) => {
            let code = tell(&finished, arguments.strict, json)?;
            compared(arguments, &finished, code)
        }
        Err(error) => Ok(failed(&error)),
    }
}

/// Why a result can't be compared with afterwards; the exit code.
fn check_comparison(before: &str, json: bool) -> Option<u8> {
    if json {
        eprintln!(
            "mirrorball: --compare prints a text; `mirrorball compare --json` is for scripts"
        );
        return Some(exit::USAGE);
    }
    let error = compare::check(before).err()?;
    eprintln!("mirrorball: {error}");
    Some(exit::DAMAGED)
}

/// Compares what was run with a stored result, if that is wanted; the exit code of both.
fn compared(arguments: &RunArguments, finished: &Finished, code: u8) -> anyhow::Result<u8> {
    let Some(before) = &arguments.compare else {
        return Ok(code);
    };
    let folder = finished.folder.display().to_string();
    let cell = before.rsplit_once(':').map(|(_, cell)| cell);
    let cell = cell.filter(|_| !Path::new(before).exists());
    let options = CompareOptions {
        before: before.clone(),
        after: vec![cell.map_or(folder.clone(), |cell| format!("{folder}:{cell}"))],
        fail_on_regression: arguments.fail_on_regression,
        strict: arguments.strict,
        allow: arguments.allow.clone(),
    };
    // What was interrupted, or has failed, can't be compared as a whole.
    if ![exit::OK, exit::NOT_MET, exit::INCONCLUSIVE].contains(&code) {
        return Ok(code);
    }
    let found = compare::compare(&options, false)?;
    Ok(exit::worst([code, found]))
}

/// Shows a plan that is not run, or why it is not; the exit code.
pub(crate) fn planned(plan: &Plan, wanted: bool, json: bool) -> anyhow::Result<u8> {
    match (wanted, json) {
        (true, true) => {
            print_json(plan)?;
        }
        (true, false) => print(&plan.text())?,
        _ => {}
    }
    for over in &plan.over {
        eprintln!("mirrorball: {over}");
    }
    Ok(match plan.over.is_empty() {
        true => exit::OK,
        false => exit::HOST,
    })
}

fn run_here(
    loaded: &Loaded,
    options: &Options,
    unfinished: Option<Unfinished>,
) -> Result<Finished, RunError> {
    match unfinished {
        Some(unfinished) => run::resume(loaded, options, unfinished),
        None => run::run(loaded, options),
    }
}

pub(crate) fn failed(error: &RunError) -> u8 {
    eprintln!("mirrorball: {error}");
    error.exit_code()
}

fn tell(finished: &Finished, strict: bool, json: bool) -> anyhow::Result<u8> {
    if json {
        print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&finished.summary)?
        ))?;
    } else {
        print(&format!(
            "{}\n",
            table::render(&finished.summary, !std::io::stdout().is_terminal())
        ))?;
    }
    if finished.summary.smoke {
        eprintln!("mirrorball: a smoke run: every cell once, cut short; these figures say nothing");
    }
    let causes = &finished.summary.causes;
    for cause in causes.iter().take(MOST_CAUSES) {
        eprintln!("mirrorball: {cause}");
    }
    if causes.len() > MOST_CAUSES {
        let more = causes.len() - MOST_CAUSES;
        eprintln!("mirrorball: {more} more causes are in summary.json");
    }
    for (cell, outcome) in finished.summary.missed_warnings() {
        let (id, word) = (&outcome.id, outcome.verdict.word());
        let whose = outcome.whose(cell);
        eprintln!("mirrorball: warning: {whose}: expectation {id} is {word}");
    }
    eprint!("{}", finished.closing());
    let unsure = finished.summary.verdict == Verdict::Inconclusive;
    Ok(match finished.exit_code {
        exit::OK if strict && unsure => exit::INCONCLUSIVE,
        code => code,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{Cli, Command};

    fn arguments(words: &[OsString]) -> RunArguments {
        let program = [OsString::from("mirrorball")].into_iter();
        match Cli::try_parse_from(program.chain(words.iter().cloned())) {
            Ok(Cli {
                command: Command::Run(arguments),
                ..
            }) => *arguments,
            Ok(_) => panic!("{words:?} is another command"),
            Err(error) => panic!("{words:?}: {error}"),
        }
    }

    #[test]
    fn what_is_left_is_done_with_the_options_that_are_not_in_the_folder() {
        let given = "run fig2.yaml --runs 3 --seed 7 --only a -o out --set seed=1 --host emulated --json \
                     --strict --keep-going --progress none --console b-1 --compare old --allow host \
                     --fail-on-regression 2.5";
        let given: Vec<_> = given.split_whitespace().map(OsString::from).collect();
        let words = arguments(&given).words_to_resume(Path::new("out/fig2-1"), true);
        assert!(words.iter().any(|word| word == "--json"));
        let again = arguments(&words);
        assert_eq!(again.resume, Some("out/fig2-1".into()));
        assert!(again.strict && again.keep_going && !again.fail_fast && !again.retry_failed);
        assert!(matches!(again.progress, ProgressStyle::None));
        assert_eq!(again.console, ["b-1"]);
        assert_eq!(again.compare.as_deref(), Some("old"));
        assert_eq!(again.allow, ["host"]);
        assert_eq!(again.fail_on_regression, Some(2.5));
        assert!(!again.host.emulated(), "it is on the emulated host already");

        let given = ["run", "--resume", "x", "--retry-failed", "--max-failures=2"];
        let words = arguments(&given.map(OsString::from)).words_to_resume(Path::new("x"), false);
        let again = arguments(&words);
        assert!(again.retry_failed && again.max_failures == Some(2));
        assert!(words.iter().all(|word| word != "--json"));
    }
}
