//! How fast a pass may go.
//!
//! The engine asks after every slice; what limits it (rates, a switch, the
//! end of the run) is not its business.

use super::{ScannerConfig, ScannerStats};
use mirrorball_pmap::Spare;
use std::time::{Duration, Instant};

/// Pages of a slice when the scanning thread hashes alone: when they are compared they are still in
/// the core's second-level cache (1 MiB), which is most of what comparing costs.
const ALONE: u32 = 128;

/// Pages of a slice for each of several hashing threads: what it costs to wake them is spread.
const PER_THREAD: u32 = 1024;

/// Pages of a slice at most.
fn most(config: &ScannerConfig) -> u32 {
    match u32::try_from(config.threads) {
        Ok(0 | 1) => ALONE,
        Ok(threads) => threads.saturating_mul(PER_THREAD),
        Err(_) => u32::MAX,
    }
}

/// Slices per second that a rate is spread over.
const SLICES_PER_SECOND: u32 = 50;

/// Work that was not done may be caught up with for this long.
const BURST: Duration = Duration::from_millis(200);

/// What a step of a pass did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    /// Pages hashed.
    pub(super) hashed: u64,
    /// CPU time, hashing threads included.
    pub(super) cpu: Duration,
    /// Pages whose next write will be noticed.
    pub(super) protected: u64,
    /// Pages that were fenced, and are something else or have to be translated anew.
    pub(super) fenced: u64,
}

impl Work {
    /// Pages hashed, and nothing else yet.
    pub(super) fn hashing(hashed: u64) -> Self {
        Self {
            hashed,
            ..Self::default()
        }
    }
}

/// Decides how much is done in one go, and whether and when to go on.
pub(super) trait Pace {
    /// Pages of the next slice at most; not 0.
    fn slice(&self) -> u32;
    /// Pages of one VM whose next write may be had noticed now, if not all.
    fn protectable(&self) -> Option<u64>;
    /// Called after a slice (or a step without pages) with what it did and the
    /// statistics as they are now; may wait. False ends the pass.
    fn go_on(&mut self, work: Work, stats: &ScannerStats) -> bool;
}

/// Full speed.
#[derive(Debug)]
pub(super) struct Unlimited {
    most: u32,
}

impl Unlimited {
    pub(super) fn new(config: &ScannerConfig) -> Self {
        Self { most: most(config) }
    }
}

impl Pace for Unlimited {
    fn slice(&self) -> u32 {
        self.most
    }
    fn protectable(&self) -> Option<u64> {
        None
    }
    fn go_on(&mut self, _work: Work, _stats: &ScannerStats) -> bool {
        true
    }
}

/// What busy guests may be burdened with.
#[derive(Debug)]
pub(super) struct Thrift {
    spare: Spare,
    /// What a guest's fault costs it.
    fault: Duration,
}

impl Thrift {
    /// Pages of a portion, however little there is to spend.
    const LEAST: f64 = 32.0;
    /// Pages of a slice while there is not much to spend: sharing them takes the core in one go.
    const SLICE: u32 = 64;

    pub(super) fn new(config: &ScannerConfig, fault: Duration) -> Self {
        Self {
            spare: Spare::new(config.burden.filter(|percent| *percent > 0.0)),
            fault,
        }
    }

    fn slice(&self) -> u32 {
        if self.spare.is_free() {
            u32::MAX
        } else {
            Self::SLICE
        }
    }

    fn protectable(&self) -> Option<u64> {
        let left = self.spare.left()?.as_secs_f64();
        let fault = self.fault.as_secs_f64().max(f64::MIN_POSITIVE);
        let pages = (left / fault).max(Self::LEAST);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and whole pages are enough"
        )]
        Some(pages as u64)
    }

    /// Charges work.
    fn charge(&mut self, work: &Work) {
        #[allow(clippy::cast_precision_loss, reason = "far fewer than 2^52 pages")]
        let pages = (work.protected + work.fenced) as f64;
        self.spare.spend(work.cpu, self.fault.mul_f64(pages));
    }

    /// How long to wait before the next step, as far as can be told.
    fn wait(&mut self) -> Duration {
        self.spare.wait()
    }
}

/// All limits.
#[derive(Debug)]
pub(super) struct Limits {
    budget: Budget,
    thrift: Thrift,
}

impl Limits {
    pub(super) fn new(config: &ScannerConfig, fault: Duration) -> Self {
        Self {
            budget: Budget::new(config, Instant::now()),
            thrift: Thrift::new(config, fault),
        }
    }

    pub(super) fn slice(&self) -> u32 {
        self.budget.slice().min(self.thrift.slice())
    }

