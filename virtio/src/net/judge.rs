//! Whether a mapping is worth its price: the decision of [`Transfer::Cost`](super::Transfer::Cost).
//!
//! To map a page costs more time than to copy it, on every host that was measured: the kernel changes
//! mappings, other CPUs are told, and the guest meets a fault at its first touch. It pays by the
//! memory saved, if the page stays what it is. Were it copied instead, the scanner would find it in
//! the end and pay for the same mapping, and for finding it. So of a page that stays with probability
//! *k*
//!
//! > mapping it now costs `map + FAULT`, copying it costs `copy + k * (map + FAULT + SCAN)`,
//!
//! and mapping is the cheaper from a certain *k* on. `map` and `copy` are measured as they happen, in
//! this device, for runs of each length; *k* is what pages delivered before have shown
//! ([`Kept`](super::kept::Kept)). Between a yes and a no lies a band in which the last answer stands.
//! Where nearly all pages stay, memory counts and not time; where few do, the reverse.
//!
//! What happens inside the guest can't be seen from here: `FAULT` is a constant, and so is what the
//! scanner would do some other day.

use std::time::Duration;

/// A guest's first read of a mapped page over the first read of a private one, in nanoseconds
/// (`mirrorball bench`, software KVM: 2.7 to 4 us).
const FAULT: f64 = 3000.0;
/// Hashing, finding and comparing a page, in nanoseconds: some 4 KiB at the speed of memory three
/// times, and the books (`mirrorball bench --only merge`).
const SCAN: f64 = 1500.0;
/// Lengths of runs that are told apart: 1, 2 to 3, 4 to 7, 8 to 15, 16 to 31, and longer ones.
const CLASSES: usize = 6;
/// So much of the pages must stay at least, and so much is always enough, whatever the costs.
const BOUNDS: (f64, f64) = (0.25, 0.75);
/// Half the width of the band in which the last answer stands.
const BAND: f64 = 0.125;
/// What is assumed before the first measurement, in nanoseconds: a change of the mappings, a page of
/// it, and a page copied.
const CALL: f64 = 8000.0;
const PAGE: f64 = 400.0;
const COPY: f64 = 400.0;

/// A mean in which what was measured lately counts more, in nanoseconds a page.
#[derive(Clone, Copy, Debug)]
struct Mean(f64);

impl Mean {
    /// How much a measurement counts.
    const WEIGHT: f64 = 1.0 / 16.0;
    /// One that took longer than so many times the mean was interrupted.
    const MOST: f64 = 8.0;

    fn add(&mut self, took: Duration, pages: u32) {
        let each = took.as_secs_f64() * 1e9 / f64::from(pages.max(1));
        self.0 += (each.min(self.0 * Self::MOST) - self.0) * Self::WEIGHT;
    }
}

fn class(pages: u32) -> usize {
    (pages.max(1).ilog2() as usize).min(CLASSES - 1)
}

/// The costs seen so far and the decisions that stand.
#[derive(Debug)]
pub(super) struct Judge {
    map: [Mean; CLASSES],
    copy: Mean,
    /// Runs from this class on are mapped.
    least: usize,
}

impl Default for Judge {
    /// Maps everything until it knows better.
    fn default() -> Self {
        let map = |class| Mean(CALL / f64::from(1_u32 << class) + PAGE);
        Self {
            map: [0, 1, 2, 3, 4, 5].map(map),
            copy: Mean(COPY),
            least: 0,
        }
    }
}

impl Judge {
    /// A run was mapped.
    pub(super) fn mapped(&mut self, took: Duration, pages: u32) {
        self.map[class(pages)].add(took, pages);
    }

    /// Pages were copied.
    pub(super) fn copied(&mut self, took: Duration, pages: u32) {
        self.copy.add(took, pages);
    }

    /// The fewest pages in a row that are worth a mapping, if `stays` is the part of pages that stay
    /// what they are; `u32::MAX` if no number is.
    pub(super) fn least_run(&mut self, stays: f64) -> u32 {
        let worth = |class: &usize| {
            let band = if *class >= self.least { -BAND } else { BAND };
            stays >= threshold(self.map[*class].0, self.copy.0) + band
        };
        self.least = CLASSES - (0..CLASSES).rev().take_while(worth).count();
        match u32::try_from(self.least) {
            Ok(class) if self.least < CLASSES => 1 << class,
            _ => u32::MAX,
        }
    }
}

/// The part of pages that must stay for a mapping to be no dearer than a copy; times in nanoseconds a
/// page.
fn threshold(map: f64, copy: f64) -> f64 {
    let now = map + FAULT;
    ((now - copy) / (now + SCAN)).clamp(BOUNDS.0, BOUNDS.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ns(nanoseconds: u64) -> Duration {
        Duration::from_nanos(nanoseconds)
    }

    #[test]
    fn pages_that_stay_are_mapped_and_pages_that_come_back_are_not() {
        let mut judge = Judge::default();
        assert_eq!(judge.least_run(1.0), 1);
        assert_eq!(judge.least_run(0.0), u32::MAX);
        assert_eq!(judge.least_run(1.0), 1);
    }

    #[test]
    fn a_decision_stands_until_it_is_clearly_wrong() {
        let mut judge = Judge::default();
        assert_eq!(judge.least_run(0.7), 1, "mapping goes on");
        assert_eq!(judge.least_run(0.5), u32::MAX);
        assert_eq!(judge.least_run(0.7), u32::MAX, "copying goes on");
        assert_eq!(judge.least_run(0.9), 1);
    }

    #[test]
    fn where_mapping_is_cheap_fewer_pages_need_to_stay_and_long_runs_first() {
        let mut judge = Judge::default();
        for _ in 0..1000 {
            // A host on which a copy costs nearly what a mapping does, for long runs.
            judge.copied(ns(3000), 1);
            judge.mapped(ns(16 * 500), 16);
            judge.mapped(ns(32 * 500), 32);
            for pages in [1, 2, 4, 8] {
                judge.mapped(ns(20_000) * pages, pages);
            }
        }
        assert_eq!(judge.least_run(0.0), u32::MAX);
        assert_eq!(judge.least_run(0.5), 16);
        // One interruption is no cost.
        judge.mapped(ns(5_000_000), 16);
        assert_eq!(judge.least_run(0.5), 16);
        for _ in 0..1000 {
            judge.mapped(ns(16 * 50_000), 16);
            judge.mapped(ns(32 * 50_000), 32);
        }
        assert_eq!(
            judge.least_run(0.5),
            u32::MAX,
            "and it notices that it was wrong"
        );
        assert_eq!(judge.least_run(1.0), 1, "memory counts where all stay");
    }
}
