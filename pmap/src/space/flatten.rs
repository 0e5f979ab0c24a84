//! Making pages that were written over frames plain memory again.
//!
//! Such a page can't be moved out (it is a private copy inside a mapping of the frame store), and
//! dropping it would uncover the frame. So its bytes are copied into memory of its own, and that is
//! moved over the mapping in one step, under the fence: whoever reads sees the same bytes before and
//! after, whoever writes waits.

use super::AddressSpace;
use crate::types::PpnRun;

impl AddressSpace {
    /// Makes a run of broken pages plain; false where that can't be done now.
    pub(super) fn flatten(&self, run: PpnRun) -> bool {
        let Some(mut fence) = self.fence(run) else {
            return false;
        };
        // The books may be behind what was picked: the run may lie over other frames by now.
        let broken = run.iter().all(|ppn| fence.table.is_broken(ppn));
        if !broken {
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
            let vmas = fence.table.set_plain(run);
            self.common.budget.change(vmas);
        }
        fence.end();
        flattened.is_ok()
    }
}