    /// Pages of a slice where no rate counts.
    pub(super) fn most(&self) -> u32 {
        self.budget.most
    }

    pub(super) fn protectable(&self) -> Option<u64> {
        self.thrift.protectable()
    }

    /// Charges work and returns how long to wait before [`Self::wait`] is asked.
    pub(super) fn charge(&mut self, work: &Work) -> Duration {
        self.thrift.charge(work);
        self.budget.charge(work.hashed, work.cpu, Instant::now())
    }

    /// How long to wait before it is asked again; not at all if work may go on.
    pub(super) fn wait(&mut self) -> Duration {
        self.thrift.wait()
    }
}

/// The two rate limits as one debt: how long the work done so far should have
/// taken. Pure arithmetic; the caller tells the time.
#[derive(Debug)]
struct Budget {
    pages_per_second: Option<u32>,
    cpu_fraction: Option<f64>,
    most: u32,
    /// Up to when the work done so far is paid for, by either limit.
    paid: [Instant; 2],
}

impl Budget {
    fn new(config: &ScannerConfig, now: Instant) -> Self {
        let percent = config.cpu_percent.filter(|percent| *percent > 0.0);
        Self {
            pages_per_second: config.pages_per_second.map(|rate| rate.max(1)),
            cpu_fraction: percent.map(|percent| percent / 100.0),
            most: most(config),
            paid: [now; 2],
        }
    }

    /// Pages that a slice may have.
    fn slice(&self) -> u32 {
        let by_rate = self
            .pages_per_second
            .map_or(self.most, |rate| (rate / SLICES_PER_SECOND).max(16));
        // A slice of 256 pages takes some 0.3 ms: a pause of 30 ms at 1 %.
        let by_cpu = self.cpu_fraction.map_or(self.most, |_| ALONE);
        by_rate.min(by_cpu).min(self.most)
    }

    /// Charges work and returns how long to wait before the next.
    fn charge(&mut self, pages: u64, cpu: Duration, now: Instant) -> Duration {
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        let cost = [
            self.pages_per_second
                .map(|rate| Duration::from_secs(1) * pages / rate),
            self.cpu_fraction.map(|fraction| cpu.div_f64(fraction)),
        ];
        let mut wait = Duration::ZERO;
        for (paid, cost) in self.paid.iter_mut().zip(cost) {
            let Some(cost) = cost else { continue };
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            *paid = (*paid).max(earliest) + cost;
            wait = wait.max(paid.saturating_duration_since(now));
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(rate: Option<u32>, percent: Option<f64>, now: Instant) -> Budget {
        let config = ScannerConfig {
            pages_per_second: rate,
            cpu_percent: percent,
            ..Default::default()
        };
        Budget::new(&config, now)
    }

    /// Runs one simulated minute and returns the pages and the CPU time used.
    fn simulate(rate: Option<u32>, percent: Option<f64>) -> (f64, f64) {
        let start = Instant::now();
        let mut now = start;
        let mut budget = budget(rate, percent, now);
        let (mut pages, mut cpu) = (0, Duration::ZERO);
        while now - start < Duration::from_secs(60) {
            let slice = budget.slice();
            let cost = Duration::from_nanos(1500) * slice;
            now += cost;
            pages += u64::from(slice);
            cpu += cost;
            now += budget.charge(u64::from(slice), cost, now);
        }
        #[allow(clippy::cast_precision_loss, reason = "small")]
        (pages as f64 / 60.0, cpu.as_secs_f64() / 60.0)
    }

    #[test]
    fn rates_are_kept_over_a_minute() {
        let (pages, _) = simulate(Some(10_000), None);
        assert!((pages - 10_000.0).abs() < 200.0, "{pages}");
        let (_, cpu) = simulate(None, Some(2.0));
        assert!((cpu - 0.02).abs() < 0.001, "{cpu}");
        let (pages, cpu) = simulate(Some(10_000), Some(0.5));
        assert!(
            cpu < 0.0052 && pages < 10_000.0,
            "the tighter limit counts: {cpu} {pages}"
        );
    }

    #[test]
    fn idle_time_is_not_saved_up_for_long() {
        let start = Instant::now();
        let mut budget = budget(Some(1000), None, start);
        let later = start + Duration::from_secs(3600);
        let wait = budget.charge(1000, Duration::ZERO, later);
        assert_eq!(wait, Duration::from_secs(1) - BURST);
    }

    #[test]
    fn without_limits_nothing_waits() {
        let now = Instant::now();
        assert_eq!(
            budget(None, None, now).charge(1 << 30, Duration::from_secs(9), now),
            Duration::ZERO
        );
        assert_eq!(budget(None, None, now).slice(), ALONE);
    }
}
