//! Memory that the guest itself gives up: pages in its balloon (ESX 3.2), pages that its free page
//! reporting names.
//!
//! The guest has said that it doesn't need the content, so nothing is compared and no writer is held:
//! a page that is written all the same, before or after, is simply the VM's own again and is found so
//! when the books are settled. The table's lock is what keeps fences away: a fence holds it from its
//! closing to its end. The `dma` lock is not taken, so a device may give pages up while it holds
//! [`Access`](super::Access).

use super::{
    AddressSpace,
    table::{Empty, Table},
};
use crate::types::{Ppn, PpnRun};
use std::io;

/// Pages given up in one hold of the books: bounds how long others wait for them.
const MOST_HELD: u32 = 4096;

/// What became of pages that a guest gave up, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GiveOutcome {
    /// Pages that take no memory now. A page named twice counts twice.
    pub given: u64,
    /// Of these, those that were in use by the books: private, or naming a frame.
    pub in_use: u64,
    /// Pages that stay as they are: outside the VM's memory, VM gone, no mappings left, or the
    /// kernel refused.
    pub refused: u64,
}

impl AddressSpace {
    /// The guest has put these pages into its balloon: their memory leaves the machine at once, and
    /// they count as ballooned until they are written or [`Self::unballoon`] takes them out.
    ///
    /// They read as zeros. The runs may be anything, in any order: what lies outside the VM's memory
    /// is refused.
    pub fn balloon(&self, runs: &[PpnRun]) -> GiveOutcome {
        self.give_up(runs, Empty::Ballooned)
    }

    /// The guest needs no content of these pages for now: their memory leaves the machine at once,
    /// and they are untouched again, wherever they were before. They read as zeros.
    pub fn discard(&self, runs: &[PpnRun]) -> GiveOutcome {
        self.give_up(runs, Empty::Untouched)
    }

    /// The guest has taken these pages out of its balloon. Returns how many were in it; others stay
    /// as they are.
    pub fn unballoon(&self, runs: &[PpnRun]) -> u64 {
        let mut table = self.table.lock();
        runs.iter()
            .filter(|run| inside(**run, self.pages()))
            .map(|&run| table.leave_balloon(run))
            .sum()
    }

    fn give_up(&self, runs: &[PpnRun], empty: Empty) -> GiveOutcome {
        let mut outcome = GiveOutcome::default();
        for &run in runs {
            if !inside(run, self.pages()) {
                outcome.refused += u64::from(run.pages);
                continue;
            }
            let mut start = run.start;
            while start < run.end() {
                let pages = MOST_HELD.min(run.end().0 - start.0);
                self.give_up_part(PpnRun::new(start, pages), empty, &mut outcome);
                start = start.plus(pages);
            }
        }
        outcome
    }

    fn give_up_part(&self, part: PpnRun, empty: Empty, outcome: &mut GiveOutcome) {
        self.region.break_large(part);
        let mut released = Vec::new();
        let mut table = self.table.lock();
        if table.detached() {
            outcome.refused += u64::from(part.pages);
            return;
        }
        let mut next = part.start;
        while next < part.end() {
            let (piece, overlaid) = stretch(&table, next, part.end());
            next = piece.end();
            let new_vmas = overlaid.then(|| table.change_by_covering(piece));
            let mut book = self.swap.lock();
            if let Err(error) = self.empty(piece, new_vmas) {
                tracing::debug!(%error, vm = ?self.vm, ?piece, "pages can't be given up");
                outcome.refused += u64::from(piece.pages);
                continue;
            }
            book.forget(piece, overlaid, self.area());
            drop(book);
            let before = table.in_use();
            let vmas = table.set_empty(piece, empty, overlaid, &mut released);
            self.common.budget.change(vmas);
            outcome.given += u64::from(piece.pages);
            outcome.in_use += before - table.in_use();
        }
        drop(table);
        self.common.frames.release(&released);
    }

    /// Drops what the pages hold, known to the books or not. Below an overlay's private copies are
    /// its frames: fresh memory goes over those, if so many more mappings can be had.
    fn empty(&self, piece: PpnRun, new_vmas: Option<i64>) -> io::Result<()> {
        match new_vmas {
            None => self.region.discard(piece),
            Some(more) if more <= 0 || self.common.budget.has_room(more) => self.cover(piece),
            Some(_) => Err(io::ErrorKind::QuotaExceeded.into()),
        }
    }
}

/// The pages from `start` on that are alike in having a frame below them or not.
fn stretch(table: &Table, start: Ppn, end: Ppn) -> (PpnRun, bool) {
    let overlaid = |ppn| table.overlay(ppn).is_some();
    let first = overlaid(start);
    let rest = PpnRun::new(start, end.0 - start.0);
    let last = rest.iter().find(|&ppn| overlaid(ppn) != first);
    let pages = last.unwrap_or(end).0 - start.0;
    (PpnRun::new(start, pages), first)
}

/// True when the run has pages and all of them are the VM's.
fn inside(run: PpnRun, pages: u32) -> bool {
    run.pages > 0 && u64::from(run.start.0) + u64::from(run.pages) <= u64::from(pages)
}
