//! Content sharing: making guest pages name frames of equal content, while the guest runs.
//!
//! The content that is compared must be the content that is replaced. Disco and ESX held the VM
//! for that; here only a writer of the very page is held:
//! the fence of [`super::fence`] is closed around a run, every page is compared with its frame, all
//! bytes, equal runs are overlaid by their frames, writable copy-on-write, and the rest is opened
//! again. A vCPU that met the fence executes its write again, on the old page or on a copy of its
//! frame: the same bytes. So each share is one point in time: linearizable. Nothing here trusts write
//! tracking or hashes; they only choose candidates.

use super::{AddressSpace, PageState, fence::Fence};
use crate::{
    frames::PinnedFrames,
    types::{Mechanism, Mpn, Ppn, PpnRun},
};
use std::ops::Range;

/// Pages that one fence covers at most: bounds how long a writer can be held.
const MOST_FENCED: u32 = 64;

/// Guest pages that are thought to equal frames.
#[derive(Clone, Copy, Debug)]
pub struct ShareCandidate<'a> {
    /// The first page; as many follow as there are frames.
    pub at: Ppn,
    /// The frames, in the order of the pages.
    pub frames: &'a PinnedFrames,
}

/// What became of candidates, in pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareOutcome {
    /// Pages that name their frame now and did not before.
    pub shared: u64,
    /// Pages that were not equal to their frame: written since, or the hash lied.
    pub different: u64,
    /// Pages not looked at: no mappings left, other group, VM gone, outside its memory.
    pub refused: u64,
    /// Fences closed and opened.
    pub fences: u64,
    /// The shared pages as runs.
    pub shared_runs: Vec<PpnRun>,
}

impl AddressSpace {
    /// Makes every candidate page that equals its frame name it, safely against running vCPUs and
    /// devices. Pages that differ stay as they are.
    pub fn share(&self, candidates: &[ShareCandidate<'_>], mechanism: Mechanism) -> ShareOutcome {
        let mut outcome = ShareOutcome::default();
        for candidate in candidates {
            let (at, frames) = (candidate.at, candidate.frames);
            let inside = u64::from(at.0) + u64::from(frames.pages()) <= u64::from(self.pages());
            if !inside || frames.group() != self.group {
                outcome.refused += u64::from(frames.pages());
                continue;
            }
            let mut from = 0;
            while from < frames.pages() {
                let pages = MOST_FENCED.min(frames.pages() - from);
                self.share_fenced(at, frames, from..from + pages, mechanism, &mut outcome);
                from += pages;
            }
        }
        outcome
    }

    fn share_fenced(
        &self,
        at: Ppn,
        frames: &PinnedFrames,
        part: Range<u32>,
        mechanism: Mechanism,
        outcome: &mut ShareOutcome,
    ) {
        let run = PpnRun::new(at.plus(part.start), part.end - part.start);
        let Some(mut fence) = self.fence(run) else {
            outcome.refused += u64::from(run.pages);
            return;
        };
        let equal: Vec<bool> = part
            .clone()
            .map(|index| self.region.page(at.plus(index)) == frames.page(index))
            .collect();
        between_compare_and_remap();
        for (offset, pages, equal) in stretches(&equal) {
            let piece = PpnRun::new(run.start.plus(offset), pages);
            if equal {
                let frames = frames.start().plus(part.start + offset);
                self.remap(&mut fence, piece, frames, mechanism, outcome);
            } else {
                outcome.different += u64::from(pages);
                fence.open(piece);
            }
        }
        outcome.fences += 1;
        fence.end();
    }

    /// Makes pages that equal frames name them.
    fn remap(
        &self,
        fence: &mut Fence<'_>,
        piece: PpnRun,
        first: Mpn,
        mechanism: Mechanism,
        outcome: &mut ShareOutcome,
    ) {
        if let Err(error) = fence.overlay(piece, first) {
            tracing::warn!(%error, vm = ?self.vm, ?piece, "frames could not be laid over equal pages");
            outcome.refused += u64::from(piece.pages);
            fence.open(piece);
            return;
        }
        let already = piece.iter().zip(first.0..).filter(|&(ppn, mpn)| {
            matches!(fence.table.state(ppn), PageState::Mapped(now, _) if now.0 == mpn)
        });
        outcome.shared += u64::from(piece.pages) - already.count() as u64;
        let released = &mut fence.released;
        let vmas = fence.table.set_mapped(piece, first, mechanism, released);
        self.common.frames.reference(first, piece.pages, mechanism);
        self.common.budget.change(vmas);
        match outcome.shared_runs.last_mut() {
            Some(last) if last.end() == piece.start => last.pages += piece.pages,
            _ => outcome.shared_runs.push(piece),
        }
    }
}

/// Stretches of equal answers: offset, length, answer.
fn stretches(answers: &[bool]) -> impl Iterator<Item = (u32, u32, bool)> {
    answers
        .chunk_by(|one, other| one == other)
        .scan(0u32, |offset, stretch| {
            let start = *offset;
            let pages = u32::try_from(stretch.len()).ok()?;
            *offset += pages;
            Some((start, pages, *stretch.first()?))
        })
}

#[cfg(not(feature = "broken-share-protocol"))]
fn between_compare_and_remap() {}

/// Time for a guest to write where no fence is closed.
#[cfg(feature = "broken-share-protocol")]
fn between_compare_and_remap() {
    std::thread::sleep(std::time::Duration::from_micros(50));
}
