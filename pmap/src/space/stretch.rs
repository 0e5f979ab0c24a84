//! Sharing neighbouring runs together while their guest is outside.
//!
//! Like guests' pages come in runs of some ten pages between which the frames are not consecutive, so
//! each needs a mapping of its own. While no vCPU is in guest mode nobody has to see the memory
//! at all: vCPUs, devices and readers wait at their locks. Then the runs are compared together and
//! replaced together, which takes the kernel half the time (see `sys::replace`). For a VM whose vCPUs
//! run it would not be right: a read of theirs must find something at every moment.

use super::AddressSpace;
use super::fence::Fence;
use super::share::{Part, ShareOutcome, between_compare_and_remap, stretch};
use crate::types::{Mechanism, Mpn, PpnRun};

/// Mappings that replacing a stretch adds at most, besides one for each run.
const MOST_NEW_VMAS: i64 = 2;

impl AddressSpace {
    /// Shares all pages of neighbouring parts that are equal; false, with nothing done, where they
    /// have to be shared one after another.
    pub(super) fn share_stretch(
        &self,
        parts: &[Part<'_>],
        mechanism: Mechanism,
        outcome: &mut ShareOutcome,
    ) -> bool {
        if parts.len() < 2 || !self.region.is_secluded() {
            return false;
        }
        let pages = parts.iter().map(|part| part.run().pages).sum();
        let run = parts
            .first()
            .map(|part| PpnRun::new(part.run().start, pages));
        let most_vmas = i64::from(pages) + MOST_NEW_VMAS;
        let Some(mut fence) = run.and_then(|run| self.fence_outside(run, most_vmas)) else {
            return false;
        };
        outcome.fences += 1;
        let equal = self.equal_runs(parts, outcome);
        between_compare_and_remap();
        // An overlay of these very frames whose pages were broken is not laid again (see `overlay`).
        let again = |(run, first): &(PpnRun, Mpn)| fence.table.overlaid_by(*run, *first);
        let together: Vec<_> = equal
            .chunk_by(|one, next| one.0.end() == next.0.start && !again(one) && !again(next))
            .collect();
        for runs in together {
            self.replace(&mut fence, runs, mechanism, outcome);
        }
        fence.end();
        true
    }

    /// The parts' pages that equal their frames, as runs over consecutive frames.
    fn equal_runs(&self, parts: &[Part<'_>], outcome: &mut ShareOutcome) -> Vec<(PpnRun, Mpn)> {
        let mut equal = Vec::with_capacity(parts.len());
        for part in parts {
            let mut rest = part.range.clone();
            while !rest.is_empty() {
                let (pages, same) = stretch(rest.clone(), |index| {
                    self.region.page(part.at.plus(index)) == part.frames.page(index)
                });
                if same {
                    let run = PpnRun::new(part.at.plus(rest.start), pages);
                    equal.push((run, part.frames.start().plus(rest.start)));
                } else {
                    outcome.different += u64::from(pages);
                }
                rest.start += pages;
            }
        }
        equal
    }

    /// Makes neighbouring runs name their frames.
    fn replace(
        &self,
        fence: &mut Fence<'_>,
        runs: &[(PpnRun, Mpn)],
        mechanism: Mechanism,
        outcome: &mut ShareOutcome,
    ) {
        if let [(run, first)] = runs {
            return self.remap(fence, *run, *first, mechanism, outcome);
        }
        let store = self.common.frames.memory();
        let laid = match self.region.replace(runs, store) {
            Ok(laid) => laid,
            Err(error) => {
                tracing::warn!(%error, vm = ?self.vm, ?runs, "equal pages could not be unmapped");
                outcome.refused += runs
                    .iter()
                    .map(|(run, _)| u64::from(run.pages))
                    .sum::<u64>();
                return;
            }
        };
        for (run, first) in &runs[..laid] {
            self.note_shared(fence, *run, *first, mechanism, outcome);
        }
        for (run, _) in &runs[laid..] {
            tracing::warn!(vm = ?self.vm, ?run, "no mapping for equal pages: they stay private");
            outcome.refused += u64::from(run.pages);
            self.note_plain(fence, *run);
        }
    }

    /// Enters pages into the books that are plain memory now, with the bytes that they had.
    fn note_plain(&self, fence: &mut Fence<'_>, run: PpnRun) {
        self.forget_swapped(run, true);
        if let Err(error) = self.track_writes(run) {
            tracing::warn!(%error, vm = ?self.vm, ?run, "writes can't be tracked");
        }
        fence.table.set_private(run, &mut fence.released);
        let vmas = fence.table.set_plain(run);
        self.common.budget.change(vmas);
    }
}
