//! What the mechanisms cost Linux guests' work: all of them on against all off, in turns.
//!
//! The times are the guests' own, from a command's start to its end: boot is not among them.

use std::path::Path;

use super::super::{Bench, BenchError, Log, Row, Wanted};
use super::guest::{Plan, Talk};
use super::ours::{OurChannel, Ours};
use super::{image_for, scratch};

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "linux-work",
    what: "Linux guests' work with all mechanisms on against all off",
    measure,
};

/// Guests at once.
const GUESTS: usize = 2;

/// Before they begin: programs are where they were in each process. Where QEMU emulates the processor, it
/// translates a program's code anew at each new address, which took more than half of the time and, as
/// its room for translations ran full now and then, a quarter more on one side or the other.
const SAME_ADDRESSES: &str = "echo 0 >/proc/sys/kernel/randomize_va_space";

/// What they do: id, and a shell command.
const WORKS: [(&str, &str); 2] = [
    // Reads 26 MiB of programs, which are cached after the first time.
    (
        "sums",
        "for i in 1 2; do find /usr/bin -type f | xargs sha256sum >/dev/null || exit 1; done",
    ),
    // As a build does: many short processes that read a file, work on it and write another.
    (
        "build",
        "mkdir /work && cd /work && for i in $(seq 40); do \
         seq 2000 | sed 's/$/ a line of source/' >$i.c && tr a-y b-z <$i.c | sort -r >$i.i && \
         gzip -c $i.i >$i.o || exit 1; done; cat *.o | sha256sum >/dev/null; sync",
    ),
];

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    let plan = Plan {
        image: image_for(BENCH.id)?,
        disks: Vec::new(),
        commands: std::iter::once(SAME_ADDRESSES)
            .chain(WORKS.map(|(_, command)| command))
            .map(str::to_owned)
            .collect(),
        place: None,
    };
    let folder = scratch()?;
    let folder = folder.path();
    // What the first run alone pays: the host's caches.
    side(&plan, false, folder)?;
    for run in 0..log.runs {
        // Whichever comes first may have an advantage: they take turns at it.
        let (on, off) = if run % 2 == 0 {
            let on = side(&plan, true, folder)?;
            (on, side(&plan, false, folder)?)
        } else {
            let off = side(&plan, false, folder)?;
            (side(&plan, true, folder)?, off)
        };
        tell(log, &on, &off);
    }
    Ok(())
}

fn tell(log: &mut Log<'_>, on: &Side, off: &Side) {
    let total = |side: &Side| side.seconds.iter().sum::<f64>();
    let what = format!("time of {GUESTS} Linux guests' work with all mechanisms on over all off");
    log.add(
        &Row::new("linux-work", &what, "", Wanted::AtMost(1.05)),
        total(on) / total(off),
    );
    for ((id, _), (on, off)) in WORKS.iter().zip(on.seconds.iter().zip(&off.seconds)) {
        let what = format!("the same of `{id}`");
        log.add(
            &Row::detail(&format!("linux-work-{id}"), &what, ""),
            on / off,
        );
    }
    if off.faults > 0 {
        let what = "the guests' page faults in KVM meanwhile, all on over all off";
        let more = on.faults as f64 / off.faults as f64;
        log.add(&Row::detail("linux-work-faults", what, ""), more);
    }
    let mut detail = |id, what, unit, value| log.add(&Row::detail(id, what, unit), value);
    detail("linux-work-off", "time with all off", "s", total(off));
    let what = "page faults with all off";
    detail("linux-work-faults-off", what, "", off.faults as f64);
    let what = "what a fault is taken to cost a guest";
    detail("linux-work-fault", what, "ms", on.fault * 1e3);
    let what = "the scanner's CPU time over the time of the work";
    detail("linux-work-scanner", what, "", on.scanner / total(on));
    let what = "memory that was saved at the end";
    let saved = on.reclaimed as f64 / 256.0;
    detail("linux-work-saved", what, "MiB", saved);
}

/// What the guests needed.
struct Side {
    /// Seconds of each command, mean of the guests.
    seconds: Vec<f64>,
    /// The scanner's CPU seconds.
    scanner: f64,
    /// Pages.
    reclaimed: u64,
    /// In KVM, of all guests during the work.
    faults: u64,
    /// Seconds that the scanner charges for a fault.
    fault: f64,
}

fn side(plan: &Plan, on: bool, folder: &Path) -> Result<Side, BenchError> {
    let machine = Ours::new(on, false, folder)?;
    let mut guests = (0..GUESTS)
        .map(|_| machine.start(plan))
        .collect::<Result<Vec<_>, _>>()?;
    for guest in &mut guests {
        guest.ready()?;
    }
    let scanner = if on { Some(machine.scan()?) } else { None };
    let count = |guests: &[Talk<OurChannel>]| -> u64 {
        guests.iter().map(|guest| guest.channel().faults()).sum()
    };
    let before = count(&guests);
    for guest in &mut guests {
        guest.go()?;
    }
    let mut seconds = vec![0.0; WORKS.len()];
    for guest in &mut guests {
        let records = guest.done()?.into_iter().skip(1);
        for (sum, record) in seconds.iter_mut().zip(records) {
            *sum += record.seconds.unwrap_or(f64::NAN) / GUESTS as f64;
        }
    }
    let faults = count(&guests).saturating_sub(before);
    let scanner = scanner.map_or(0.0, |scanner| scanner.stop().cpu_seconds);
    let reclaimed = machine.reclaimed();
    for guest in guests {
        guest.off()?.wait_off()?;
    }
    Ok(Side {
        seconds,
        scanner,
        reclaimed,
        faults,
        fault: machine.fault_seconds(),
    })
}
