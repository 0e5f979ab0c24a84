//! Whether pages are used: some are taken away for a while, and who touches one, reading or writing,
//! is seen because it has to be brought back (ESX Server, OSDI'02, section 5.3).
//!
//! The kernel has nothing cheaper that would see reads: page table bits of guests are KVM's, and idle
//! page tracking is not built into most kernels. What it costs is a move of each page, and for each
//! that is touched a fault that the pager serves: nothing where the guest is idle.
//!
//! The content of a watched page is kept in the monitor's memory, never written to the swap file.

use super::{AddressSpace, PageState, book::Place, fence::Purpose, swap::Random};
use crate::{
    swap::SwapError,
    sys::Buffer,
    types::{Ppn, PpnRun},
};
use std::collections::HashSet;

/// A sample that is being watched.
#[derive(Debug)]
pub struct Watch {
    /// Pages whose touch is seen by the pager.
    taken: HashSet<Ppn>,
    /// Pages that show frames, and are touched when they are in the page table again.
    shown: Vec<Ppn>,
}

impl Watch {
    /// How many pages are watched.
    #[must_use]
    pub fn pages(&self) -> u64 {
        (self.taken.len() + self.shown.len()) as u64
    }
}

impl AddressSpace {
    /// Watches `pages` pages of the VM's memory, chosen at random by `seed`. One sample of a VM at a
    /// time; [`Self::touched`] tells how many were touched so far, [`Self::end_watch`] ends it.
    ///
    /// # Errors
    /// There is no swap on this machine: its pager is what brings pages back.
    pub fn watch(&self, pages: u32, seed: u64) -> Result<Watch, SwapError> {
        let (area, tracking) = self.paging().ok_or(SwapError::None)?;
        let mut random = Random(seed);
        let all = self.pages() as usize;
        let mut chosen = HashSet::new();
        for _ in 0..pages.min(self.pages()) * 2 {
            if chosen.len() < pages as usize {
                chosen.insert(Ppn(u32::try_from(random.below(all)).unwrap_or(0)));
            }
        }
        let mut watch = Watch {
            taken: HashSet::new(),
            shown: Vec::new(),
        };
        for ppn in chosen {
            let over_frame = self.table.lock().overlay(ppn).is_some();
            if over_frame && !self.hide_frame(ppn) {
                continue;
            }
            let mut scratch = area.scratch.lock();
            scratch.prepare().map_err(SwapError::Move)?;
            let table = self.table.lock();
            if table.detached() {
                break;
            }
            if table.overlay(ppn).is_some() {
                watch.shown.push(ppn);
                continue;
            }
            let mut book = self.swap.lock();
            self.expect(tracking, &table, &mut book, ppn)
                .map_err(SwapError::Move)?;
            if let Ok(index) = tracking.take(self.address_of(ppn), &mut scratch, self.pagemap()) {
                let mut kept = Buffer::new();
                kept.0 = *scratch.page(index);
                book.places.insert(ppn, Place::Kept(kept));
            }
            // A page that is not there, untouched or on swap, is watched as it is.
            book.watched.insert(ppn);
            watch.taken.insert(ppn);
            drop(book);
            drop(table);
            scratch.clear().map_err(SwapError::Move)?;
        }
        Ok(watch)
    }

    /// Makes the next touch of a page that lies over a frame visible; false where that can't be done.
    fn hide_frame(&self, ppn: Ppn) -> bool {
        let run = PpnRun::new(ppn, 1);
        let Some(fence) = self.fence(run, Purpose::Reclaim) else {
            return false;
        };
        let shows = self.broken_now(run).is_ok_and(|broken| broken.is_empty());
        let hidden = match fence.table.state(ppn) {
            PageState::Mapped(..) if shows => {
                // Tracked mappings show a page when it is touched, and not its neighbours with it.
                let around = fence.table.overlay_around(ppn);
                self.track_writes(around).is_ok() && self.region.discard(run).is_ok()
            }
            _ => false,
        };
        let is_broken = fence.table.is_broken(ppn);
        fence.open(run);
        fence.end();
        hidden || is_broken && self.flatten(run)
    }

    /// How many pages of the sample were touched so far.
    #[must_use]
    pub fn touched(&self, watch: &Watch) -> u64 {
        let book = self.swap.lock();
        let back = watch.taken.iter().filter(|ppn| !book.watched.contains(ppn));
        let back = back.count() as u64;
        drop(book);
        let base = self.region.address();
        let shown = watch.shown.iter().filter(|&&ppn| {
            let run = PpnRun::new(ppn, 1);
            self.common.pagemap.is_present(base, run).unwrap_or(false)
        });
        back + shown.count() as u64
    }

    /// Ends a sample: what was not touched is put back. Answers how many were touched.
    #[must_use]
    pub fn end_watch(&self, watch: Watch) -> u64 {
        let touched = self.touched(&watch);
        let Some((_, tracking)) = self.paging() else {
            return touched;
        };
        for ppn in watch.taken {
            let mut book = self.swap.lock();
            book.watched.remove(&ppn);
            if let Some(Place::Kept(_)) = book.places.get(&ppn)
                && let Some(Place::Kept(kept)) = book.places.remove(&ppn)
            {
                self.put_back(tracking, &mut book, ppn, &kept.0);
            }
        }
        touched
    }
}
