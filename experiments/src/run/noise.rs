//! What else the machine did during a run. Times that were measured while others took the CPUs say
//! little; sizes and counts do not mind.

use std::fs;

use serde::{Deserialize, Serialize};

/// Steal above this share of all CPU time spoils times.
const MOST_STEAL: f64 = 0.02;
/// Other programs' share of all CPU time above this spoils times.
const MOST_OTHERS: f64 = 0.10;
/// The clock of the CPUs may differ by this share between begin and end.
const MOST_FREQUENCY: f64 = 0.10;
/// Clock ticks in a second, in `/proc` (`USER_HZ`).
const TICKS: f64 = 100.0;

/// What else the machine did during a run: shares of the time of all CPUs, 0 to 1. `null` where the
/// kernel does not tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Time that a hypervisor below gave to others.
    pub steal: Option<f64>,
    /// Time that other programs of this machine used.
    pub others: Option<f64>,
    /// Share of the run's time in which some runnable thread had no CPU (`/proc/pressure/cpu`).
    pub waiting: Option<f64>,
    /// The CPUs' mean clock at the begin and the end, MHz.
    pub megahertz: Option<[f64; 2]>,
}

/// A reading of the kernel's counters at the begin of a run.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    cpu: Option<Ticks>,
    own: Option<u64>,
    waiting: Option<u64>,
    megahertz: Option<f64>,
    began: std::time::Instant,
}

/// CPU time of the whole machine, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    all: u64,
    busy: u64,
    steal: u64,
}

impl Watch {
    /// From now.
    #[must_use]
    pub fn start() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: ticks(&read("/proc/stat")),
            own: own(&read("/proc/self/stat")),
            waiting: waiting(&read("/proc/pressure/cpu")),
            megahertz: megahertz(&read("/proc/cpuinfo")),
            began: std::time::Instant::now(),
        }
    }

    /// Until now; ksmd worked so many seconds for us.
    #[must_use]
    pub fn noise(&self, ksmd: f64) -> Noise {
        let now = Self::start();
        let cpu = self.cpu.zip(now.cpu);
        let share = |part: fn(&Ticks) -> u64, less: f64| {
            let (before, after) = cpu?;
            let all = after.all.checked_sub(before.all).filter(|all| *all > 0)?;
            let part = part(&after).checked_sub(part(&before))?;
            Some(((float(part) - less) / float(all)).max(0.0))
        };
        let own = self.own.zip(now.own);
        let own = own.and_then(|(before, after)| after.checked_sub(before));
        let waiting = self.waiting.zip(now.waiting).and_then(|(before, after)| {
            let seconds = self.began.elapsed().as_secs_f64();
            Some(float(after.checked_sub(before)?) / 1e6 / seconds)
        });
        Noise {
            steal: share(|ticks| ticks.steal, 0.0),
            others: own.and_then(|own| share(|ticks| ticks.busy, float(own) + ksmd * TICKS)),
            waiting,
            megahertz: self.megahertz.zip(now.megahertz).map(Into::into),
        }
    }
}

impl Noise {
    /// Why times of the run are not to be trusted, if they are not.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let above = |share: Option<f64>, most: f64| share.filter(|share| *share > most);
        let mut why = Vec::new();
        if let Some(others) = above(self.others, MOST_OTHERS) {
            why.push(format!(
                "other programs used {} of the CPUs",
                percent(others)
            ));
        }
        if let Some(steal) = above(self.steal, MOST_STEAL) {
            why.push(format!("the hypervisor below took {}", percent(steal)));
        }
        if let Some([before, after]) = self.megahertz
            && (after / before - 1.0).abs() > MOST_FREQUENCY
        {
            why.push(format!("the clock went from {before:.0} to {after:.0} MHz"));
        }
        (!why.is_empty()).then(|| format!("times are noisy: {}", why.join(", ")))
    }
}

/// The first line of `/proc/stat`.
fn ticks(text: &str) -> Option<Ticks> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let numbers = line.split_whitespace().map(|number| number.parse::<u64>());
    let numbers = numbers.collect::<Result<Vec<_>, _>>().ok()?;
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user.
    let [user, nice, system, idle, waiting, irq, softirq, steal, ..] = numbers[..] else {
        return None;
    };
    let busy = user + nice + system + irq + softirq;
    Some(Ticks {
        all: busy + idle + waiting + steal,
        busy,
        steal,
    })
}

/// User and system time of a process, from its `stat` in `/proc`.
fn own(text: &str) -> Option<u64> {
    // The name before the last bracket may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user = fields.next()?.parse::<u64>().ok()?;
    let system = fields.next()?.parse::<u64>().ok()?;
    Some(user + system)
}

/// Microseconds in which some thread waited for a CPU.
fn waiting(text: &str) -> Option<u64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.split_once("total=")?.1.trim().parse().ok()
}

/// The mean clock of all CPUs.
fn megahertz(text: &str) -> Option<f64> {
    let lines = text.lines().filter(|line| line.starts_with("cpu MHz"));
    let clocks = lines.filter_map(|line| line.split_once(':')?.1.trim().parse::<f64>().ok());
    let clocks = clocks.collect::<Vec<_>>();
    (!clocks.is_empty()).then(|| clocks.iter().sum::<f64>() / float(clocks.len() as u64))
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counters_are_read() {
        let stat = "cpu  100 10 50 800 20 5 5 10 60 0\ncpu0 1 2 3\n";
        let expected = Ticks {
            all: 1000,
            busy: 170,
            steal: 10,
        };
        assert_eq!(ticks(stat), Some(expected));
        assert_eq!(ticks("intr 5"), None);
        let line = "42 (a ) b) S 1 42 42 0 -1 4194560 9 0 0 0 130 25 0 0 20 0 9 0";
        assert_eq!(own(line), Some(155));
        let pressure = "some avg10=1.00 avg60=0.50 avg300=0.10 total=123456\nfull avg10=0";
        assert_eq!(waiting(pressure), Some(123_456));
        assert_eq!(
            megahertz("cpu MHz\t\t: 2000.0\ncpu MHz\t\t: 3000.0\n"),
            Some(2500.0)
        );
        assert_eq!(megahertz("nothing"), None);
    }

    #[test]
    fn only_what_spoils_times_is_told() {
        let quiet = Noise {
            steal: Some(0.01),
            others: Some(0.05),
            waiting: Some(0.9),
            megahertz: Some([2000.0, 2100.0]),
        };
        assert_eq!(quiet.warning(), None);
        assert_eq!(Noise::default().warning(), None);
        let noisy = Noise {
            steal: Some(0.2),
            others: Some(0.5),
            megahertz: Some([3000.0, 1500.0]),
            waiting: None,
        };
        assert_eq!(
            noisy.warning().unwrap(),
            "times are noisy: other programs used 50 % of the CPUs, the hypervisor below took 20 %, \
             the clock went from 3000 to 1500 MHz"
        );
    }

    #[test]
    fn this_machine_is_seen() {
        let noise = Watch::start().noise(0.0);
        assert!(noise.steal.is_none_or(|share| (0.0..=1.0).contains(&share)));
    }
}
