//! Pages whose content the network has copied: out of a sender's memory, or into a receiver's.
//!
//! Their twin is in another guest's memory, most likely, which makes them worth a scanner's look
//! before all others. Noting them costs little, keeps nothing alive and promises nothing: a page may
//! have changed since.

use super::{Access, AddressSpace};
use crate::types::{Ppn, PpnRun};
use std::collections::BTreeMap;

/// Most runs that are remembered until somebody asks; what comes beyond is found like any other page.
const MOST_RUNS: usize = 4096;

/// Runs of pages by their first.
#[derive(Debug, Default)]
pub(super) struct Carried(BTreeMap<Ppn, u32>);

impl Carried {
    fn note(&mut self, run: PpnRun) {
        if let Some(pages) = self.0.get_mut(&run.start) {
            *pages = run.pages.max(*pages);
        } else if self.0.len() < MOST_RUNS {
            self.0.insert(run.start, run.pages);
        }
    }
}

impl Access<'_> {
    /// Notes that a network has just copied these pages to another guest, or from one.
    pub fn note_carried(&self, run: PpnRun) {
        if run.pages > 0 && self.space().contains(run) {
            self.space().carried.lock().note(run);
        }
    }
}

impl AddressSpace {
    /// The runs noted since the last call, in the order of their first pages; they may overlap.
    #[must_use = "a page reported here is not reported again until it is noted again"]
    pub fn take_carried(&self) -> Vec<PpnRun> {
        let carried = std::mem::take(&mut *self.carried.lock()).0;
        let runs = carried.into_iter();
        runs.map(|(start, pages)| PpnRun::new(start, pages))
            .collect()
    }

    fn contains(&self, run: PpnRun) -> bool {
        u64::from(run.start.0) + u64::from(run.pages) <= u64::from(self.pages())
    }
}
