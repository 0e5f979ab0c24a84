//! Bringing the books up to date with what guests wrote.
//!
//! The kernel breaks a mapped page by itself when the guest writes it, and tells nobody. The page
//! map does: an overlaid page that has become private was broken.

use super::AddressSpace;
use crate::{
    sys::Select,
    types::{Ppn, PpnRun},
};

impl AddressSpace {
    /// Brings the books up to date: pages written since become private, their references end.
    /// Costs by what was written since the last [`Self::take_written`].
    pub fn settle(&self) {
        self.settle_written(false);
    }

    /// Settles, and returns the runs of private pages written since the last call, in order. From
    /// then on their next write is noticed again. Where writes can't be tracked, all private
    /// pages are returned each time.
    #[must_use = "a page reported here is not reported again until it is written again"]
    pub fn take_written(&self) -> Vec<PpnRun> {
        self.settle_written(true)
    }

    /// The runs of pages that were mapped by a device since the last call, in order of mapping:
    /// content that no write has announced. May name pages that have changed since.
    #[must_use = "a page reported here is not reported again until it is mapped again"]
    pub fn take_mapped(&self) -> Vec<PpnRun> {
        self.table.lock().take_mapped()
    }

    fn settle_written(&self, protect: bool) -> Vec<PpnRun> {
        let (common, base) = (&self.common, self.region.address());
        let whole = PpnRun::new(Ppn(0), self.pages());
        let (mut written, mut released) = (Vec::new(), Vec::new());
        let mut table = self.table.lock();
        if table.detached() {
            return written;
        }
        if let Err(error) = common
            .pagemap
            .private_runs(base, whole, Select::Written, &mut written)
        {
            // Fail closed: without the page map nothing is shared or freed on stale books.
            tracing::error!(%error, vm = ?self.vm, "the page map could not be read");
            return Vec::new();
        }
        for &run in &written {
            if protect {
                self.track(&table, run);
            }
            table.set_private(run, &mut released);
        }
        drop(table);
        common.frames.release(&released);
        written
    }

    /// Starts tracking the pages' next writes. Only what was written is protected again: protecting
    /// drops the guest's translations of the range.
    fn track(&self, table: &super::table::Table, run: PpnRun) {
        let Some(tracking) = &self.common.tracking else {
            return;
        };
        let base = self.region.address();
        let mut next = run.start;
        while next < run.end() {
            let Some(_) = table.overlay(next) else {
                next = next.plus(1);
                continue;
            };
            // An overlay is not tracked until one of its pages is broken for the first time.
            let overlay = table.overlay_around(next);
            let (start, bytes) = (
                base + overlay.start.address(),
                overlay.end().address() - overlay.start.address(),
            );
            if let Err(error) = tracking.register(start, bytes) {
                tracing::warn!(%error, vm = ?self.vm, "an overlay can't be tracked");
            }
            next = overlay.end();
        }
        if let Err(error) = self.common.pagemap.protect(base, run) {
            // The pages are reported as written again next time: slower, not wrong.
            tracing::warn!(%error, vm = ?self.vm, "writes can't be tracked");
        }
    }
}
