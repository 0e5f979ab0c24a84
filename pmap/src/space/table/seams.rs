//! Where plain memory is more than one mapping.
//!
//! The kernel does not join memory that was moved to where it is with its neighbours. That lasts until
//! something else is laid over it.

use super::Table;
use crate::types::PpnRun;

/// The page's memory was moved here.
const MOVED: u8 = 1;
/// It came with another move than the page before.
const FIRST: u8 = 2;

impl Table {
    /// Memory was moved to these pages in one go.
    pub(super) fn note_moved(&mut self, run: PpnRun) {
        let (start, end) = (run.start.index(), run.end().index());
        self.moved[start..end].fill(MOVED);
        self.moved[start] |= FIRST;
        if let Some(after) = self.moved.get_mut(end).filter(|after| **after != 0) {
            *after |= FIRST;
        }
    }

    pub(super) fn is_moved(&self, index: usize) -> bool {
        self.moved[index] != 0
    }

    /// Whether two neighbouring pages that lie over no frame, this one and the one before, are different
    /// mappings.
    pub(super) fn is_seam(&self, index: usize) -> bool {
        match (self.moved[index - 1], self.moved[index]) {
            (0, 0) => false,
            (0, _) | (_, 0) => true,
            (_, after) => after & FIRST != 0,
        }
    }
}
