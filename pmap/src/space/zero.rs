//! Giving back pages that are all zero: no frame needed, the kernel's zero page serves (ESX counts
//! them as shared with the zero page).

use super::{AddressSpace, fence::Purpose, table::Empty};
use crate::types::{PAGE_SIZE, Page, PpnRun};

/// Pages that one fence covers at most.
const MOST_FENCED: u32 = 256;

/// What became of pages thought to be zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZeroOutcome {
    /// Pages given back.
    pub released: u64,
    /// Pages that held something.
    pub different: u64,
    /// Pages not looked at: no mappings left, VM gone, outside its memory.
    pub refused: u64,
}

/// True when every byte of the page is 0.
#[must_use]
pub fn is_zero(page: &Page) -> bool {
    const STRIDE: usize = 128;
    // Most pages that are not zero differ early; the rest is compared in vector-sized pieces.
    page.chunks_exact(STRIDE)
        .all(|piece| piece.iter().fold(0, |all, &byte| all | byte) == 0)
}

const _: () = assert!(PAGE_SIZE.is_multiple_of(128));

impl AddressSpace {
    /// Gives back every page of the runs that is all zero, safely against running vCPUs and
    /// devices (the fence of `share`). It reads as zeros afterwards, and takes no memory.
    pub fn release_zero(&self, runs: &[PpnRun]) -> ZeroOutcome {
        let mut outcome = ZeroOutcome::default();
        for &run in runs {
            if u64::from(run.start.0) + u64::from(run.pages) > u64::from(self.pages()) {
                outcome.refused += u64::from(run.pages);
                continue;
            }
            let mut start = run.start;
            while start < run.end() {
                let pages = MOST_FENCED.min(run.end().0 - start.0);
                self.release_fenced(PpnRun::new(start, pages), &mut outcome);
                start = start.plus(pages);
            }
        }
        outcome
    }

    fn release_fenced(&self, run: PpnRun, outcome: &mut ZeroOutcome) {
        let Some(mut fence) = self.fence(run, Purpose::Reclaim) else {
            outcome.refused += u64::from(run.pages);
            return;
        };
        let mut next = run.start;
        while next < run.end() {
            let kind = |ppn| {
                (
                    is_zero(self.region.page(ppn)),
                    fence.table.overlay(ppn).is_some(),
                )
            };
            let first = kind(next);
            let rest = PpnRun::new(next, run.end().0 - next.0);
            let length = rest.iter().take_while(|&ppn| kind(ppn) == first).count();
            let piece = PpnRun::new(next, u32::try_from(length).unwrap_or(1));
            next = piece.end();
            let (zero, overlaid) = first;
            if !zero {
                outcome.different += u64::from(piece.pages);
                continue;
            }
            let mut book = self.swap.lock();
            let result = if overlaid {
                self.cover(piece)
            } else {
                self.region.discard(piece)
            };
            if let Err(error) = result {
                tracing::warn!(%error, vm = ?self.vm, ?piece, "zero pages could not be given back");
                outcome.refused += u64::from(piece.pages);
                continue;
            }
            book.forget(piece, overlaid, self.area());
            drop(book);
            let released = &mut fence.released;
            let vmas = fence
                .table
                .set_empty(piece, Empty::Zero, overlaid, released);
            self.common.budget.change(vmas);
            outcome.released += u64::from(piece.pages);
        }
        fence.open(run);
        fence.end();
    }

    /// Dropping a private copy inside an overlay would uncover the frame: fresh memory goes over it.
    pub(super) fn cover(&self, piece: PpnRun) -> std::io::Result<()> {
        self.region.anonymous(piece)?;
        self.track_writes(piece)
    }

    /// Has writes to memory noticed that has just been laid there.
    pub(super) fn track_writes(&self, piece: PpnRun) -> std::io::Result<()> {
        match &self.common.tracking {
            Some(tracking) => {
                let start = self.region.address() + piece.start.address();
                tracking.register(start, piece.end().address() - piece.start.address())
            }
            None => Ok(()),
        }
    }
}
