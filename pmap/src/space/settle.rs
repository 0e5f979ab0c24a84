//! Bringing the books up to date with what guests wrote.
//!
//! The kernel breaks a mapped page by itself when the guest writes it, and tells nobody. The page
//! map does: an overlaid page that has become private was broken.

use super::AddressSpace;
use super::table::Table;
use crate::sys::Undisturbed;
use crate::types::{PAGE_BYTES, Ppn, PpnRun};

/// Frames' pages below which looking at them one by one costs nothing worth avoiding.
const FEW: u64 = 256;

/// Pages written since they were last taken.
#[derive(Debug, Default)]
pub struct Taken {
    /// The pages, in order.
    pub runs: Vec<PpnRun>,
    /// All that were found written, in order: these, and those that will be taken later.
    pub written: Vec<PpnRun>,
}

/// What a settling does besides.
#[derive(Clone, Copy, Debug)]
enum Take {
    Nothing,
    /// Takes the written pages, at most so many of them if writes are tracked.
    Written(Option<u64>),
}

impl AddressSpace {
    /// Brings the books up to date: pages written since become private, their references end.
    /// Costs by what was written since the last [`Self::take_written`].
    pub fn settle(&self) {
        self.settle_written(Take::Nothing);
    }

    /// Settles, and returns the runs of private pages written since the last call, in order. From
    /// then on their next write is noticed again. Where writes can't be tracked, all private
    /// pages are returned each time.
    #[must_use = "a page reported here is not reported again until it is written again"]
    pub fn take_written(&self) -> Vec<PpnRun> {
        self.take_written_up_to(None).runs
    }

    /// As [`Self::take_written`], but at most `most` pages of those whose writes are tracked; the
    /// others have their turn in later calls. Each page taken costs the guest a fault when it touches
    /// the page again.
    #[must_use = "a page reported here is not reported again until it is written again"]
    pub fn take_written_up_to(&self, most: Option<u64>) -> Taken {
        self.settle_written(Take::Written(most))
    }

    /// The runs of pages that were mapped by a device since the last call, in order of mapping:
    /// content that no write has announced. May name pages that have changed since.
    #[must_use = "a page reported here is not reported again until it is mapped again"]
    pub fn take_mapped(&self) -> Vec<PpnRun> {
        self.table.lock().take_mapped()
    }

    fn settle_written(&self, take: Take) -> Taken {
        let (common, base) = (&self.common, self.region.address());
        let whole = PpnRun::new(Ppn(0), self.pages());
        let (mut written, mut released) = (Vec::new(), Vec::new());
        let mut taken = Taken::default();
        // Devices of this VM wait for the table: the scan is not to be put off half way.
        let undisturbed = matches!(take, Take::Written(_)).then(Undisturbed::begin);
        let mut table = self.table.lock();
        if table.detached() {
            return taken;
        }
        // What was never taken needs no question first: all of it is to be protected.
        let mut fresh = Vec::new();
        let found = self.forget_split_zeros(&mut table).and_then(|()| {
            if matches!(take, Take::Written(None)) && !std::mem::replace(&mut table.taken, true) {
                self.protect(whole, &mut fresh);
            }
            common.pagemap.written_runs(base, whole, &mut written)
        });
        let unprotected = match found {
            Ok(unprotected) => unprotected,
            Err(error) => {
                // Fail closed: without the page map nothing is shared or freed on stale books.
                tracing::error!(%error, vm = ?self.vm, "the page map could not be read");
                return taken;
            }
        };
        let mut written = self.without_large_zeros(written);
        if let Take::Written(most) = take {
            let chosen = match most.filter(|_| common.tracking.is_some()) {
                Some(most) => table.take_turns(&written, most),
                None => written.clone(),
            };
            taken.runs = self.track(&table, chosen);
        }
        if !fresh.is_empty() {
            let fresh = self.without_large_zeros(fresh);
            taken.runs = union([taken.runs, fresh.clone()].concat());
            written = union([written, fresh].concat());
        }
        for &run in written.iter().chain(&taken.runs) {
            table.set_private(run, &mut released);
        }
        if matches!(take, Take::Written(None)) && unprotected > FEW && table.calm_look() {
            self.quieten(whole);
        }
        drop(table);
        common.frames.release(&released);
        drop(undisturbed);
        taken.written = written;
        taken
    }

