//! Which pages to take when memory is short.
//!
//! At random, as ESX does (OSDI'02, section 3.3): any order of ours could be the very one in which the
//! guest needs its pages.

use super::{PRIVATE, SWAPPED, Table};
use crate::types::{Ppn, PpnRun};
use std::collections::BTreeSet;

/// Random places looked at for each page that is wanted, before all places are.
const TRIES: usize = 16;
/// Most pages that are made plain at a time.
const MOST_BROKEN: u32 = 64;

impl Table {
    /// Up to `most` private pages that lie over no frame, in order. `random` gives numbers below its
    /// argument.
    pub(in super::super) fn pick_private(
        &self,
        most: usize,
        mut random: impl FnMut(usize) -> usize,
    ) -> Vec<Ppn> {
        let fits = |index: usize| self.state[index] == PRIVATE && self.backing[index] == 0;
        let pages = self.state.len();
        let mut picked = BTreeSet::new();
        for _ in 0..most * TRIES {
            if picked.len() == most {
                break;
            }
            let index = random(pages);
            if fits(index) {
                picked.insert(index);
            }
        }
        if picked.len() < most {
            let from = random(pages);
            let all = (from..pages).chain(0..from).filter(|&index| fits(index));
            for index in all {
                if picked.len() == most {
                    break;
                }
                picked.insert(index);
            }
        }
        picked.into_iter().map(ppn).collect()
    }

    /// A run of private pages that were written over frames, from a random place on.
    pub(in super::super) fn pick_broken(
        &self,
        mut random: impl FnMut(usize) -> usize,
    ) -> Option<PpnRun> {
        let fits = |index: usize| self.state[index] == PRIVATE && self.backing[index] != 0;
        let pages = self.state.len();
        let from = random(pages);
        let found = (from..pages).chain(0..from).find(|&index| fits(index))?;
        let around = self.overlay_around(ppn(found));
        // From the first broken page of this stretch on.
        let before = (around.start.index()..found).rev();
        let start = before
            .take_while(|&index| fits(index))
            .last()
            .unwrap_or(found);
        let length = (start..around.end().index())
            .take_while(|&index| fits(index))
            .count();
        let pages = u32::try_from(length).unwrap_or(MOST_BROKEN);
        Some(PpnRun::new(ppn(start), pages.min(MOST_BROKEN)))
    }

    /// Whether the page is private and lies over a frame.
    pub(in super::super) fn is_broken(&self, ppn: Ppn) -> bool {
        self.state[ppn.index()] == PRIVATE && self.backing[ppn.index()] != 0
    }

    /// The pages around one that lie over no frame, within its block of `block` pages.
    pub(in super::super) fn plain_around(&self, at: Ppn, block: u32) -> PpnRun {
        let first = at.index() - at.index() % block as usize;
        let last = (first + block as usize).min(self.backing.len());
        let plain = |&index: &usize| self.backing[index] == 0;
        let before = (first..at.index()).rev().take_while(plain).count();
        let after = (at.index()..last).take_while(plain).count();
        let pages = u32::try_from(before + after).unwrap_or(block);
        PpnRun::new(ppn(at.index() - before), pages)
    }

    /// The page's content is on swap now.
    pub(in super::super) fn set_swapped(&mut self, ppn: Ppn) {
        self.leave(ppn, &mut Vec::new());
        self.state[ppn.index()] = SWAPPED;
        self.swapped += 1;
    }

    /// The pages lie over no frame any more but in memory that was moved here; they are what they were.
    /// Returns the change in the number of mappings.
    pub(in super::super) fn set_plain(&mut self, run: PpnRun) -> i64 {
        let borders = self.borders_around(run);
        for page in run.iter() {
            self.backing[page.index()] = 0;
        }
        self.note_moved(run);
        self.rebordered(run, borders)
    }
}

fn ppn(index: usize) -> Ppn {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a VM has fewer than 2^32 pages"
    )]
    Ppn(index as u32)
}
