//! Bringing the books up to date with what guests wrote.
//!
//! The kernel breaks a mapped page by itself when the guest writes it, and tells nobody. The page
//! map does: an overlaid page that has become private was broken.

use super::AddressSpace;
use super::table::Table;
use crate::sys::Undisturbed;
use crate::types::{Ppn, PpnRun};

/// Frames' pages below which looking at them one by one costs nothing worth avoiding.
const FEW: u64 = 256;

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
        // Devices of this VM wait for the table: the scan is not to be put off half way.
        let undisturbed = Undisturbed::begin(if protect { self.pages() } else { 0 });
        let mut table = self.table.lock();
        if table.detached() {
            return written;
        }
        let unprotected = match common.pagemap.written_runs(base, whole, &mut written) {
            Ok(unprotected) => unprotected,
            Err(error) => {
                // Fail closed: without the page map nothing is shared or freed on stale books.
                tracing::error!(%error, vm = ?self.vm, "the page map could not be read");
                return Vec::new();
            }
        };
        for &run in &written {
            if protect {
                self.track(&table, run);
            }
            table.set_private(run, &mut released);
        }
        if protect && unprotected > FEW && table.calm_look() {
            self.quieten(whole);
        }
        drop(table);
        common.frames.release(&released);
        drop(undisturbed);
        written
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

    /// Starts tracking the pages' next writes. Only what was written is protected again: protecting
    /// drops the guest's translations of the range.
    fn track(&self, table: &Table, run: PpnRun) {
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
