//! `--host emulated`: the same command on an emulated host.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mirrorball_experiments::run::{Options, Style, linux};
use mirrorball_experiments::spec::{EmulatedClock, Loaded, Size};
use mirrorball_experiments::{exit, image};
use mirrorball_host::{
    EmulatedHost, HostError, Interrupts, Job, MOST_CORES, Machine, Streams, check_visible,
};

use crate::results::Results;

/// Memory that the emulated host's own kernel, its files and the monitor may need beside guests.
const OWN_MEMORY: u64 = 3 << 29;
/// The least memory that is chosen where none was asked for.
const DEFAULT_MEMORY: u64 = 2 << 30;
/// How often a new emulated host does what one left that stood still.
const RENEWALS: u32 = 5;
/// How all options below begin.
pub(crate) const OPTION: &str = "--host";

/// Where a command runs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Emulated host")]
pub(crate) struct HostOptions {
    /// Run on an emulated host: needs no KVM here, only QEMU; sizes are real, times are not
    #[arg(long, value_enum, value_name = "KIND")]
    host: Option<Kind>,
    /// Its memory, such as 4GiB [default: what the experiment needs]
    #[arg(long, value_name = "SIZE", requires = "host")]
    host_memory: Option<Size>,
    /// Its cores: with several, QEMU gives a guest an interrupt twice now and then [default: one
    /// for each NUMA node]
    #[arg(long, value_name = "N", requires = "host",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_CORES)))]
    host_cores: Option<u32>,
    /// Its NUMA nodes, among which memory and cores are split evenly
    #[arg(long, value_name = "N", requires = "host", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    host_numa: u32,
    /// Whether its KVM uses nested paging, or shadow page tables
    #[arg(long, value_enum, value_name = "SWITCH", requires = "host", default_value_t = Switch::On)]
    host_npt: Switch,
    /// Whether its cores are emulated in parallel: faster, but QEMU then fails now and then
    #[arg(long, value_enum, value_name = "SWITCH", requires = "host", default_value_t = Switch::Off)]
    host_parallel: Switch,
    /// What its time is [default: what the experiment says, real]
    #[arg(long, value_enum, value_name = "CLOCK", requires = "host")]
    host_clock: Option<Clock>,
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
enum Clock {
    /// This machine's
    Real,
    /// Instructions, at 2 ns each: the same whatever else this machine does; QEMU then fails now and then
    Instructions,
}

impl From<Clock> for EmulatedClock {
    fn from(clock: Clock) -> Self {
        match clock {
            Clock::Real => Self::Real,
            Clock::Instructions => Self::Instructions,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// AMD SVM with nested paging, emulated by QEMU TCG
    Emulated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl HostOptions {
    /// Whether the command is not for this machine.
    pub(crate) const fn emulated(&self) -> bool {
        matches!(self.host, Some(Kind::Emulated))
    }

    /// Memory that was asked for, bytes.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.host_memory.map(|size| size.0)
    }

    /// The machine, with memory for guests that need so much, and that clock unless another was asked for.
    fn machine(&self, guests: u64, clock: EmulatedClock) -> Machine {
        let needed = guests.saturating_add(OWN_MEMORY).max(DEFAULT_MEMORY);
        Machine {
            memory: self.memory().unwrap_or(needed.next_multiple_of(1 << 20)),
            cores: self.host_cores.unwrap_or(self.host_numa).min(MOST_CORES),
            numa_nodes: self.host_numa,
            nested_paging: self.host_npt == Switch::On,
            parallel: self.host_parallel == Switch::On,
            by_instructions: self.host_clock.map_or(clock, EmulatedClock::from)
                == EmulatedClock::Instructions,
        }
    }
}

/// Runs an experiment that was read here on an emulated host; images are made here, where that is
/// faster and what was made stays. What a host leaves that stands still is done on a new one.
pub(crate) fn run_experiment(
    file: &Path,
    loaded: &Loaded,
    options: &Options,
    host: &HostOptions,
    resumed: Option<&Path>,
    words_to_resume: impl Fn(&Path) -> Vec<OsString>,
) -> anyhow::Result<u8> {
    let interrupts = Interrupts::install()?;
    let say = |line: &str| {
        if options.progress != Style::None {
            eprintln!("{line}");
        }
    };
    if let Err(error) = check_visible(file) {
        return Ok(failed(&error));
    }
    let (experiment, cache) = (&loaded.experiment, image::cache_folder());
    let seed = options.seed.unwrap_or(experiment.seed);
    for (id, source) in &experiment.images {
        let made = image::prepare(source, &loaded.folder, seed, &cache);
        if let Some(signal) = interrupts.take() {
            return Ok(failed(&HostError::Stopped(signal)));
        }
        match made {
            Ok(image) if image.cached => {}
            Ok(image) => say(&format!("image {id}: built ({})", image.path.display())),
            Err(error) => {
                eprintln!("mirrorball: image {id}: {error}");
                return Ok(exit::HOST);
            }
        }
    }
    let made = linux::prepare(experiment, &loaded.folder, &say);
    if let Some(signal) = interrupts.take() {
        return Ok(failed(&HostError::Stopped(signal)));
    }
    if let Err(error) = made {
        eprintln!("mirrorball: {error}");
        return Ok(error.exit_code());
    }
    let results = options
        .output
        .as_ref()
        .unwrap_or(&experiment.outputs.directory);
    let wanted = &experiment.machine;
    let machine = host.machine(wanted.memory.0, wanted.emulated_clock);
    let folders = Results::before(results, &experiment.name);
    let mut words = inner_arguments(std::env::args_os().skip(1));
    let mut left = RENEWALS;
    loop {
        let writable = vec![results.clone()];
        match start(machine, words.clone(), writable, &interrupts, &say)? {
            Err(error @ HostError::StandsStill) if left > 0 => {
                left -= 1;
                eprintln!("mirrorball: {error}");
                say("a new one does what is left");
                let folder = resumed.map(Path::to_owned).or_else(|| folders.made());
                words = folder.map_or(words, |folder| words_to_resume(&folder));
            }
            ended => return Ok(ended.unwrap_or_else(|error| failed(&error))),
        }
    }
}

/// Runs this command on an emulated host; it may write to `folder`.
pub(crate) fn run_here_as_there(host: &HostOptions, folder: Option<PathBuf>) -> anyhow::Result<u8> {
    let interrupts = Interrupts::install()?;
    let say = |line: &str| eprintln!("{line}");
    let words = inner_arguments(std::env::args_os().skip(1));
    let folders = folder.into_iter().collect();
    let ended = start(
        host.machine(0, EmulatedClock::Real),
        words,
        folders,
        &interrupts,
        &say,
    )?;
    Ok(ended.unwrap_or_else(|error| failed(&error)))
}

/// Runs this program with these words on a machine that may write to these folders.
fn start(
    machine: Machine,
    words: Vec<OsString>,
    writable: Vec<PathBuf>,
    interrupts: &Interrupts,
    say: &dyn Fn(&str),
) -> anyhow::Result<Result<u8, HostError>> {
    let host = EmulatedHost {
        machine,
        job: Job::ourselves(words, writable)?,
        cache: image::packages_folder(),
    };
    Ok(mirrorball_host::run(
        &host,
        Streams::standard(),
        interrupts,
        say,
    ))
}

/// Tells of an error of the emulated host; its exit code.
fn failed(error: &HostError) -> u8 {
    eprintln!("mirrorball: {error}");
    match error {
        HostError::Stopped(signal) => exit::of_signal(*signal),
        _ => exit::HOST,
    }
}

/// The arguments without the options of [`HostOptions`], each of which has a value.
pub(crate) fn inner_arguments(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            kept.push(argument);
            kept.extend(arguments);
            break;
        }
        match host_option(&argument) {
            None => kept.push(argument),
            Some(HasValue::Beside) => drop(arguments.next()),
            Some(HasValue::Within) => {}
        }
    }
    kept
}

enum HasValue {
    Within,
    Beside,
}

fn host_option(argument: &OsStr) -> Option<HasValue> {
    let rest = argument
        .as_encoded_bytes()
        .strip_prefix(OPTION.as_bytes())?;
    match rest.first() {
        None | Some(b'-') if !rest.contains(&b'=') => Some(HasValue::Beside),
        Some(b'-' | b'=') => Some(HasValue::Within),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        host: HostOptions,
    }

    fn options(words: &[&str]) -> Result<HostOptions, clap::Error> {
        let all = ["mirrorball"].iter().chain(words);
        Only::try_parse_from(all).map(|only| only.host)
    }

    #[test]
    fn the_machine_fits_the_experiment_unless_it_was_said_what_it_is() {
        let default = options(&["--host", "emulated"]).unwrap();
        assert!(default.emulated() && default.memory().is_none());
        assert_eq!(default.machine(0, EmulatedClock::Real).memory, 2 << 30);
        assert_eq!(
            default.machine((4 << 30) + 1, EmulatedClock::Real).memory,
            (11 << 29) + (1 << 20)
        );
        let words = [
            "--host=emulated",
            "--host-memory",
            "3 GiB",
            "--host-cores=4",
        ];
        let more = [
            "--host-numa=2",
            "--host-npt",
            "off",
            "--host-clock=instructions",
        ];
        let said = options(&[&words[..], &more].concat()).unwrap();
        let machine = Machine {
            memory: 3 << 30,
            cores: 4,
            numa_nodes: 2,
            nested_paging: false,
            parallel: false,
            by_instructions: true,
        };
        assert_eq!(said.machine(64 << 30, EmulatedClock::Real), machine);
        assert!(!options(&[]).unwrap().emulated());
    }

    #[test]
    fn an_experiments_clock_is_used_unless_another_was_asked_for() {
        let counts = |words: &[&str], wanted| {
            let words = [&["--host", "emulated"], words].concat();
            let options = options(&words).unwrap();
            options.machine(0, wanted).by_instructions
        };
        assert!(counts(&[], EmulatedClock::Instructions));
        assert!(!counts(&[], EmulatedClock::Real));
        let real = ["--host-clock", "real"];
        assert!(!counts(&real, EmulatedClock::Instructions));
    }

    #[test]
    fn options_of_a_host_that_was_not_asked_for_are_refused() {
        assert!(options(&["--host-cores", "2"]).is_err());
        assert!(options(&["--host", "emulated", "--host-memory", "3"]).is_err());
        assert!(options(&["--host", "emulated", "--host-cores", "0"]).is_err());
    }

    #[test]
    fn the_inner_command_has_all_but_the_host() {
        let inner = |words: &[&str]| {
            let kept = inner_arguments(words.iter().map(OsString::from));
            let kept = kept.iter().map(|word| word.to_str().unwrap().to_owned());
            kept.collect::<Vec<_>>().join(" ")
        };
        let line = [
            "run",
            "--host",
            "emulated",
            "x.yaml",
            "--host-npt=off",
            "--json",
        ];
        assert_eq!(inner(&line), "run x.yaml --json");
        assert_eq!(
            inner(&["--host=emulated", "--host-memory", "2GiB", "-o", "p"]),
            "-o p"
        );
        assert_eq!(
            inner(&["run", "--hostile", "--", "--host"]),
            "run --hostile -- --host"
        );
    }
}
