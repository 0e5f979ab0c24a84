//! A full-coverage pass over memory where nothing was written since the last.
//!
//! The guests hold what guests hold: files in runs, objects, pages equal in all guests, zeros, and
//! mostly pages of their own. The guests of both sides are there at the same time, and the sides
//! take turns. ksmd is measured twice: as it comes, skipping most pages that it has found unequal
//! before (its figure is then the mean of as many scans as skipping takes), and looking at every
//! page in each scan, which is what a pass of full coverage means.

use mirrorball_abi::WorkloadKind;
use mirrorball_dedup::Scanner;

use super::rig::{self, Guests, Rig};
use super::{Bench, BenchError, Log, Row, Wanted, kernel};

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "clean-pass",
    what: "CPU of a pass over 4 GiB in use that nobody wrote",
    measure,
};

/// Guests.
const GUESTS: u64 = 4;
/// Memory of each: the workload takes at most three quarters of what is free.
const MEMORY: u64 = 1440 << 20;
/// Pages of a guest that are filled with its own content, 1 GiB.
const OWN: u64 = 256 << 10;
/// Pages of a guest that are equal in all guests, beyond its files.
const EQUAL: u64 = 24 << 10;
/// Pages of a guest's zeroed working set.
const ZERO: u64 = 12 << 10;
/// Passes until the scanner is calm: everything shared, every mapping protected again.
const CALM: u32 = 24;
/// Passes whose mean is one value: one alone is shorter than the clock is good for.
const PASSES: u32 = 16;
/// ksmd scans a page that it found unequal often enough in one of so many scans.
const SKIP_CYCLE: u64 = 9;
/// Scans after which pages are old enough for that.
const AGE: u64 = 16;

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    let ours = filled(true)?;
    let mut scanner = ours.scanner();
    for _ in 0..CALM {
        scanner.pass();
    }
    ours.pmap().settle_all();
    let totals = ours.pmap().totals();
    let detail = |id: &str, what: &str, unit| Row::detail(id, what, unit);
    let mib = |pages: u64| (pages >> 8) as f64;
    log.add(
        &detail("clean-memory", "memory in use by the guests", "MiB"),
        mib(totals.touched),
    );
    log.add(
        &detail("clean-shared", "of it, shared or zero", "MiB"),
        mib(totals.shared),
    );
    log.add(
        &detail("clean-vmas", "mappings of guest memory", ""),
        totals.vmas as f64,
    );
    let theirs = filled(false)?;
    let merged = kernel::merge(&theirs, Some(true))?;
    let mut at = merged.boundary()?;
    if merged.set_smart_scan(true) {
        merged.full_scans(&mut at, AGE)?;
        for _ in 0..log.runs {
            let ours = passes(&mut scanner);
            let skipping = merged.full_scans(&mut at, SKIP_CYCLE)?;
            let what = "the same with ksmd skipping pages (smart_scan)";
            log.add(
                &Row::new("clean-pass-smart", what, "", Wanted::AtLeast(20.0)),
                skipping / ours,
            );
            log.add(
                &detail(
                    "clean-smart-ksmd",
                    "ksmd's CPU for a scan that skips, mean",
                    "ms",
                ),
                skipping * 1e3,
            );
        }
        merged.set_smart_scan(false);
        at = merged.boundary()?;
    }
    for _ in 0..log.runs {
        let ours = passes(&mut scanner);
        let every = merged.full_scans(&mut at, 1)?;
        let what = "ksmd's CPU for a full scan over the scanner's for a pass, nothing written";
        log.add(
            &Row::new("clean-pass", what, "", Wanted::AtLeast(20.0)),
            every / ours,
        );
        log.add(
            &detail("clean-ours", "the scanner's CPU for a pass", "ms"),
            ours * 1e3,
        );
        log.add(
            &detail("clean-ksmd", "ksmd's CPU for a full scan", "ms"),
            every * 1e3,
        );
    }
    merged.end(theirs)
}

/// Mean CPU time of a pass, seconds.
fn passes(scanner: &mut Scanner) -> f64 {
    let before = scanner.stats().cpu_seconds;
    for _ in 0..PASSES {
        scanner.pass();
    }
    (scanner.stats().cpu_seconds - before) / f64::from(PASSES)
}

/// Guests that have filled their memory.
fn filled(tracking: bool) -> Result<Rig, BenchError> {
    let image = Some(rig::image()?);
    let count = usize::try_from(GUESTS).unwrap_or(1);
    let rig = Rig::start(&Guests {
        count,
        memory: MEMORY,
        image,
        disk_sharing: false,
        tracking,
    })?;
    let mut build = rig::workload(WorkloadKind::Pmake, &[2, 1, 400]);
    build.cache_percent = 10;
    rig.run(&build)?;
    // The first fill leaves pages of the guest's own; the second takes their first part again.
    rig.run_each(|guest| {
        let mut own = rig::workload(WorkloadKind::Probe, &[OWN]);
        own.seed += 1 + guest;
        own
    })?;
    rig.run(&rig::workload(WorkloadKind::Probe, &[EQUAL]))?;
    // One period of 50 ms: working set, period, moved, written, zero, equal, duration.
    rig.run(&rig::workload(
        WorkloadKind::Touch,
        &[ZERO, 1000, 1, 100, 100, 0, 50],
    ))?;
    Ok(rig)
}
