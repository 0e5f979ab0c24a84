//! A pass as the scheduler sees it: what it has used, and whether it goes before others.

use crate::cpu;
use mirrorball_pmap::Undisturbed;
use std::time::{Duration, Instant};

/// How long the scanning thread goes before all others in one go, more or less: taking that right costs
/// as much as sharing two pages, and whoever had it all the time would take the guests' cores.
const LONGEST: Duration = Duration::from_millis(2);

/// The scanning thread's turn on its core.
#[derive(Debug)]
pub(super) struct Turn {
    clock: Duration,
    first: Option<(Undisturbed, Instant)>,
}

impl Turn {
    pub(super) fn new() -> Self {
        Self {
            clock: cpu::thread(),
            first: None,
        }
    }

    /// CPU time of this thread since the last call.
    pub(super) fn used(&mut self) -> Duration {
        let before = std::mem::replace(&mut self.clock, cpu::thread());
        self.clock.saturating_sub(before)
    }

    /// Goes before others from here on, for fences are to be closed.
    pub(super) fn go_first(&mut self) {
        self.first
            .get_or_insert_with(|| (Undisturbed::begin(), Instant::now()));
    }

    /// Between two fences: lets others go first again if that was long enough.
    pub(super) fn yield_after(&mut self) {
        let long = |(_, since): &(Undisturbed, Instant)| since.elapsed() >= LONGEST;
        if self.first.as_ref().is_some_and(long) {
            self.first = None;
        }
    }
}
