//! The fence: a short time in which the pages of a run can't be written by anyone.
//!
//! 1. `dma` is taken exclusively: no device is in the VM's memory.
//! 2. If no vCPU is in guest mode, they are kept out for the moment. Otherwise writes to the run are
//!    forbidden (`mprotect`). When that call returns, no CPU has a writable translation left, neither
//!    of the process nor of KVM (its MMU notifier): the content stands.
//!
//! A vCPU that writes a fenced page leaves `KVM_RUN` with `EFAULT` before the write has happened,
//! waits in [`AddressSpace::wait_for_fence`], and executes the same instruction again. Reads never
//! wait.

use super::{AddressSpace, table::Table};
use crate::{
    frames::Released,
    types::{Mpn, PpnRun},
};
use parking_lot::{MutexGuard, RwLockWriteGuard};
use std::{io, time::Instant};

/// Mappings that a fence around part of a mapping, with a new mapping inside, adds at most.
const MOST_NEW_VMAS: i64 = 4;

/// What a fence is closed for: how near the limit of mappings it still may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Pages are to name frames.
    Share,
    /// Memory is to be taken, or looked at.
    Reclaim,
    /// Whole mappings are replaced by as many: the limit does not matter.
    Replace,
}

/// What keeps a VM's vCPUs from writing the pages.
#[derive(Debug)]
#[cfg_attr(
    feature = "broken-share-protocol",
    allow(dead_code, reason = "the broken protocol keeps nobody out")
)]
enum Barrier<'a> {
    /// None of them is in guest mode, and none gets in.
    Outside { _guest: RwLockWriteGuard<'a, ()> },
    /// The pages can't be written.
    Closed,
}

/// A closed fence, with the books of its VM. [`Fence::end`] must be called when all pages were
/// either replaced or opened.
#[derive(Debug)]
pub(super) struct Fence<'a> {
    space: &'a AddressSpace,
    barrier: Barrier<'a>,
    closed: Instant,
    pub(super) table: MutexGuard<'a, Table>,
    /// References that ended with the pages replaced.
    pub(super) released: Vec<Released>,
    dma: RwLockWriteGuard<'a, ()>,
}

impl AddressSpace {
    /// Closes a fence around the pages of `run`. `None` when the VM has left, no mappings are left
    /// for that purpose, or the kernel refuses.
    pub(super) fn fence(&self, run: PpnRun, purpose: Purpose) -> Option<Fence<'_>> {
        // Before anybody is held: what is not shared of a large page stays, as small ones.
        self.region.break_large(run);
        let dma = self.dma.write();
        let table = self.table.lock();
        let has_room = match purpose {
            Purpose::Share => self.common.budget.has_room_to_share(MOST_NEW_VMAS),
            Purpose::Reclaim => self.common.budget.has_room(MOST_NEW_VMAS),
            Purpose::Replace => true,
        };
        if table.detached() || !has_room {
            return None;
        }
        let barrier = self
            .close(run)
            .inspect_err(|error| tracing::warn!(%error, vm = ?self.vm, ?run, "no fence"))
            .ok()?;
        // Closing may have waited for the process's memory map, with nobody held yet.
        let closed = Instant::now();
        Some(Fence {
            space: self,
            barrier,
            closed,
            table,
            released: Vec::new(),
            dma,
        })
    }

    /// Keeps everybody out of all of the VM's memory, readers too, if no vCPU is in guest mode, to
    /// have the pages of `run` name frames: `None` when one is, when the VM has left, or `vmas` more
    /// mappings are too many.
    #[cfg(not(feature = "broken-share-protocol"))]
    pub(super) fn fence_outside(&self, run: PpnRun, vmas: i64) -> Option<Fence<'_>> {
        if !self.guest_outside() {
            return None;
        }
        self.region.break_large(run);
        let dma = self.dma.write();
        let table = self.table.lock();
        if table.detached() || !self.common.budget.has_room_to_share(vmas) {
            return None;
        }
        let outside = self.guest.try_write()?;
        Some(Fence {
            space: self,
            barrier: Barrier::Outside { _guest: outside },
            closed: Instant::now(),
            table,
            released: Vec::new(),
            dma,
        })
    }

    /// The deliberate bug is in the other fence; this one is never closed then.
    #[cfg(feature = "broken-share-protocol")]
    pub(super) fn fence_outside(&self, _run: PpnRun, _vmas: i64) -> Option<Fence<'_>> {
        None
    }

    /// Whether no vCPU is in guest mode at this moment: a fence could do without forbidding writes.
    #[must_use]
    pub fn guest_outside(&self) -> bool {
        self.guest.try_write().is_some()
    }

    #[cfg(not(feature = "broken-share-protocol"))]
    fn close(&self, run: PpnRun) -> io::Result<Barrier<'_>> {
        if let Some(outside) = self.guest.try_write() {
            return Ok(Barrier::Outside { _guest: outside });
        }
        self.region.protect(run, false)?;
        Ok(Barrier::Closed)
    }

    /// The deliberate bug that the integrity tests must find: nobody is kept out.
    #[cfg(feature = "broken-share-protocol")]
    #[allow(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "stands in for the real one"
    )]
    fn close(&self, _run: PpnRun) -> io::Result<Barrier<'_>> {
        Ok(Barrier::Closed)
    }
}

impl Fence<'_> {
    /// Allows writes to these pages again. When even that fails the pages stay fenced: the VM's next
    /// write to them never succeeds and its vCPU thread stops it, with nothing lost.
    pub(super) fn open(&self, run: PpnRun) {
        if matches!(self.barrier, Barrier::Outside { .. }) {
            return;
        }
        if let Err(error) = self.space.region.protect(run, true) {
            tracing::error!(%error, vm = ?self.space.vm, ?run, "a fence can't be opened");
        }
    }

    /// Lays frames over pages that equal them, which opens the fence there.
    pub(super) fn overlay(&self, run: PpnRun, first: Mpn) -> io::Result<()> {
        let (region, common) = (&self.space.region, &self.space.common);
        if self.table.overlaid_by(run, first) {
            // Broken copies inside an overlay of these very frames: dropping them is enough.
            region.discard(run).inspect(|()| self.open(run))
        } else {
            region.overlay(run, common.frames.memory(), first)
        }
    }

    /// Lets everybody in again; ends the references that the replaced pages held.
    pub(super) fn end(self) {
        drop(self.barrier);
        let held = self.closed.elapsed();
        drop(self.table);
        drop(self.dma);
        self.space.record_hold(held);
        self.space.common.frames.release(&self.released);
    }
}
