//! Device access to guest memory (DMA), and DMA by mapping.

use super::{AddressSpace, PageState, table::Table};
use crate::{
    error::MapRefused,
    frames::PinnedFrames,
    types::{Mechanism, Ppn, PpnRun},
};
use parking_lot::RwLockReadGuard;
use vm_memory::GuestMemoryMmap;

/// Mappings that laying frames over a run in the middle of another mapping adds at most.
const MOST_NEW_VMAS: i64 = 2;

/// The right to touch a VM's memory from the monitor's side.
///
/// While it lives, no content sharing is under way in this VM, so reads and writes never meet a
/// fence. A write to a page that maps a frame breaks it like a guest's write would. Hold it for a
/// burst of requests, not for ever: sharing waits. Never take a second one of the same VM on one
/// thread: a waiting batch would stand between them.
#[derive(Debug)]
pub struct Access<'a> {
    space: &'a AddressSpace,
    _no_batch: RwLockReadGuard<'a, ()>,
}

impl AddressSpace {
    /// Takes the right to touch the VM's memory; waits for a batch of sharing in progress.
    #[must_use]
    pub fn access(&self) -> Access<'_> {
        Access {
            space: self,
            _no_batch: self.dma.read(),
        }
    }
}

impl AddressSpace {
    /// Makes the frames show that lie below pages of `run`, all of which the books call mapped. False
    /// if they don't, or the kernel refuses: then nothing has changed that mapping them would not.
    fn uncover(&self, table: &Table, run: PpnRun) -> bool {
        let mapped = |ppn| matches!(table.state(ppn), PageState::Mapped(..));
        if !run.iter().all(mapped) {
            return false;
        }
        let broken = self.broken_now(run);
        broken.is_ok_and(|broken| {
            let mut broken = broken.into_iter();
            broken.all(|part| self.region.discard(part).is_ok())
        })
    }
}

impl Access<'_> {
    /// The VM's memory by guest-physical address; accesses outside it are errors, not faults.
    #[must_use]
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.space.memory
    }

    /// The space this is an access to.
    #[must_use]
    pub fn space(&self) -> &AddressSpace {
        self.space
    }

    /// Which of these places lies over the first of the frames already, so that mapping them there
    /// changes nothing but what was written meanwhile: its index.
    #[must_use]
    pub fn find_overlay(
        &self,
        places: impl Iterator<Item = Option<Ppn>>,
        frames: &PinnedFrames,
    ) -> Option<usize> {
        let (table, first) = (self.space.table.lock(), frames.start());
        let mut places = places.map(|place| place.filter(|&at| table.contains(PpnRun::new(at, 1))));
        places.position(|place| place.is_some_and(|at| table.overlay(at) == Some(first)))
    }

    /// Makes the pages from `at` on name these frames: a transfer into guest memory that moves no
    /// byte (Disco 4.2). What was there before is dropped. Pages that lie over these frames already
    /// only lose what was written to them since: no mapping changes for that.
    ///
    /// # Errors
    /// [`MapRefused`] says why the caller has to copy instead; nothing has changed then.
    pub fn map_frames(
        &self,
        at: Ppn,
        frames: &PinnedFrames,
        mechanism: Mechanism,
    ) -> Result<(), MapRefused> {
        let (space, common) = (self.space, &self.space.common);
        let run = PpnRun::new(at, frames.pages());
        if u64::from(at.0) + u64::from(frames.pages()) > u64::from(space.pages()) {
            return Err(MapRefused::OutOfRange);
        }
        if frames.group() != space.group {
            return Err(MapRefused::OtherGroup {
                frames: frames.group(),
                vm: space.group,
            });
        }
        space.region.break_large(run);
        let mut released = Vec::new();
        let mut table = space.table.lock();
        if table.detached() {
            return Err(MapRefused::Detached);
        }
        if table.overlaid_by(run, frames.start()) && space.uncover(&table, run) {
            return Ok(());
        }
        if !common.budget.has_room_to_share(MOST_NEW_VMAS) {
            return Err(MapRefused::NoBudget);
        }
        let mut book = space.swap.lock();
        space
            .region
            .overlay(run, common.frames.memory(), frames.start())
            .map_err(|error| MapRefused::Kernel(error.raw_os_error().unwrap_or(0)))?;
        book.forget(run, true, common.swap.get().map(AsRef::as_ref));
        drop(book);
        let vmas = table.set_mapped(run, frames.start(), mechanism, &mut released);
        common
            .frames
            .reference(frames.start(), frames.pages(), mechanism);
        table.note_mapped(run);
        drop(table);
        common.budget.change(vmas);
        common.frames.release(&released);
        Ok(())
    }
}