    /// Protects the frames' pages that guests have read since, so that the cheap question passes
    /// over them until they are broken. Each page is translated anew once for that, so it is done
    /// only when the mappings have stayed the same for some passes.
    fn quieten(&self, whole: PpnRun) {
        let Some(tracking) = &self.common.tracking else {
            return;
        };
        let base = self.region.address();
        let result = tracking
            .register(base, self.bytes())
            .and_then(|()| self.common.pagemap.protect_frames(base, whole));
        if let Err(error) = result {
            tracing::debug!(%error, vm = ?self.vm, "frames' pages stay unprotected");
        }
    }

    /// Starts tracking the pages' next writes. Returns the runs, with what was written meanwhile.
    fn track(&self, table: &Table, mut written: Vec<PpnRun>) -> Vec<PpnRun> {
        let Some(tracking) = &self.common.tracking else {
            return written;
        };
        let base = self.region.address();
        // An overlay is not tracked until one of its pages is broken for the first time.
        for run in joined(&broken_overlays(table, &written), MOST_BETWEEN) {
            let bytes = u64::from(run.pages) * PAGE_BYTES;
            if let Err(error) = tracking.register(base + run.start.address(), bytes) {
                tracing::warn!(%error, vm = ?self.vm, "overlays can't be tracked");
            }
        }
        let mut protected = Vec::new();
        for range in clusters(&written, self.common.notified()) {
            self.protect(range, &mut protected);
        }
        written.append(&mut self.without_large_zeros(protected));
        union(written)
    }

    /// Has the next write to private pages of `range` noticed, where tracking is on, and appends those
    /// that were written before.
    fn protect(&self, range: PpnRun, written: &mut Vec<PpnRun>) {
        if self.common.tracking.is_none() {
            return;
        }
        if let Err(error) = (self.common.pagemap).protect(self.region.address(), range, written) {
            // The pages are reported as written again next time: slower, not wrong.
            tracing::warn!(%error, vm = ?self.vm, "writes can't be tracked");
        }
    }
}

/// Ranges that cover the runs. Protecting a range drops the guest's translations in it, wanted or
/// not, and tells the MMU notifiers of all `vms` VMs: so gaps are included while they cost less
/// than one more range would.
fn clusters(runs: &[PpnRun], vms: u32) -> Vec<PpnRun> {
    /// Telling one VM costs about as much as one in four pages' new translation.
    const VMS_FOR_A_PAGE: u32 = 4;
    joined(runs, vms / VMS_FOR_A_PAGE)
}

/// Pages between overlays that are tracked in one go, those between them included. Each time waits
/// until no fault of any guest is under way; a page that nobody has touched yet is asked
/// about in each pass once it is tracked, which costs far less.
const MOST_BETWEEN: u32 = 64;

/// The overlays in which the runs lie, in order.
fn broken_overlays(table: &Table, runs: &[PpnRun]) -> Vec<PpnRun> {
    let mut overlays: Vec<PpnRun> = Vec::new();
    for run in runs {
        let mut next = run.start;
        while next < run.end() {
            if table.overlay(next).is_none() {
                next = next.plus(1);
                continue;
            }
            let overlay = table.overlay_around(next);
            next = overlay.end();
            overlays.push(overlay);
        }
    }
    union(overlays)
}

/// The runs, which are in order, as one where no more than `between` pages lie between two.
fn joined(runs: &[PpnRun], between: u32) -> Vec<PpnRun> {
    let mut joined: Vec<PpnRun> = Vec::new();
    for &run in runs {
        match joined.last_mut() {
            Some(last) if run.start.0 - last.end().0 <= between => {
                last.pages = run.end().0 - last.start.0;
            }
            _ => joined.push(run),
        }
    }
    joined
}

/// The same pages as runs in order, none twice.
fn union(mut runs: Vec<PpnRun>) -> Vec<PpnRun> {
    runs.sort_unstable();
    runs.dedup_by(|run, before| {
        let joined = run.start <= before.end();
        if joined {
            before.pages = before.end().0.max(run.end().0) - before.start.0;
        }
        joined
    });
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn run(start: u32, pages: u32) -> PpnRun {
        PpnRun::new(Ppn(start), pages)
    }

    #[test]
    fn runs_unite_whatever_their_order() {
        let runs = vec![
            run(10, 5),
            run(0, 2),
            run(12, 8),
            run(30, 1),
            run(11, 1),
            run(2, 1),
        ];
        assert_eq!(union(runs), [run(0, 3), run(10, 10), run(30, 1)]);
    }

    #[test]
    fn gaps_are_covered_when_many_vms_would_be_told() {
        let runs = [run(0, 2), run(4, 2), run(100, 1)];
        assert_eq!(clusters(&runs, 1), runs);
        assert_eq!(clusters(&runs, 8), [run(0, 6), run(100, 1)]);
        assert_eq!(clusters(&runs, 1000), [run(0, 101)]);
    }
}
