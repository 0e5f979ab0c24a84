//! Waiting that can be interrupted: for a time, and for scanners to come to rest.

use std::time::{Duration, Instant};

use super::sampler::Sampler;
use super::signals::Stop;
use crate::spec::{Phases, Stable};

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

/// Waits for full scans of quiet guests, and for what is saved to rest if it shall. The scan under way
/// when they fell quiet does not count.
pub fn settle(sampler: &Sampler, phases: &Phases, stop: &Stop) -> Settled {
    let Some(now) = sampler.reading().scans() else {
        return Settled::Done;
    };
    let wanted = now + 1 + u64::from(phases.settle_scans);
    let until = Instant::now() + phases.settle_timeout.0;
    let mut rest = phases.settle_stable.map(Rest::new);
    loop {
        let scanned = sampler
            .reading()
            .scans()
            .is_none_or(|scans| scans >= wanted);
        let rests = rest
            .as_mut()
            .is_none_or(|rest| rest.look(sampler.saved(), Instant::now()));
        if scanned && rests {
            return Settled::Done;
        }
        if Instant::now() >= until {
            return Settled::TimedOut;
        }
        if !sleep(SLICE, stop) {
            return Settled::Interrupted;
        }
    }
}

/// Whether a number stays the same.
#[derive(Debug)]
struct Rest {
    wanted: Stable,
    /// The number when it began to rest, and when that was.
    since: Option<(u64, Instant)>,
}

impl Rest {
    const fn new(wanted: Stable) -> Self {
        let since = None;
        Self { wanted, since }
    }

    /// Whether it has stayed so near to what it was for so long.
    fn look(&mut self, now: u64, time: Instant) -> bool {
        match self.since {
            Some((then, since)) if then.abs_diff(now) <= self.wanted.within.0 => {
                time.duration_since(since) >= self.wanted.time.0
            }
            _ => {
                self.since = Some((now, time));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Size, Time};

    #[test]
    fn a_curve_rests_when_it_has_become_flat() {
        let mut rest = Rest::new(Stable {
            time: Time(Duration::from_secs(3)),
            within: Size(10),
        });
        let began = Instant::now();
        // It nears 1000: 500, 750, 875, ...
        let curve = (0_u64..40).map(|second| 1000 - (1000 >> (second + 1).min(20)));
        let mut looks = curve.zip(0..);
        let rests =
            looks.find(|(saved, second)| rest.look(*saved, began + Duration::from_secs(*second)));
        // From 997 in second 7 on it changes by no more than 10.
        assert_eq!(rests.map(|(_, second)| second), Some(10));
        assert!(
            !rest.look(2000, began + Duration::from_secs(60)),
            "it moves again"
        );
    }
}
