//! What has to stay free because guests can't be stopped at once.
//!
//! Whoever watches a machine's memory sees a moment late that it is nearly gone, and guests that are
//! told to stop take some more before they do. What they take in that time is taken beyond what there
//! was. ESX Server's low state (OSDI'02, section 6.3) holds VMs below a fixed part of memory, which is
//! enough where that part is large against this. Here machines are small and processors fast, so the
//! reserve is found out: how fast guests take memory, times how late they are stopped.

use crate::whole;

/// Pages a second that a core takes at least: a kernel zeroes some 1 GiB.
const LEAST_SPEED: f64 = 262_144.0;
/// Seconds that a look is late at least, for whatever was not seen yet.
const LEAST_LATE: f64 = 0.000_2;
/// Seconds after which half of what was once seen is forgotten.
const HALF_LIFE: f64 = 10.0;
/// Speed is taken over no less than this, seconds: what comes in lumps is no speed.
const SHORTEST_SPAN: f64 = 0.001;
/// The part of the budget that the reserve takes at most.
const MOST: f64 = 0.05;
/// Pauses between two looks, seconds: when memory may be gone at once, and when it may not.
const SHORTEST: f64 = 0.000_1;
const LONGEST: f64 = 0.001;

/// How fast guests take memory, and how late it is noticed. Counts of pages, times in seconds.
#[derive(Clone, Debug)]
pub struct Pace {
    least_speed: f64,
    speed: f64,
    late: f64,
    overrun: f64,
    /// Taken since the span began, and its length.
    span: (f64, f64),
}

impl Pace {
    /// Nothing seen yet, on a machine with so many cores.
    #[must_use]
    pub fn new(cores: u32) -> Self {
        let speed = LEAST_SPEED * f64::from(cores.max(1));
        Self {
            least_speed: speed,
            speed,
            late: LEAST_LATE,
            overrun: 0.0,
            span: (0.0, 0.0),
        }
    }

    /// Memory was looked at: `more` pages are used than at the last look, which was `passed` seconds
    /// ago and was to be followed by this one after `planned`.
    pub fn looked(&mut self, more: u64, passed: f64, planned: f64) {
        let forgotten = 0.5_f64.powf(passed / HALF_LIFE);
        self.late = (self.late * forgotten)
            .max(passed - planned)
            .max(LEAST_LATE);
        self.overrun *= forgotten;
        self.span = (self.span.0 + more as f64, self.span.1 + passed);
        self.speed = (self.speed * forgotten).max(self.least_speed);
        if self.span.1 >= SHORTEST_SPAN {
            self.speed = self.speed.max(self.span.0 / self.span.1);
            self.span = (0.0, 0.0);
        }
    }

    /// Guests took so many pages after all of them had been told to stop.
    pub fn overran(&mut self, pages: u64) {
        self.overrun = self.overrun.max(pages as f64);
    }

    /// Pages of a budget that are to stay free. It is at most a twentieth: who is later than that, on a
    /// machine that has other things to do, goes beyond the budget.
    #[must_use]
    pub fn reserve(&self, budget: u64) -> u64 {
        let taken = self.speed * (SHORTEST + self.late) + self.overrun;
        whole(taken.min(budget as f64 * MOST))
    }

    /// How long memory need not be looked at while `free` pages are left before guests are to be
    /// stopped, seconds: they could take half of them meanwhile.
    #[must_use]
    pub fn pause(&self, free: u64) -> f64 {
        (free as f64 / self.speed / 2.0).clamp(SHORTEST, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two cores that take 4 MiB in a millisecond, looked at as planned.
    fn fast() -> Pace {
        let mut pace = Pace::new(2);
        pace.looked(1024, 0.001, 0.001);
        pace
    }

    #[test]
    fn what_guests_take_before_they_stop_is_in_the_reserve() {
        // A machine whose guests take memory at a steady speed, stopped when only the reserve is left.
        for speed in [1e5, 1e6, 3e6] {
            for late in [0.0, 0.000_3, 0.002] {
                let budget = 1 << 20;
                let (mut pace, mut free) = (Pace::new(2), budget as f64);
                let mut planned = 0.001;
                loop {
                    let passed = planned + late;
                    free -= speed * passed;
                    pace.looked(whole(speed * passed), passed, planned);
                    let left = whole(free.max(0.0)).saturating_sub(pace.reserve(budget));
                    if left == 0 {
                        break;
                    }
                    planned = pace.pause(left);
                }
                assert!(free >= 0.0, "{speed} pages a second, {late} s late: {free}");
            }
        }
    }

    #[test]
    fn a_faster_guest_or_a_later_look_needs_more() {
        let (slow, fast, mut late) = (Pace::new(2), fast(), fast());
        late.looked(0, 0.003, 0.001);
        let mut stubborn = fast.clone();
        stubborn.overran(500);
        let reserves = [&slow, &fast, &late, &stubborn].map(|pace| pace.reserve(1 << 20));
        assert!(reserves[0] < reserves[1] && reserves[1] < reserves[2]);
        assert_eq!(reserves[3], reserves[1] + 500);
        assert!(late.reserve(1000) <= 50, "a twentieth at most");
    }

    #[test]
    fn one_late_look_is_not_remembered_for_ever() {
        let mut pace = Pace::new(2);
        let usual = pace.reserve(1 << 20);
        pace.looked(10_000, 0.02, 0.001);
        pace.overran(2_000);
        assert!(pace.reserve(1 << 20) > 10 * usual);
        for _ in 0..200_000 {
            pace.looked(0, 0.001, 0.001);
        }
        assert_eq!(pace.reserve(1 << 20), usual);
    }

    #[test]
    fn memory_is_looked_at_more_often_when_it_may_be_gone_soon() {
        let pace = fast();
        assert!(pace.pause(1 << 20) > pace.pause(300));
        assert!(pace.pause(300) > pace.pause(0) && pace.pause(0) > 0.0);
    }

    #[test]
    fn pages_that_come_in_a_lump_are_no_speed() {
        let (mut lump, steady) = (Pace::new(2), Pace::new(2));
        lump.looked(512, 0.000_1, 0.000_1);
        lump.looked(0, 0.001, 0.001);
        assert_eq!(lump.reserve(1 << 20), steady.reserve(1 << 20));
    }
}
