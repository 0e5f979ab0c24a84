//! How much of the machine's time the guests leave for work that can wait.
//!
//! Sharing costs the guests in two ways: the cores' time that it takes itself, and the faults of
//! guests whose translations it drops. A niceness bounds only the first, and not where the work goes
//! first for a while ([`Undisturbed`](crate::Undisturbed)). So who shares keeps an account: a small part
//! of the time that guests use comes in; what the sharing costs them goes out: their faults, and the
//! cores' time as far as the cores were not idle. Idle time does not pay for faults: it is over when they
//! come. ESX scans by the same rule: a share of what the guests get (ESX Server, OSDI'02, section 4.3).

use rustix::time::{ClockId, clock_gettime};
use std::{
    fs,
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

/// Idle time that is saved up at most, in seconds: what is done in one go when cores were idle before.
const MOST_IDLE: f64 = 0.2;

/// What guests may lose in one go at most, in seconds.
const MOST_SAVED: f64 = 0.05;

/// The part of the cores' time up to which guests count as quiet, however busy others keep the host.
const QUIET: f64 = 0.1;

/// Time that says something of what guests do, in seconds: the kernel may count in ticks of 10 ms.
const LEAST_SEEN: f64 = 0.02;

/// By how much the time in which guests are quiet has to outweigh that in which they are not, in seconds,
/// until nothing is counted any more: one that waits for its disk goes on at once, and would take the
/// faults of all that was done meanwhile. It ends when it is outweighed.
const CALM: f64 = 0.5;

/// What may be owed at most, in seconds: an estimate that is far off must not end all work.
const MOST_OWED: f64 = 10.0;

/// The account.
#[derive(Debug)]
pub struct Spare {
    /// The part of busy guests' time that may be taken; `None` for as much as one likes.
    part: Option<f64>,
    cores: f64,
    clocks: Clocks,
    /// What the owner itself has used since the clocks were read.
    own: f64,
    /// What guests may lose, in seconds.
    saved: f64,
    /// Seconds of cores that nobody wanted.
    idle: f64,
    /// By how much quiet time outweighs the other, in seconds; what the owner used itself says nothing.
    calm: f64,
    quiet: bool,
}

/// One reading.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    wall: Instant,
    /// CPU time of the whole process: guests, devices, and who shares.
    process: Duration,
    /// Idle time of all the host's cores, if the kernel tells.
    idle: Option<f64>,
}

impl Clocks {
    fn read() -> Self {
        Self {
            wall: Instant::now(),
            process: clock(ClockId::ProcessCPUTime),
            idle: idle_time(),
        }
    }
}

/// Seconds in which the host's cores were idle, summed: the second number of `/proc/uptime` (`proc(5)`).
fn idle_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// CPU time that the calling thread has used.
fn thread_time() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

