//! How quiet and how large the host is.

use std::thread::available_parallelism;

use super::{Check, CheckState, Root};

/// A kilobyte value of a file like `/proc/meminfo`, in MiB.
fn meminfo(text: &str, field: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}

const GOOD_MEMORY_MIB: u64 = 2048;

pub(super) fn free_memory(root: &Root) -> Check {
    const ID: &str = "free-memory";
    const SOURCE: &str = "proc/meminfo";
    let text = root.read(SOURCE).unwrap_or_default();
    match (meminfo(&text, "MemAvailable"), meminfo(&text, "MemTotal")) {
        (Some(free), Some(total)) if free >= GOOD_MEMORY_MIB => {
            Check::pass(ID, format!("{free} MiB of {total} MiB available"))
        }
        (Some(free), Some(total)) => Check::new(
            ID,
            CheckState::Warn,
            format!("{free} MiB of {total} MiB available"),
            "the kernel may end the run for lack of memory",
            "end other programs, or use smaller guests",
        ),
        _ => Check::unknown(ID, SOURCE),
    }
}

pub(super) fn swap(root: &Root) -> Check {
    const ID: &str = "swap";
    const SOURCE: &str = "proc/meminfo";
    let text = root.read(SOURCE).unwrap_or_default();
    match meminfo(&text, "SwapTotal") {
        None => Check::unknown(ID, SOURCE),
        Some(0) => Check::pass(ID, "no host swap"),
        Some(size) => Check::new(
            ID,
            CheckState::Warn,
            format!("{size} MiB of host swap"),
            "the host may swap guest memory, which then misses in what is measured",
            "swapoff -a for the time of the experiment",
        ),
    }
}

pub(super) fn load(root: &Root) -> Check {
    const ID: &str = "load";
    const SOURCE: &str = "proc/loadavg";
    let cpus = available_parallelism().map_or(1, usize::from);
    let first = root.read(SOURCE).ok().and_then(|text| {
        text.split_whitespace()
            .next()
            .and_then(|number| number.parse::<f64>().ok())
    });
    let Some(load) = first else {
        return Check::unknown(ID, SOURCE);
    };
    let finding = format!("load {load:.2} on {cpus} CPUs");
    if load <= 0.5 * cpus as f64 {
        return Check::pass(ID, finding);
    }
    Check::new(
        ID,
        CheckState::Warn,
        finding,
        "other programs compete for the processors: times are not reliable",
        "wait, or end other programs",
    )
}

/// Share of its time since it booted that the host, a VM itself, did not get its processors.
fn stolen(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times: Vec<f64> = line
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; the guest fields are part of user.
    let busy: f64 = times
        .iter()
        .take(8)
        .enumerate()
        .filter(|(i, _)| *i != 3)
        .map(|(_, t)| t)
        .sum();
    let steal = *times.get(7)?;
    Some(if busy > 0.0 { steal / busy } else { 0.0 })
}

pub(super) fn steal(root: &Root) -> Check {
    const ID: &str = "steal";
    const SOURCE: &str = "proc/stat";
    let Some(share) = root.read(SOURCE).ok().and_then(|text| stolen(&text)) else {
        return Check::unknown(ID, SOURCE);
    };
    let finding = format!("{:.1} % of busy time stolen since boot", share * 100.0);
    if share < 0.05 {
        return Check::pass(ID, finding);
    }
    Check::new(
        ID,
        CheckState::Warn,
        finding,
        "the host below gives the processors to others: times are not reliable",
        "use a host with processors of its own; compare within one run only",
    )
}

pub(super) fn governor(root: &Root) -> Check {
    const ID: &str = "cpu-governor";
    const SOURCE: &str = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    match root.read(SOURCE) {
        Err(_) => Check::unknown(ID, SOURCE),
        Ok(governor) if governor == "performance" => Check::pass(ID, "governor performance"),
        Ok(governor) => Check::new(
            ID,
            CheckState::Warn,
            format!("governor {governor}"),
            "the clock rate changes with the load: times vary",
            "cpupower frequency-set -g performance",
        ),
    }
}

/// The kernel's own account of lack of memory, for the runs' metrics.
pub(super) fn pressure(root: &Root) -> Check {
    const ID: &str = "pressure";
    const SOURCE: &str = "proc/pressure/memory";
    match root.read(SOURCE) {
        Ok(_) => Check::pass(ID, "pressure stall information is on"),
        Err(_) => Check::unknown(ID, SOURCE),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::root;
    use super::*;

    fn state(check: fn(&Root) -> Check, path: &str, text: &str) -> CheckState {
        let (_folder, root) = root(&[(path, text)]);
        check(&root).state
    }

    #[test]
    fn nothing_readable_is_unknown_never_well() {
        let (_folder, root) = root(&[]);
        for check in [free_memory, swap, load, steal, governor, pressure] {
            let check = check(&root);
            assert_eq!(check.state, CheckState::Unknown, "{}", check.id);
            assert!(check.finding.contains("not available"));
        }
    }

    #[test]
    fn little_memory_and_swap() {
        let little = "MemTotal: 4096000 kB\nMemAvailable: 512000 kB\nSwapTotal: 2048000 kB\n";
        assert_eq!(state(free_memory, "proc/meminfo", little), CheckState::Warn);
        assert_eq!(state(swap, "proc/meminfo", little), CheckState::Warn);
        let much = "MemTotal: 24000000 kB\nMemAvailable: 20000000 kB\nSwapTotal: 0 kB\n";
        assert_eq!(state(free_memory, "proc/meminfo", much), CheckState::Pass);
        assert_eq!(state(swap, "proc/meminfo", much), CheckState::Pass);
    }

    #[test]
    fn a_busy_and_a_robbed_host() {
        assert_eq!(
            state(load, "proc/loadavg", "9999.0 1 1 1/1 1"),
            CheckState::Warn
        );
        assert_eq!(
            state(load, "proc/loadavg", "0.00 1 1 1/1 1"),
            CheckState::Pass
        );
        let robbed = "cpu  100 0 100 10000 0 0 0 50 0 0\ncpu0 1\n";
        assert_eq!(state(steal, "proc/stat", robbed), CheckState::Warn);
        let own = "cpu  100 0 100 10000 0 0 0 1 0 0\ncpu0 1\n";
        assert_eq!(state(steal, "proc/stat", own), CheckState::Pass);
    }

    #[test]
    fn governor_and_pressure() {
        let path = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
        assert_eq!(state(governor, path, "powersave\n"), CheckState::Warn);
        assert_eq!(state(governor, path, "performance\n"), CheckState::Pass);
        assert_eq!(
            state(pressure, "proc/pressure/memory", "some avg10=0\n"),
            CheckState::Pass
        );
    }
}
