//! What the policy did, added up.

use std::collections::BTreeSet;
use std::time::Duration;

use mirrorball_pmap::SwapCounts;
use mirrorball_policy::state::State;

use super::guard::Free;
use crate::output::summary;

/// Sums of a run so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// The least that was free, as a part of the budget; below 0 is overshoot.
    least_free: Option<f64>,
    /// The most that was kept free because guests can't be stopped at once, as a part of the budget.
    reserve: Option<f64>,
    soft: Duration,
    hard: Duration,
    low: Duration,
    held: Duration,
    cpu: Duration,
    /// Distances of estimates from the truth, as parts of the guests' memory, and how many.
    errors: (f64, u32),
    warnings: BTreeSet<String>,
}

impl Tally {
    /// So much of the budget is free.
    pub fn free(&mut self, free: Free) {
        let least = self
            .least_free
            .map_or(free.all, |least| least.min(free.all));
        let reserve = free.all - free.usable;
        self.least_free = Some(least);
        self.reserve = Some(self.reserve.map_or(reserve, |most| most.max(reserve)));
    }

    /// Adds what another has seen.
    pub fn add(&mut self, other: &Self) {
        let both = |a: Option<f64>, b: Option<f64>, pick: fn(f64, f64) -> f64| match (a, b) {
            (Some(a), Some(b)) => Some(pick(a, b)),
            (a, b) => a.or(b),
        };
        self.least_free = both(self.least_free, other.least_free, f64::min);
        self.reserve = both(self.reserve, other.reserve, f64::max);
        self.soft += other.soft;
        self.hard += other.hard;
        self.low += other.low;
        self.held += other.held;
        self.cpu += other.cpu;
        self.errors.0 += other.errors.0;
        self.errors.1 += other.errors.1;
        self.warnings.extend(other.warnings.iter().cloned());
    }

    /// For so long the machine was in that state, with so many guests held.
    pub fn spent(&mut self, state: State, held: usize, time: Duration) {
        match state {
            State::High => {}
            State::Soft => self.soft += time,
            State::Hard => self.hard += time,
            State::Low => self.low += time,
        }
        self.held += time * u32::try_from(held).unwrap_or(u32::MAX);
    }

    /// The thread has used so much CPU time in all.
    pub fn cpu(&mut self, time: Duration) {
        self.cpu = time;
    }

    /// An estimate was so far from the truth.
    pub fn error(&mut self, part: f64) {
        self.errors.0 += part;
        self.errors.1 += 1;
    }

    /// Something went wrong; told once.
    pub fn warn(&mut self, warning: String) {
        if self.warnings.insert(warning.clone()) {
            tracing::warn!("{warning}");
        }
    }

    /// What went wrong.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.iter().cloned().collect()
    }

    /// All of it, as results have it.
    pub fn figures(&self, swap: Option<&SwapCounts>) -> summary::Policy {
        let seconds = |time: Duration| Some(time.as_secs_f64());
        let latency = swap.filter(|swap| !swap.latency.is_empty());
        let p99 = latency.map(|swap| Duration::from_nanos(swap.latency.value_at_quantile(0.99)));
        let (sum, count) = self.errors;
        summary::Policy {
            overshoot: self.least_free.map(|least| (-least).max(0.0)),
            least_free: self.least_free,
            reserve: self.reserve,
            soft_seconds: seconds(self.soft),
            hard_seconds: seconds(self.hard),
            low_seconds: seconds(self.low),
            held_seconds: seconds(self.held),
            swapped_out_pages: swap.map(|swap| swap.written),
            swapped_in_pages: swap.map(|swap| swap.read),
            swap_in_p99_seconds: p99.map(|time| time.as_secs_f64()),
            active_error: (count > 0).then(|| sum / f64::from(count)),
            cpu_seconds: seconds(self.cpu),
        }
    }
}
