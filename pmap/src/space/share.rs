//! Content sharing: making guest pages name frames of equal content, while the guest runs.
//!
//! The content that is compared must be the content that is replaced. Disco and ESX held the VM
//! for that; here only a writer of the very page is held:
//! the fence of [`super::fence`] is closed around a run, every page is compared with its frame, all
//! bytes, the first stretch of equal pages is overlaid by its frames, writable copy-on-write, and the
//! rest is opened again and gets a fence of its own: each change of the mappings may wait for the
//! process's memory map, so a fence makes one. A vCPU that met the fence executes its write again, on the old page or on a copy of its
//! frame: the same bytes. So each share is one point in time: linearizable. Nothing here trusts write
//! tracking or hashes; they only choose candidates.

use super::{
    AddressSpace, PageState,
    fence::{Fence, Purpose},
};
use crate::{
    frames::PinnedFrames,
    types::{Mechanism, Mpn, Ppn, PpnRun},
};
use std::ops::Range;

/// Pages that one fence covers at most: bounds how long a writer can be held.
const MOST_FENCED: u32 = 64;

/// Pages that are dealt with together at most while the guest is outside.
const MOST_TOGETHER: u32 = 128;

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

/// Pages of a candidate that are dealt with together.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    pub(super) at: Ppn,
    pub(super) frames: &'a PinnedFrames,
    /// Which of the candidate's pages.
    pub(super) range: Range<u32>,
}

impl Part<'_> {
    pub(super) fn run(&self) -> PpnRun {
        PpnRun::new(
            self.at.plus(self.range.start),
            self.range.end - self.range.start,
        )
    }
}

impl AddressSpace {
    /// Makes every candidate page that equals its frame name it, safely against running vCPUs and
    /// devices. Pages that differ stay as they are. Candidates that are neighbours, in order, are
    /// cheaper together.
    pub fn share(&self, candidates: &[ShareCandidate<'_>], mechanism: Mechanism) -> ShareOutcome {
        let mut outcome = ShareOutcome::default();
        let mut parts = Vec::new();
        for candidate in candidates {
            let (at, frames) = (candidate.at, candidate.frames);
            let inside = u64::from(at.0) + u64::from(frames.pages()) <= u64::from(self.pages());
            if !inside || frames.group() != self.group {
                outcome.refused += u64::from(frames.pages());
                continue;
            }
            parts.extend(
                (0..frames.pages())
                    .step_by(MOST_FENCED as usize)
                    .map(|from| Part {
                        at,
                        frames,
                        range: from..frames.pages().min(from + MOST_FENCED),
                    }),
            );
        }
        let mut rest = parts.as_slice();
        while !rest.is_empty() {
            let (stretch, others) = rest.split_at(neighbours(rest));
            rest = others;
            if self.share_stretch(stretch, mechanism, &mut outcome) {
                continue;
            }
            for part in stretch {
                let mut rest = part.range.clone();
                while !rest.is_empty() {
                    rest.start += self.share_part(
                        part.at,
                        part.frames,
                        rest.clone(),
                        mechanism,
                        &mut outcome,
                    );
                }
            }
        }
        outcome
    }

    /// Shares the first pages of `part` that are equal; returns how many pages are dealt with.
    fn share_part(
        &self,
        at: Ppn,
        frames: &PinnedFrames,
        mut part: Range<u32>,
        mechanism: Mechanism,
        outcome: &mut ShareOutcome,
    ) -> u32 {
        let equal = |index| self.region.page(at.plus(index)) == frames.page(index);
        let from = part.start;
        if !self.guest_outside() {
            let _mapped = self.dma.read_recursive();
            // A look before the fence: pages that already differ need none, and what it brings into
            // the cache shortens the time that writers are held.
            let (pages, same) = stretch(part.clone(), equal);
            if !same {
                outcome.different += u64::from(pages);
                return pages;
            }
            part.end = from + pages;
        }
        let run = PpnRun::new(at.plus(from), part.end - from);
        let Some(mut fence) = self.fence(run, Purpose::Share) else {
            outcome.refused += u64::from(run.pages);
            return run.pages;
        };
        let (pages, same) = stretch(part, equal);
        let (piece, left) = (
            PpnRun::new(run.start, pages),
            PpnRun::new(run.start.plus(pages), run.pages - pages),
        );
        between_compare_and_remap();
        if same {
            self.remap(
                &mut fence,
                piece,
                frames.start().plus(from),
                mechanism,
                outcome,
            );
        } else {
            outcome.different += u64::from(pages);
            fence.open(piece);
        }
        if left.pages > 0 {
            fence.open(left);
        }
        outcome.fences += 1;
        fence.end();
        pages
    }

    /// Makes pages that equal frames name them.
    pub(super) fn remap(
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
        self.note_shared(fence, piece, first, mechanism, outcome);
    }

    /// Enters pages that name frames now into the books.
    pub(super) fn note_shared(
        &self,
        fence: &mut Fence<'_>,
        piece: PpnRun,
        first: Mpn,
        mechanism: Mechanism,
        outcome: &mut ShareOutcome,
    ) {
        self.forget_swapped(piece, true);
        let already = piece.iter().zip(first.0..).filter(|&(ppn, mpn)| {
            matches!(fence.table.state(ppn), PageState::Mapped(now, _) if now.0 == mpn)
        });
        outcome.shared += u64::from(piece.pages) - already.count() as u64;
        let released = &mut fence.released;
        let vmas = fence.table.set_mapped(piece, first, mechanism, released);
        self.common.frames.reference(first, piece.pages, mechanism);
        if mechanism != Mechanism::Content {
            // The scanner knows its own; others' frames it has to be told of.
            fence.table.note_mapped(piece);
        }
        self.common.budget.change(vmas);
        match outcome.shared_runs.last_mut() {
            Some(last) if last.end() == piece.start => last.pages += piece.pages,
            _ => outcome.shared_runs.push(piece),
        }
    }
}

/// How many of the parts, from the first on, are neighbours and may be dealt with together.
fn neighbours(parts: &[Part<'_>]) -> usize {
    let Some(first) = parts.first().map(Part::run) else {
        return 0;
    };
    let mut end = first.end();
    let follow = parts.iter().skip(1).take_while(|part| {
        let run = part.run();
        let next = run.start == end && run.end().0 - first.start.0 <= MOST_TOGETHER;
        end = run.end();
        next
    });
    1 + follow.count()
}

/// How many pages from the first on have the answer of the first, and that answer.
pub(super) fn stretch(part: Range<u32>, answer: impl Fn(u32) -> bool) -> (u32, bool) {
    let Some(first) = part.clone().next().map(&answer) else {
        return (0, false);
    };
    let differs = part.clone().skip(1).find(|&index| answer(index) != first);
    (differs.unwrap_or(part.end) - part.start, first)
}

#[cfg(not(feature = "broken-share-protocol"))]
pub(super) fn between_compare_and_remap() {}

/// Time for a guest to write where no fence is closed.
#[cfg(feature = "broken-share-protocol")]
pub(super) fn between_compare_and_remap() {
    std::thread::sleep(std::time::Duration::from_micros(50));
}
