//! What the policy did, added up.

use std::collections::BTreeSet;
use std::time::Duration;

use mirrorball_pmap::{PAGE_BYTES, SwapCounts};
use mirrorball_policy::state::State;

use super::guard::Free;
use super::guest::Compared;
use super::sharing::Ended;
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
    /// Passes of the scanner that came before swapping, pages that they freed, and their time.
    passes: (u64, u64, Duration),
    /// Distances of estimates from the truth, as parts of the guests' memory, and how many.
    errors: (f64, u32),
    /// The longest that an estimate took to come up to a guest that uses more, in periods.
    lag: Option<f64>,
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

    /// Equal pages were looked for before any were swapped.
    pub fn shared(&mut self, ended: Ended) {
        self.passes.0 += 1;
        self.passes.1 += ended.freed;
        self.passes.2 += ended.time;
    }

    /// The thread has used so much CPU time in all.
    pub fn cpu(&mut self, time: Duration) {
        self.cpu = time;
    }

    /// An estimate was held against the truth.
    pub fn compared(&mut self, compared: Compared) {
        if let Some(part) = compared.error {
            self.errors.0 += part;
            self.errors.1 += 1;
        }
        if let Some(lag) = compared.lag {
            self.lag = Some(self.lag.map_or(lag, |most| most.max(lag)));
        }
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
            share_passes: Some(self.passes.0),
            share_freed_pages: Some(self.passes.1),
            share_seconds: seconds(self.passes.2),
            swapped_out_pages: swap.map(|swap| swap.written),
            swapped_in_pages: swap.map(|swap| swap.read),
            packed_pages: swap.map(|swap| swap.packed),
            unpacked_pages: swap.map(|swap| swap.unpacked),
            packed_ratio: swap.and_then(ratio),
            pool_bytes: swap.map(|swap| swap.pool_most),
            swap_in_p99_seconds: p99.map(|time| time.as_secs_f64()),
            active_error: (count > 0).then(|| sum / f64::from(count)),
            active_lag_periods: self.lag,
            cpu_seconds: seconds(self.cpu),
        }
    }
}

/// How much smaller pages got, those that were kept compressed.
#[allow(clippy::cast_precision_loss, reason = "numbers of bytes")]
fn ratio(swap: &SwapCounts) -> Option<f64> {
    let whole = (swap.packed * PAGE_BYTES) as f64;
    (swap.packed_bytes > 0).then(|| whole / swap.packed_bytes as f64)
}
