//! Results as they are written. Nothing here measures. What the files hold, and what is made of
//! them, is in `mirrorball-report`, which reads them back without KVM.

pub mod environment;
pub mod folder;
pub mod histogram;
pub mod provenance;
pub mod samples;

pub use mirrorball_report::{figure, median, summary, table};

use std::io;
use std::path::PathBuf;

/// A result that could not be written.
#[derive(Debug)]
pub struct OutputError {
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

impl std::fmt::Display for OutputError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.error)?;
        if is_full(&self.error) {
            f.write_str(
                "\n  what was written before is whole; make room there, or choose another \
                 folder with --output, and run it again",
            )?;
        }
        Ok(())
    }
}

/// Whether there was no room: on the file system, in the user's quota or under a file size limit.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

impl std::error::Error for OutputError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// What each file of a run's folder is.
pub const README: &str = "\
What is in this folder
----------------------
summary.json      the figures of every cell (mechanism set): medians of its runs; bytes, seconds,
                  counts; null = not measured. Written anew after every run.
run.json          what was run, with what, on what: the resolved experiment, seed, commit, host,
                  every run with its own figures.
experiment.yaml   the experiment file as it was given.
samples.csv       the time series: one row for each sample of the machine (vm = machine) and of
                  each VM: of as many in turn as 0.8 % of a core is enough for, and of all of
                  them at each phase's end.
memory.svg, .png  machine memory over time: what guests use, and above it what each mechanism
                  saves. The figure says how much guest-physical memory was never touched.
sweep.svg, .png   what is shared and saved against the number of guests, for experiments that
                  change it, with published values where the experiment gives them.
histograms/       HdrHistogram logs (V2, compressed), one for each cell and run; the tag says of
                  what (hold, exit, block, ...); values are nanoseconds.
events/           what happened in each run: phases, the timeline, warnings, failures; one JSON
                  object in each line.
consoles/         all that Linux guests printed on their serial ports; the last lines of the
                  console of other guests that failed.
commands/         what the commands of Linux guests printed.
table.txt         the table that was printed.

A file is whole or it is not there; samples.csv grows during the run and ends with a whole line.
";
