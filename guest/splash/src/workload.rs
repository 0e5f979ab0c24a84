//! Running one command: parameters in, results in the status page.
//!
//! Each workload verifies its own results and says so in the same few counters, so that the
//! monitor can judge them all alike.

mod echo;
mod exchange;
mod files;
mod hostile;
mod idle;
mod message;
mod pmake;
mod probe;
mod scan;
mod sort;
mod stream;
mod torture;
mod touch;

use crate::cache;
use crate::console;
use crate::disk;
use crate::pattern::Mismatch;
use crate::port;
use crate::shared::{self, Message};
use alloc::string::String;
use core::fmt::{self, Write};
use mirrorball_abi::layout::PAGE_SIZE;
use mirrorball_abi::{
    OUTCOME_FAILED, OUTCOME_MISMATCH, OUTCOME_UNKNOWN, Phase, Workload, WorkloadKind,
};

/// One command's parameters.
#[derive(Clone, Debug)]
struct Job {
    seed: u64,
    vm: u32,
    params: [u64; 16],
}

impl Job {
    /// The parameter at `index`, or the workload's default for a 0.
    fn param(&self, index: usize, default: u64) -> u64 {
        match self.params.get(index).copied().unwrap_or(0) {
            0 => default,
            value => value,
        }
    }

    /// [`Job::param`] as a count of things in memory.
    fn count(&self, index: usize, default: usize) -> usize {
        shared::usize_of(self.param(index, default as u64))
    }
}

/// Runs the newest command, whose number is `command`, to its end.
pub fn execute(command: u64) {
    let workload = shared::workload();
    // The phase first: whoever sees the new number must not see the old command's `Done` with it.
    shared::set_phase(Phase::Running);
    shared::begin_command(command);
    port::phase_changed();
    let start = port::ticks();
    cache::set_limit(cache::limit_of(workload.cache_percent));
    let job = Job {
        seed: workload.seed,
        vm: shared::vm(),
        params: workload.params,
    };
    let outcome = match run(&workload, &job) {
        Ok(()) if shared::MISMATCHES.get() > 0 => OUTCOME_MISMATCH,
        Ok(()) => 0,
        Err((outcome, reason)) => {
            say(format_args!("{reason}"));
            outcome
        }
    };
    shared::TICKS.set(port::ticks() - start);
    disk::renew();
    shared::set_outcome(outcome);
    shared::set_phase(Phase::Done);
    port::phase_changed();
}

fn run(workload: &Workload, job: &Job) -> Result<(), (u32, String)> {
    let kind = WorkloadKind::from_raw(workload.kind).ok_or_else(|| {
        (
            OUTCOME_UNKNOWN,
            alloc::format!("no workload {}", workload.kind),
        )
    })?;
    let result = match kind {
        WorkloadKind::Idle => idle::run(),
        WorkloadKind::Pmake => pmake::run(job),
        WorkloadKind::Scan => scan::run(job),
        WorkloadKind::Splash => sort::run(job),
        WorkloadKind::Touch => touch::run(job),
        WorkloadKind::Torture => torture::run(job),
        WorkloadKind::Hostile => hostile::run(job),
        WorkloadKind::Probe => probe::run(job),
        WorkloadKind::FileServer => files::serve(job),
        WorkloadKind::FileClient => files::read(job),
        WorkloadKind::Exchange => exchange::run(job),
        WorkloadKind::Stream => stream::run(job),
        WorkloadKind::Echo => echo::run(job),
    };
    result.map_err(|reason| (OUTCOME_FAILED, reason))
}

/// `wanted` pages, or why a guest with `free` pages can't have them: a workload takes no more than
/// `most`. A smaller size than the one asked for would be another experiment.
fn fitting(what: &str, wanted: usize, most: usize, free: usize) -> Result<usize, String> {
    if wanted <= most {
        return Ok(wanted);
    }
    let kib = |pages: usize| pages.saturating_mul(PAGE_SIZE) / 1024;
    Err(alloc::format!(
        "{what}: {wanted} pages ({} KiB) do not fit: the workload takes at most {most} ({} KiB) of the \
         {free} pages ({} KiB) that are free",
        kib(wanted),
        kib(most),
        kib(free)
    ))
}

/// Puts a message into the status page.
fn say(text: fmt::Arguments<'_>) {
    let mut message = Message::default();
    let _ = message.write_fmt(text);
    message.finish();
}

/// Counts something that is not what it should be; the first of a command is told in the status page,
/// all on the console.
fn wrong(what: fmt::Arguments<'_>) {
    let text = alloc::format!("vm {}: {what}", shared::vm());
    if shared::MISMATCHES.increase(1) == 0 {
        say(format_args!("{text}"));
    }
    console::line(format_args!("{text}"));
}

/// Counts a page with a wrong byte. `what` names the page.
fn mismatch(what: fmt::Arguments<'_>, found: Mismatch) {
    let Mismatch {
        offset,
        expected,
        got,
    } = found;
    wrong(format_args!(
        "{what}, offset {offset:#x}: expected {expected:#018x}, got {got:#018x}"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_the_arithmetic() {
        assert_eq!(fitting("8 keys", 300, 300, 400), Ok(300));
        assert_eq!(
            fitting("the region", 301, 300, 400).unwrap_err(),
            "the region: 301 pages (1204 KiB) do not fit: the workload takes at most 300 (1200 KiB) of \
             the 400 pages (1600 KiB) that are free"
        );
    }
}
