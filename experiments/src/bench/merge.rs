//! CPU per page merged: our scanner against ksmd, over equal guests.
//!
//! Both sides get freshly started guests that did the same work and then went quiet, disk sharing
//! off, so that everything is left to the scanners. A page merged is a page saved, on both sides.
//! Ours is charged for all passes up to the first that finds nothing more, hashing threads
//! included; ksmd is charged up to its last merge.

use mirrorball_abi::{Workload, WorkloadKind};

use super::rig::{self, Guests, Rig};
use super::{Bench, BenchError, Log, Row, Wanted, kernel};

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "merge",
    what: "CPU per page merged, scanner against ksmd, equal guests",
    measure,
};

/// Passes after which a scanner that still finds something is given up.
const MOST_PASSES: u32 = 20;

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    let image = Some(rig::image()?);
    let guests = |image| Guests {
        count: 8,
        memory: 64 << 20,
        image,
        disk_sharing: false,
        tracking: true,
    };
    let real = (
        guests(image),
        rig::workload(WorkloadKind::Pmake, &[2, 1, 400]),
    );
    // Every page equal in all guests, in one run: sharing at its easiest, for both.
    let plain = (guests(None), rig::workload(WorkloadKind::Probe, &[8192]));
    for _ in 0..log.runs {
        compare(log, "merge", "guests that built sources", &real)?;
        compare(log, "merge-equal", "guests equal page by page", &plain)?;
    }
    Ok(())
}

fn compare(
    log: &mut Log<'_>,
    id: &str,
    whose: &str,
    work: &(Guests, Workload),
) -> Result<(), BenchError> {
    let ours = ours(work)?;
    let rig = Rig::start(&Guests {
        tracking: false,
        ..work.0.clone()
    })?;
    rig.run(&work.1)?;
    let merged = kernel::merge(&rig, None)?;
    let (pages, cpu, first_scan) = (merged.pages.max(1) as f64, merged.cpu, merged.first_scan);
    merged.end(rig)?;
    let (theirs, later) = (cpu / pages, (cpu - first_scan) / pages);
    let what = format!("CPU of ksmd over the scanner's per page merged, {whose}");
    log.add(
        &Row::new(id, &what, "", Wanted::AtLeast(5.0)),
        theirs / ours.cpu_per_page,
    );
    let detail = |name: &str, what: &str, unit| Row::detail(&format!("{id}-{name}"), what, unit);
    let what = "the same without ksmd's first (checksum) scan";
    log.add(&detail("later", what, ""), later / ours.cpu_per_page);
    log.add(
        &detail("ours", "the scanner's CPU per page merged", "us"),
        ours.cpu_per_page * 1e6,
    );
    log.add(
        &detail("ksmd", "ksmd's CPU per page merged", "us"),
        theirs * 1e6,
    );
    log.add(
        &detail("pages", "pages that the scanner merged", "pages"),
        ours.pages,
    );
    log.add(
        &detail("ksmd-pages", "pages that ksmd merged", "pages"),
        pages,
    );
    Ok(())
}

struct Ours {
    cpu_per_page: f64,
    pages: f64,
}

fn ours(work: &(Guests, Workload)) -> Result<Ours, BenchError> {
    let rig = Rig::start(&work.0)?;
    rig.run(&work.1)?;
    let before = rig.reclaimed();
    let mut scanner = rig.scanner();
    for _ in 0..MOST_PASSES {
        let work = scanner.pass().work;
        // The first pass of all finds out what is there; the one after it looks.
        if work.passes < scanner.stats().passes && work.shared + work.zero_released == 0 {
            let pages = (rig.reclaimed() - before).max(1) as f64;
            return Ok(Ours {
                cpu_per_page: scanner.stats().cpu_seconds / pages,
                pages,
            });
        }
    }
    Err(BenchError(format!(
        "the scanner still merges after {MOST_PASSES} passes"
    )))
}
