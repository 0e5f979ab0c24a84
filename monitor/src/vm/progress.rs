//! Whether what a thin guest says of itself ever goes back.
//!
//! Command numbers and phases of the status page only go on, and within a command its counters only grow.
//! A status that goes back is a page of guest memory that does not hold what the guest has written there:
//! it was lost, or is an older copy. No pattern of a workload's would show that, for the counters of
//! what it found wrong are gone with the page. (A hostile guest may write anything there itself.)

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use mirrorball_abi::{Phase, Status};
use mirrorball_pmap::AddressSpace;
use vm_memory::{Bytes, GuestMemoryMmap};

use super::mailbox::status_field;

/// Counters that only grow while a command runs: their names and where they are.
const COUNTERS: [(&str, usize); 4] = [
    ("verified pages", offset_of!(Status, verified_pages)),
    ("wrong pages", offset_of!(Status, mismatches)),
    ("operations", offset_of!(Status, operations)),
    ("bytes", offset_of!(Status, bytes)),
];

/// What a guest has said at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    command: u64,
    phase: u32,
    counters: [u64; COUNTERS.len()],
}

/// The last that a guest has said, and whether that ever was less than before.
///
/// Looks at one guest come one after another, under the lock that its owner holds this by: of two that
/// overlap, the older could be taken for a step back.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    last: Said,
    back: Option<String>,
}

impl Progress {
    /// Looks at the status page. `given` tells the number of the last command that was given: it is
    /// asked after the page was read.
    pub(crate) fn look(&mut self, space: &AddressSpace, given: impl FnOnce() -> u64) {
        let access = space.access();
        let Some(said) = read(access.memory()) else {
            return;
        };
        drop(access);
        // What a page held that can't be had is not what anybody reads there.
        if !space.is_abandoned() {
            self.compare(said, given());
        }
    }

    /// What has gone back, if anything has.
    pub(crate) fn back(&self) -> Option<&str> {
        self.back.as_deref()
    }

    fn compare(&mut self, said: Said, given: u64) {
        let back = step_back(&self.last, &said, given);
        self.last = said;
        self.back = self.back.take().or(back);
    }
}

/// The number first: the guest writes it last, when all else of a command is there. If no newer command
/// was given until all was read, the guest has not begun one, which resets its counters.
fn read(memory: &GuestMemoryMmap) -> Option<Said> {
    let number = |offset| memory.load::<u64>(status_field(offset), Ordering::Acquire);
    let command = number(offset_of!(Status, command)).ok()?;
    let phase = status_field(offset_of!(Status, phase));
    let phase = memory.load::<u32>(phase, Ordering::Acquire).ok()?;
    let mut counters = [0; COUNTERS.len()];
    for (counter, (_, offset)) in counters.iter_mut().zip(COUNTERS) {
        *counter = number(offset).ok()?;
    }
    Some(Said {
        command,
        phase,
        counters,
    })
}

/// What is less than it was, though nothing but the guest's memory has changed.
fn step_back(last: &Said, now: &Said, given: u64) -> Option<String> {
    let less = |what: &str, now: u64, last: u64| {
        (now < last).then(|| format!("{what} went back from {last} to {now}"))
    };
    if let Some(back) = less("the number of the command", now.command, last.command) {
        return Some(back);
    }
    // Once it is up a guest has a phase, whatever it does.
    let up = Phase::Booting as u32;
    if last.phase >= up && now.phase < up {
        return less("the phase", now.phase.into(), last.phase.into());
    }
    if now.command != last.command || given != now.command {
        return None;
    }
    let counters = COUNTERS.iter().zip(now.counters.iter().zip(last.counters));
    less("the phase", now.phase.into(), last.phase.into()).or_else(|| {
        counters
            .filter_map(|((what, _), (now, last))| less(what, *now, last))
            .next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: u32 = Phase::Running as u32;
    const DONE: u32 = Phase::Done as u32;

    const fn said(command: u64, phase: u32, verified: u64) -> Said {
        Said {
            command,
            phase,
            counters: [verified, 0, verified, 0],
        }
    }

    fn back(says: &[(Said, u64)]) -> Option<String> {
        let mut progress = Progress::default();
        for &(said, given) in says {
            progress.compare(said, given);
        }
        progress.back().map(str::to_owned)
    }

    #[test]
    fn a_status_page_of_zeros_is_a_step_back_even_if_it_counts_on() {
        let lost = [(said(1, RUNNING, 2_000_000), 1), (said(0, 0, 22_903), 1)];
        let cause = back(&lost).unwrap();
        assert_eq!(cause, "the number of the command went back from 1 to 0");
        let before = [(said(0, 2, 0), 0), (said(0, 0, 0), 0)];
        assert_eq!(back(&before).unwrap(), "the phase went back from 2 to 0");
    }

    #[test]
    fn an_older_copy_of_the_page_is_a_step_back_and_is_not_forgotten() {
        let says = [
            (said(1, RUNNING, 500), 1),
            (said(1, RUNNING, 400), 1),
            (said(1, RUNNING, 600), 1),
        ];
        assert_eq!(
            back(&says).unwrap(),
            "verified pages went back from 500 to 400"
        );
        let says = [(said(1, DONE, 500), 1), (said(1, RUNNING, 500), 1)];
        assert_eq!(back(&says).unwrap(), "the phase went back from 4 to 3");
    }

    #[test]
    fn a_new_command_begins_anew() {
        let says = [
            (said(0, 2, 0), 0),
            // It has seen the command, and not yet named it.
            (said(0, RUNNING, 0), 1),
            (said(1, RUNNING, 0), 1),
            (said(1, RUNNING, 700), 1),
            (said(1, DONE, 700), 1),
            (said(1, RUNNING, 700), 2),
            (said(1, RUNNING, 0), 2),
            (said(2, RUNNING, 0), 2),
            (said(2, DONE, 30), 2),
        ];
        assert_eq!(back(&says), None);
    }
}
