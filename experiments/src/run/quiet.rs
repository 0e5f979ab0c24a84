//! Waiting that can be interrupted: for a time, and for scanners to come to rest.

use std::time::{Duration, Instant};

use super::sampler::Sampler;
use super::signals::Stop;
use crate::spec::Phases;

const SLICE: Duration = Duration::from_millis(5);

/// How settling ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The scanner has looked at the quiet guests as often as it should; or there is none.
    Done,
    /// The time was over first.
    TimedOut,
    /// The user wanted an end.
    Interrupted,
}

/// Sleeps; false when the user wanted an end.
pub fn sleep(time: Duration, stop: &Stop) -> bool {
    let until = Instant::now() + time;
    while stop.requested().is_none() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(SLICE));
    }
    false
}

/// Waits for full scans of quiet guests. The scan under way when they fell quiet does not count.
pub fn settle(sampler: &Sampler, phases: &Phases, stop: &Stop) -> Settled {
    let Some(now) = sampler.reading().scans() else {
        return Settled::Done;
    };
    let wanted = now + 1 + u64::from(phases.settle_scans);
    let until = Instant::now() + phases.settle_timeout.0;
    while sampler
        .reading()
        .scans()
        .is_some_and(|scans| scans < wanted)
    {
        if Instant::now() >= until {
            return Settled::TimedOut;
        }
        if !sleep(SLICE, stop) {
            return Settled::Interrupted;
        }
    }
    Settled::Done
}
