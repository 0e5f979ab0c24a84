//! From nothing to power-off: our monitor against QEMU's microvm.
//!
//! On our side the time begins before the machine is made and ends when the guest is off and all of
//! it is gone; on QEMU's, from the program's start to its end. QEMU has to load itself, which a
//! process that is there already need not: a line of its own says how much that is.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::{Bench, BenchError, Log, Row, Wanted};
use super::guest::Plan;
use super::ours::Ours;
use super::qemu::Qemu;
use super::{image_for, scratch};

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "linux-boot",
    what: "a Linux guest from its start to power-off against QEMU's microvm",
    measure,
};

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    let plan = Plan {
        image: image_for(BENCH.id)?,
        disks: Vec::new(),
        commands: Vec::new(),
        place: None,
    };
    let folder = scratch()?;
    let folder = folder.path();
    Qemu::initramfs(&plan, folder)?;
    // What the first run alone pays: the host's caches of the files and programs.
    ours(&plan, folder)?;
    qemu(&plan, folder)?;
    for run in 0..log.runs {
        let (ours, qemu) = if run % 2 == 0 {
            let ours = ours(&plan, folder)?;
            (ours, qemu(&plan, folder)?)
        } else {
            let qemu = qemu(&plan, folder)?;
            (ours(&plan, folder)?, qemu)
        };
        let alone = Qemu::without_guest(&plan, folder)?;
        tell(log, &ours, qemu, alone);
    }
    Ok(())
}

fn tell(log: &mut Log<'_>, ours: &Boot, qemu: Duration, alone: Duration) {
    let (seconds, theirs) = (ours.time.as_secs_f64(), qemu.as_secs_f64());
    let what = "time from a Linux guest's start to power-off over QEMU microvm's";
    log.add(
        &Row::new("linux-boot", what, "", Wanted::AtMost(1.5)),
        seconds / theirs,
    );
    let what = "the same, with QEMU's own start and end left out";
    log.add(
        &Row::detail("linux-boot-guest", what, ""),
        seconds / (theirs - alone.as_secs_f64()),
    );
    let mut detail = |id, what, unit, value| log.add(&Row::detail(id, what, unit), value);
    detail("linux-boot-ours", "our time", "s", seconds);
    detail("linux-boot-qemu", "QEMU's time", "s", theirs);
    let what = "QEMU's start and end without running its guest";
    detail("linux-boot-program", what, "s", alone.as_secs_f64());
    let what = "exits that came to our monitor";
    detail("linux-boot-exits", what, "", ours.exits as f64);
}

/// One boot on our side.
struct Boot {
    time: Duration,
    exits: u64,
}

fn ours(plan: &Plan, folder: &Path) -> Result<Boot, BenchError> {
    let began = Instant::now();
    let machine = Ours::new(true, true, folder)?;
    let (guest, _) = machine.start(plan)?.whole()?;
    guest.wait_off()?;
    let exits = guest.exits();
    drop((guest, machine));
    let time = began.elapsed();
    Ok(Boot { time, exits })
}

fn qemu(plan: &Plan, folder: &Path) -> Result<Duration, BenchError> {
    let began = Instant::now();
    let (mut guest, _) = Qemu::start(plan, folder)?.whole()?;
    guest.wait_off()?;
    Ok(began.elapsed())
}
