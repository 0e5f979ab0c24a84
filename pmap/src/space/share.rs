//! Content sharing: making guest pages name frames of equal content, while the guest runs.
//!
//! The content that is compared must be the content that is replaced. Disco and ESX held the VM
//! for that; here only a writer of the very page is held, by a **fence**:
//!
//! 1. `dma` is taken exclusively: no device is in the VM's memory.
//! 2. If no vCPU is in guest mode, they are kept out for the moment, and that is all the fence there
//!    need be. Otherwise writes to the run are forbidden (`mprotect`). When that call returns, no CPU has a writable
//!    translation left, neither of the process nor of KVM (its MMU notifier): the content stands.
//! 3. Every page is compared with its frame, all bytes.
//! 4. Equal runs are overlaid by their frames, writable copy-on-write; the rest is made writable again.
//! 5. `dma` is released.
//!
//! A vCPU that writes a fenced page leaves `KVM_RUN` with `EFAULT` before the write has happened,
//! waits in [`AddressSpace::wait_for_fence`], and executes the same instruction again, on the old
//! page or on a copy of its frame: the same bytes. Reads never wait. So each share is one point in
//! time: linearizable. Nothing here trusts write tracking or hashes; they only choose candidates.

use super::{AddressSpace, table::Table};
use crate::{
    frames::PinnedFrames,
    sys::Undisturbed,
    types::{Mechanism, Ppn, PpnRun},
};
use parking_lot::RwLockWriteGuard;
use std::{io, time::Instant};

/// Pages that one fence covers at most: bounds how long a writer can be held.
const MOST_FENCED: u32 = 64;

/// Mappings that a fence around part of a mapping, with an overlay inside, adds at most.
const MOST_NEW_VMAS: i64 = 4;

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

/// What keeps a VM's vCPUs from writing pages under comparison.
#[derive(Debug)]
#[cfg_attr(
    feature = "broken-share-protocol",
    allow(dead_code, reason = "the broken protocol keeps nobody out")
)]
pub(super) enum Fence<'a> {
    /// None of them is in guest mode, and none gets in.
    Outside { _guest: RwLockWriteGuard<'a, ()> },
    /// The pages can't be written.
    Closed,
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
        part: std::ops::Range<u32>,
        mechanism: Mechanism,
        outcome: &mut ShareOutcome,
    ) {
        let run = PpnRun::new(at.plus(part.start), part.end - part.start);
        let mut released = Vec::new();
        let batch = self.dma.write();
        let mut table = self.table.lock();
        if table.detached() || !self.common.budget.has_room(MOST_NEW_VMAS) {
            outcome.refused += u64::from(run.pages);
            return;
        }
        let undisturbed = Undisturbed::begin(run.pages);
        let closed = Instant::now();
        let fence = match self.close_fence(run) {
            Ok(fence) => fence,
            Err(error) => {
                tracing::warn!(%error, vm = ?self.vm, ?run, "no fence");
                outcome.refused += u64::from(run.pages);
                return;
            }
        };
        let equal: Vec<bool> = part
            .clone()
            .map(|index| self.region.page(at.plus(index)) == frames.page(index))
            .collect();
        self.between_compare_and_remap();
        let mut next = 0;
        while next < equal.len() {
            let length = equal[next..]
                .iter()
                .take_while(|&&other| other == equal[next])
                .count();
            #[allow(
                clippy::cast_possible_truncation,
                reason = "a fence covers at most MOST_FENCED pages"
            )]
            let (offset, pages) = (part.start + next as u32, length as u32);
            let piece = PpnRun::new(at.plus(offset), pages);
            if equal[next] {
                self.remap(
                    &fence,
                    &mut table,
                    piece,
                    frames,
                    offset,
                    mechanism,
                    &mut released,
                    outcome,
                );
            } else {
                outcome.different += u64::from(pages);
                self.open_fence(&fence, piece);
            }
            next += length;
        }
        drop(fence);
        outcome.fences += 1;
        let held = closed.elapsed();
        drop(table);
        drop(batch);
        self.record_hold(held);
        self.common.frames.release(&released);
        drop(undisturbed);
    }

    /// Lays frames over fenced pages that equal them, which opens the fence there.
    #[allow(
        clippy::too_many_arguments,
        reason = "the state of one fence, split so that each step reads alone"
    )]
    fn remap(
        &self,
        fence: &Fence<'_>,
        table: &mut Table,
        piece: PpnRun,
        frames: &PinnedFrames,
        offset: u32,
        mechanism: Mechanism,
        released: &mut Vec<crate::frames::Released>,
        outcome: &mut ShareOutcome,
    ) {
        let first = frames.start().plus(offset);
        let result = if table.overlaid_by(piece, first) {
            // Broken copies inside an overlay of these very frames: dropping them is enough.
            self.region
                .discard(piece)
                .inspect(|()| self.open_fence(fence, piece))
        } else {
            self.region
                .overlay(piece, self.common.frames.memory(), first)
        };
        if let Err(error) = result {
            tracing::warn!(%error, vm = ?self.vm, ?piece, "frames could not be laid over equal pages");
            outcome.refused += u64::from(piece.pages);
            self.open_fence(fence, piece);
            return;
        }
        let already = piece
            .iter()
            .zip(first.0..)
            .filter(|&(ppn, mpn)| matches!(table.state(ppn), super::PageState::Mapped(now, _) if now.0 == mpn))
            .count();
        let vmas = table.set_mapped(piece, first, mechanism, released);
        self.common.frames.reference(first, piece.pages, mechanism);
        self.common.budget.change(vmas);
        outcome.shared += u64::from(piece.pages) - already as u64;
        match outcome.shared_runs.last_mut() {
            Some(last) if last.end() == piece.start => last.pages += piece.pages,
            _ => outcome.shared_runs.push(piece),
        }
    }

    /// Keeps every vCPU from writing the pages of `run`. The caller has excluded devices.
    #[cfg(not(feature = "broken-share-protocol"))]
    pub(super) fn close_fence(&self, run: PpnRun) -> io::Result<Fence<'_>> {
        if let Some(outside) = self.guest.try_write() {
            return Ok(Fence::Outside { _guest: outside });
        }
        self.region.protect(run, false)?;
        Ok(Fence::Closed)
    }

    #[cfg(not(feature = "broken-share-protocol"))]
    fn between_compare_and_remap(&self) {}

    /// The deliberate bug that the integrity tests must find: no fence, so a guest may write
    /// between comparison and remapping.
    #[cfg(feature = "broken-share-protocol")]
    #[allow(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "stands in for the real one"
    )]
    pub(super) fn close_fence(&self, _run: PpnRun) -> io::Result<Fence<'_>> {
        Ok(Fence::Closed)
    }

    #[cfg(feature = "broken-share-protocol")]
    #[allow(clippy::unused_self, reason = "stands in for the real one")]
    fn between_compare_and_remap(&self) {
        std::thread::sleep(std::time::Duration::from_micros(50));
    }

    /// Allows writes again. When even that fails the pages stay fenced: the VM's next write to
    /// them never succeeds and its vCPU thread stops it, with nothing lost.
    pub(super) fn open_fence(&self, fence: &Fence<'_>, run: PpnRun) {
        if matches!(fence, Fence::Outside { .. }) {
            return;
        }
        if let Err(error) = self.region.protect(run, true) {
            tracing::error!(%error, vm = ?self.vm, ?run, "a fence can't be opened");
        }
    }
}
