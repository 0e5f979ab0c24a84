//! What the mechanisms cost the guests' work: all of them on against all off, in turns.
//!
//! The time is the guests' own, from command to done. Each side starts a fresh machine. Besides
//! the ratio of times come the ratios of what could explain it.

use mirrorball_abi::{Workload, WorkloadKind};
use mirrorball_dedup::ScannerThread;

use super::rig::{self, Guests, Rig};
use super::{Bench, BenchError, Log, Row, Wanted};

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "slowdown",
    what: "work with all mechanisms on against all off",
    measure,
};

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    let image = rig::image()?;
    // `pmake` reads every source once. `pmake-again` and `scan` take a vCPU some two seconds, so that
    // several passes of the scanner fall into them. `scan-first` reads the disk once and does hardly
    // anything with it: what it loses is what a first read costs.
    let works = [
        ("pmake", rig::workload(WorkloadKind::Pmake, &[2, 1])),
        ("pmake-again", rig::workload(WorkloadKind::Pmake, &[2, 7])),
        ("scan", rig::workload(WorkloadKind::Scan, &[600])),
        ("scan-first", rig::workload(WorkloadKind::Scan, &[1])),
        (
            "splash",
            rig::workload(WorkloadKind::Splash, &[1 << 20, 192]),
        ),
    ];
    for (name, work) in &works {
        for count in [4, 1] {
            let guests = |on| Guests {
                count,
                memory: 128 << 20,
                image: Some(image.clone()),
                disk_sharing: on,
                tracking: on,
            };
            // What the first run alone pays: the host's cache of the image.
            side(&guests(false), work)?;
            for run in 0..log.runs {
                // Whichever comes first may have an advantage: they take turns at it.
                let (on, off) = if run % 2 == 0 {
                    let on = side(&guests(true), work)?;
                    (on, side(&guests(false), work)?)
                } else {
                    let off = side(&guests(false), work)?;
                    (side(&guests(true), work)?, off)
                };
                tell(log, name, count, &on, &off);
            }
        }
    }
    Ok(())
}

fn tell(log: &mut Log<'_>, name: &str, count: usize, on: &Side, off: &Side) {
    let id = if count == 1 {
        format!("slowdown-{name}-1")
    } else {
        format!("slowdown-{name}")
    };
    let guests = if count == 1 {
        "one guest".to_owned()
    } else {
        format!("{count} guests at once")
    };
    let what = format!("time of `{name}` with all mechanisms on over all off, {guests}");
    let row = match name.ends_with("-first") {
        true => Row::detail(&id, &what, ""),
        false => Row::new(&id, &what, "", Wanted::AtMost(1.03)),
    };
    log.add(&row, on.ticks / off.ticks);
    let mut detail = |part: &str, what: &str, unit, value| {
        log.add(&Row::detail(&format!("{id}-{part}"), what, unit), value);
    };
    detail(
        "vcpu",
        "the same of the vCPUs' CPU time, exits included",
        "",
        on.vcpu / off.vcpu,
    );
    detail(
        "device",
        "the same of the device workers' CPU time",
        "",
        on.device / off.device.max(1e-6),
    );
    detail(
        "exits",
        "the same of the exits",
        "",
        on.exits / off.exits.max(1.0),
    );
    detail("cpu", "vCPUs' CPU time with all off", "s", off.vcpu);
    detail(
        "scanner",
        "the scanner's CPU time over the vCPUs'",
        "",
        on.scanner / on.vcpu,
    );
    detail(
        "broken",
        "shared pages broken, each guest",
        "pages",
        on.broken,
    );
}

/// Means of the guests, and the machine's CPU time.
struct Side {
    ticks: f64,
    vcpu: f64,
    device: f64,
    exits: f64,
    scanner: f64,
    broken: f64,
}

fn side(guests: &Guests, work: &Workload) -> Result<Side, BenchError> {
    let rig = Rig::start(guests)?;
    // Mechanisms are on or off together: disk, zero and content.
    let scanner = match guests.disk_sharing {
        true => {
            Some(ScannerThread::start(rig.scanner()).map_err(BenchError::of("no scanner thread"))?)
        }
        false => None,
    };
    let before = rig.machine().cpu_seconds();
    let statuses = rig.run(work)?;
    let after = rig.machine().cpu_seconds();
    let scanner = scanner.map_or(0.0, |scanner| scanner.stop().cpu_seconds);
    rig.pmap().settle_all();
    let guests = rig.vms().len() as f64;
    let exits: u64 = rig.vms().iter().map(|vm| vm.exit_times().len()).sum();
    Ok(Side {
        ticks: statuses
            .iter()
            .map(|status| status.ticks as f64)
            .sum::<f64>()
            / guests,
        vcpu: after.vcpu - before.vcpu,
        device: after.device - before.device,
        exits: exits as f64 / guests,
        scanner,
        broken: rig.pmap().totals().broken as f64 / guests,
    })
}
