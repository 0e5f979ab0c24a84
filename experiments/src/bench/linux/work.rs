//! What the mechanisms cost Linux guests' work: all of them on against all off, in turns.
//!
//! The times are the guests' own, from a command's start to its end: boot is not among them.

use std::path::Path;

use mirrorball_debian::Root;

use super::super::{Bench, BenchError, Log, Row, Wanted};
use super::guest::{Plan, Talk};
use super::ours::{OurChannel, Ours};
use super::{image_for, scratch};

/// Short work: what cost there is shows most.
pub const SHORT: Bench = Bench {
    id: "linux-work",
    what: "Linux guests' short work with all mechanisms on against all off",
    measure: |log| measure(log, &SHORT_WORK),
};

/// Work of the usual length.
pub const MAKE: Bench = Bench {
    id: "linux-make",
    what: "Linux guests' build of C sources with all mechanisms on against all off",
    measure: |log| measure(log, &MAKE_WORK),
};

/// What each guest does.
struct Work {
    id: &'static str,
    what: &'static str,
    /// Ids, and shell commands.
    steps: &'static [(&'static str, &'static str)],
}

/// Reads programs, then runs many short processes.
const SHORT_WORK: Work = Work {
    id: SHORT.id,
    what: "short work",
    steps: &[
        // Reads 26 MiB of programs, which are cached after the first time.
        (
            "sums",
            "for i in 1 2; do find /usr/bin -type f | xargs sha256sum >/dev/null || exit 1; done",
        ),
        // Many short processes that read a file, work on it and write another.
        (
            "build",
            "mkdir /work && cd /work && for i in $(seq 40); do \
             seq 2000 | sed 's/$/ a line of source/' >$i.c && tr a-y b-z <$i.c | sort -r >$i.i && \
             gzip -c $i.i >$i.o || exit 1; done; cat *.o | sha256sum >/dev/null; sync",
        ),
    ],
};

/// What `experiments/linux/pmake.yaml` has its guests do: Disco's engineering workload with sources that
/// an emulated processor compiles in a minute or two.
const MAKE_WORK: Work = Work {
    id: MAKE.id,
    what: "build of C sources (bzip2, gcc, make -j2)",
    steps: &[
        ("copy", "cp -r /usr/src/bzip2 /build"),
        (
            "make",
            "make -C /build -j2 CFLAGS=-O0 bzip2 bzip2recover >/dev/null && sync",
        ),
        (
            "test",
            "cd /build && ./bzip2 -1 < sample1.ref | cmp - sample1.bz2",
        ),
    ],
};

/// The root of guests that build.
pub fn make_root() -> (Root, Option<u64>) {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let root = Root::Full {
        packages: owned(&["gcc", "make", "libc6-dev"]),
        sources: owned(&["bzip2"]),
    };
    (root, None)
}

/// Guests at once.
const GUESTS: usize = 2;

/// Before they begin: programs are where they were in each process. Where QEMU emulates the processor, it
/// translates a program's code anew at each new address, which took more than half of the time and, as
/// its room for translations ran full now and then, a quarter more on one side or the other.
const SAME_ADDRESSES: &str = "echo 0 >/proc/sys/kernel/randomize_va_space";

fn measure(log: &mut Log<'_>, work: &Work) -> Result<(), BenchError> {
    let plan = Plan {
        image: image_for(work.id)?,
        disks: Vec::new(),
        commands: std::iter::once(SAME_ADDRESSES)
            .chain(work.steps.iter().map(|(_, command)| *command))
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
        tell(log, work, &on, &off);
    }
    Ok(())
}

fn tell(log: &mut Log<'_>, work: &Work, on: &Side, off: &Side) {
    let total = |side: &Side| side.seconds.iter().sum::<f64>();
    let what = format!(
        "time of {GUESTS} Linux guests' {} with all mechanisms on over all off",
        work.what
    );
    log.add(
        &Row::new(work.id, &what, "", Wanted::AtMost(1.05)),
        total(on) / total(off),
    );
    let mut detail = |id: &str, what: &str, unit, value| {
        log.add(
            &Row::detail(&format!("{}-{id}", work.id), what, unit),
            value,
        );
    };
    for ((id, _), (on, off)) in work.steps.iter().zip(on.seconds.iter().zip(&off.seconds)) {
        detail(id, &format!("the same of `{id}`"), "", on / off);
    }
    if off.faults > 0 {
        let what = "the guests' page faults in KVM meanwhile, all on over all off";
        detail("faults", what, "", on.faults as f64 / off.faults as f64);
    }
    detail("off", "time with all off", "s", total(off));
    let what = "page faults with all off";
    detail("faults-off", what, "", off.faults as f64);
    let what = "what a fault is taken to cost a guest";
    detail("fault", what, "ms", on.fault * 1e3);
    let what = "the scanner's CPU time over the time of the work";
    detail("scanner", what, "", on.scanner / total(on));
    let what = "memory that was saved at the end";
    detail("saved", what, "MiB", on.reclaimed as f64 / 256.0);
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
    let mut seconds = vec![0.0; plan.commands.len() - 1];
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
