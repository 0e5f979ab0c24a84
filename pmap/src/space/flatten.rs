//! Making pages that were written over frames plain memory again.
//!
//! Such a page can't be moved out (it is a private copy inside a mapping of the frame store), and
//! dropping it would uncover the frame. So its bytes are copied into memory of its own, and that is
//! moved over the mapping in one step, under the fence: whoever reads sees the same bytes before and
//! after, whoever writes waits.
//!
//! Part of a mapping takes up to two more. Where there are none, a whole mapping is made plain, with
//! those of its pages that still name frames: that needs none, and without it memory could not be
//! taken from guests any more.

use super::{AddressSpace, PageState, fence::Purpose};
use crate::types::PpnRun;

/// Pages of a mapping that is made plain as a whole, at most.
const MOST_WHOLE: u32 = 64;

impl AddressSpace {
    /// Makes a run of broken pages plain, which lies in one overlay; false where that can't be done now.
    pub(super) fn flatten(&self, run: PpnRun) -> bool {
        if self.flatten_for(run, Purpose::Reclaim) {
            return true;
        }
        let table = self.table.lock();
        let overlaid = table.overlay(run.start).is_some();
        let whole = overlaid.then(|| table.overlay_around(run.start));
        drop(table);
        whole.is_some_and(|whole| {
            whole.pages <= MOST_WHOLE && self.flatten_for(whole, Purpose::Replace)
        })
    }

    fn flatten_for(&self, run: PpnRun, purpose: Purpose) -> bool {
        let Some(mut fence) = self.fence(run, purpose) else {
            return false;
        };
        // The books may be behind what was picked: the run may lie over other frames by now.
        let fits = match purpose {
            Purpose::Replace => {
                fence.table.overlay(run.start).is_some()
                    && fence.table.overlay_around(run.start) == run
                    && run.iter().all(|ppn| {
                        let shows = matches!(fence.table.state(ppn), PageState::Mapped(..));
                        shows || fence.table.is_broken(ppn)
                    })
            }
            Purpose::Reclaim | Purpose::Share => run.iter().all(|ppn| fence.table.is_broken(ppn)),
        };
        if !fits {
            fence.open(run);
            fence.end();
            return false;
        }
        let flattened = self.region.flatten(run);
        if let Err(error) = &flattened {
            tracing::warn!(%error, vm = ?self.vm, ?run, "pages stay over frames");
            fence.open(run);
        } else {
            if let Err(error) = self.track_writes(run) {
                tracing::warn!(%error, vm = ?self.vm, ?run, "writes can't be tracked");
            }
            self.forget_swapped(run, true);
            let released = &mut fence.released;
            fence.table.set_private(run, released);
            let vmas = fence.table.set_plain(run);
            self.common.budget.change(vmas);
        }
        fence.end();
        flattened.is_ok()
    }
}