impl Spare {
    /// An account that takes at most so much of busy guests' time, in percent; all there is if `None`.
    #[must_use]
    pub fn new(percent: Option<f64>) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            part: percent.map(|percent| percent / 100.0),
            cores: f64::from(u32::try_from(cores).unwrap_or(u32::MAX)),
            clocks: Clocks::read(),
            own: 0.0,
            saved: 0.0,
            idle: 0.0,
            calm: 0.0,
            quiet: false,
        }
    }

    /// Takes in what the cores did since the last time, and answers how long to wait before there is
    /// something to spend: nothing if there is, or if for a while at least half of the cores' time has
    /// been idle, or guests have used hardly any.
    pub fn wait(&mut self) -> Duration {
        if self.part.is_none() {
            return Duration::ZERO;
        }
        self.receive(Clocks::read())
    }

    /// Whether any amount may be spent: nobody is busy, or nobody minds.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.part.is_none() || self.quiet
    }

    /// What there is to spend, if not any amount.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        (!self.is_free()).then(|| Duration::from_secs_f64(self.saved.max(0.0)))
    }

    /// The owner has used so much CPU time, and its guests will need so much more.
    pub fn spend(&mut self, own: Duration, guests: Duration) {
        self.own += own.as_secs_f64();
        let unwanted = own.as_secs_f64().min(self.idle);
        self.idle -= unwanted;
        self.saved -= own.as_secs_f64() - unwanted + guests.as_secs_f64();
        self.saved = self.saved.max(-MOST_OWED);
    }

    /// Does work and pays for it, and for the time that guests will need because of it.
    pub fn work<R>(&mut self, guests: Duration, work: impl FnOnce() -> R) -> R {
        let before = thread_time();
        let result = work();
        let own = thread_time().saturating_sub(before);
        self.spend(own, guests);
        result
    }

    fn receive(&mut self, now: Clocks) -> Duration {
        /// Guests may fall quiet meanwhile. Each look takes the core from one of them, which costs it as
        /// much as a fault.
        const LONGEST_WAIT: f64 = 0.25;
        let all = (now.wall - self.clocks.wall).as_secs_f64() * self.cores;
        // What guests do is seen only while they have the cores: not from a burst that went before them.
        let rest = all - self.own;
        if rest >= LEAST_SEEN {
            let used = now
                .process
                .saturating_sub(self.clocks.process)
                .as_secs_f64();
            let guests = (used - self.own).max(0.0);
            let told = now.idle.zip(self.clocks.idle);
            let idle = told.map_or(all - used, |(now, before)| now - before);
            let idle = idle.clamp(0.0, rest);
            let part = self.part.unwrap_or(1.0);
            self.saved = (self.saved + part * guests).min(MOST_SAVED);
            self.idle = (self.idle + idle).min(MOST_IDLE);
            let calm = idle >= rest / 2.0 || guests < rest * QUIET;
            let seen = if calm { rest } else { -rest };
            self.calm = (self.calm + seen / self.cores).clamp(0.0, CALM);
            self.quiet = self.calm > if self.quiet { 0.0 } else { CALM - LEAST_SEEN };
            (self.clocks, self.own) = (now, 0.0);
        }
        if self.quiet {
            // Debts were for the sake of those who are quiet now.
            self.saved = self.saved.max(0.0);
        }
        if self.saved > 0.0 || self.quiet {
            return Duration::ZERO;
        }
        let income = self.part.unwrap_or(1.0).max(f64::MIN_POSITIVE) * self.cores;
        Duration::from_secs_f64((-self.saved / income).clamp(LEAST_SEEN, LONGEST_WAIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of one core that does nothing but what its clocks are told.
    fn one_core(percent: Option<f64>) -> (Clocks, Spare) {
        let start = Clocks {
            idle: None,
            ..Clocks::read()
        };
        let spare = Spare {
            cores: 1.0,
            clocks: start,
            ..Spare::new(percent)
        };
        (start, spare)
    }

    /// Runs a machine for `seconds`: guests use `busy` of its one core, and who shares spends what it
    /// may, in portions of 1 ms with as much again for the guests. Answers what was spent in all.
    fn simulate(percent: Option<f64>, busy: f64, seconds: u32) -> f64 {
        let (mut now, mut spare) = one_core(percent);
        let (portion, mut spent) = (Duration::from_millis(1), 0.0);
        for _ in 0..seconds * 10 {
            let step = Duration::from_millis(100);
            now.wall += step;
            now.process += step.mul_f64(busy);
            let mut left = step.mul_f64(1.0 - busy);
            while spare.receive(now).is_zero() && (busy >= 1.0 || !left.is_zero()) {
                spare.spend(portion, portion);
                spent += 2.0 * portion.as_secs_f64();
                left = left.saturating_sub(portion);
                now.process += portion;
            }
        }
        spent
    }

    #[test]
    fn busy_guests_lose_the_part_that_was_agreed_on() {
        let spent = simulate(Some(2.0), 1.0, 60);
        assert!((1.1..1.3).contains(&spent), "{spent}");
    }

    #[test]
    fn what_nobody_uses_is_free() {
        let spent = simulate(Some(2.0), 0.0, 10);
        assert!(spent > 18.5, "{spent}");
        let spent = simulate(Some(2.0), 0.2, 10);
        assert!(spent > 6.0, "{spent}");
    }

    #[test]
    fn idle_moments_of_busy_guests_do_not_pay_for_their_faults() {
        let (mut now, mut spare) = one_core(Some(2.0));
        let (step, fault) = (Duration::from_millis(100), Duration::from_millis(1));
        let (own, mut spent) = (Duration::from_millis(1), 0.0);
        for turn in 0..600 {
            now.wall += step;
            // As one that waits for its disk now and then: idle for most of each second turn.
            now.process += step.mul_f64(if turn % 2 == 0 { 1.0 } else { 0.4 });
            if spare.receive(now).is_zero() {
                assert!(!spare.is_free(), "a moment is not quiet");
                spare.spend(own, fault);
                spent += fault.as_secs_f64();
                now.process += own;
            }
        }
        assert!((0.6..0.9).contains(&spent), "{spent}");
    }

    #[test]
    fn quiet_guests_forgive_what_busy_ones_are_owed() {
        let (start, mut spare) = one_core(Some(2.0));
        spare.spend(Duration::ZERO, Duration::from_secs(3));
        let second = Duration::from_secs(1);
        let busy = Clocks {
            wall: start.wall + second,
            process: start.process + second,
            ..start
        };
        assert!(!spare.receive(busy).is_zero());
        assert!(!spare.is_free() && spare.left() == Some(Duration::ZERO));
        let quiet = Clocks {
            wall: busy.wall + second,
            ..busy
        };
        assert!(spare.receive(quiet).is_zero());
        assert!(spare.is_free() && spare.left().is_none());
    }

    #[test]
    fn guests_that_a_burst_kept_from_the_core_are_not_quiet() {
        let (start, mut spare) = one_core(Some(2.0));
        let burst = Duration::from_millis(300);
        spare.spend(burst, Duration::ZERO);
        let after = Clocks {
            wall: start.wall + burst,
            process: start.process + burst,
            ..start
        };
        assert!(!spare.receive(after).is_zero());
        assert!(!spare.is_free());
    }

    #[test]
    fn cores_that_others_use_are_not_idle() {
        let start = Clocks {
            idle: Some(0.0),
            ..Clocks::read()
        };
        let mut spare = Spare {
            cores: 2.0,
            clocks: start,
            ..Spare::new(Some(2.0))
        };
        spare.spend(Duration::ZERO, Duration::from_secs(1));
        let second = Duration::from_secs(1);
        let crowded = Clocks {
            wall: start.wall + second,
            process: start.process + second / 2,
            idle: Some(0.0),
        };
        assert!(!spare.receive(crowded).is_zero());
        let quiet = Clocks {
            wall: crowded.wall + second,
            ..crowded
        };
        assert!(spare.receive(quiet).is_zero(), "nobody is burdened");
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let mut spare = Spare::new(None);
        spare.spend(Duration::from_secs(9), Duration::from_secs(9));
        assert_eq!(spare.wait(), Duration::ZERO);
        assert!(spare.is_free());
    }
}
