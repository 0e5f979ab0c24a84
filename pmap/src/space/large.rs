//! Pages of 2 MiB below guests' private memory: large until memory is wanted.
//!
//! A guest that gets new memory takes one fault for 2 MiB instead of 512. Sharing is by 4 KiB all the
//! same: a large page is broken when a part of it is shared or given back (ESX does so, too), and the
//! kernel splits its mapping by itself where a write to it is to be noticed. To books and kernel alike
//! a large page is 512 private pages from its first touch on; those that are still all zero when it
//! is broken the kernel takes back (Linux 6.12), and they are untouched again.

use super::{
    AddressSpace,
    table::{Empty, Table},
};
use crate::{
    sys::LARGE_PAGES,
    types::{Ppn, PpnRun},
};
use std::io;

impl AddressSpace {
    /// Lets the kernel back plain memory of this VM by pages of 2 MiB from now on. The first touch of
    /// such a page takes all of it.
    ///
    /// Needs write tracking: without, the kernel would put large pages together again behind our
    /// backs, over what guests have given back (`khugepaged` passes over memory whose writes are
    /// tracked).
    ///
    /// # Errors
    /// The kernel has no such pages, or writes are not tracked.
    pub fn allow_large_pages(&self) -> io::Result<()> {
        if self.common.tracking.is_none() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.region.allow_large()
    }

    /// Takes note of the zero pages that the kernel took back when it broke large pages.
    pub(super) fn forget_split_zeros(&self, table: &mut Table) -> io::Result<()> {
        if !self.region.is_large() {
            return Ok(());
        }
        let whole = PpnRun::new(Ppn(0), self.pages());
        let mut private = Vec::new();
        self.pagemap()
            .private_runs(self.region.address(), whole, &mut private)?;
        let mut gap = whole.start;
        for run in private.iter().chain([&PpnRun::new(whole.end(), 0)]) {
            for gone in table.plain_private(gap.0..run.start.0) {
                let vmas = table.set_empty(gone, Empty::Untouched, false, &mut Vec::new());
                self.common.budget.change(vmas);
            }
            gap = run.end();
        }
        Ok(())
    }

    /// The runs without whole large pages that are nobody's: a read of untouched memory shows the
    /// kernel's large zero page, which the scan of kernels up to 6.16 takes for private.
    pub(crate) fn without_large_zeros(&self, runs: Vec<PpnRun>) -> Vec<PpnRun> {
        if !self.region.is_large() {
            return runs;
        }
        let base = self.region.address();
        let zeros = |block: &PpnRun| {
            let shared = self.common.pagemap.is_shared(base, block.start);
            shared.unwrap_or(false)
        };
        let blocks = runs.iter().flat_map(|&run| blocks_in(run));
        let zeros: Vec<_> = blocks.filter(zeros).collect();
        if zeros.is_empty() {
            return runs;
        }
        let mut zeros = zeros.into_iter().peekable();
        let mut kept = Vec::with_capacity(runs.len());
        for run in runs {
            let mut start = run.start;
            while let Some(zero) = zeros.next_if(|zero| zero.start < run.end()) {
                push(&mut kept, start, zero.start);
                start = zero.end();
            }
            push(&mut kept, start, run.end());
        }
        kept
    }
}

fn push(runs: &mut Vec<PpnRun>, start: Ppn, end: Ppn) {
    if start < end {
        runs.push(PpnRun::new(start, end.0 - start.0));
    }
}

/// The whole large pages in a run.
fn blocks_in(run: PpnRun) -> impl Iterator<Item = PpnRun> {
    let (first, end) = (run.start.0.div_ceil(LARGE_PAGES), run.end().0 / LARGE_PAGES);
    (first..end.max(first)).map(|block| PpnRun::new(Ppn(block * LARGE_PAGES), LARGE_PAGES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_large_pages_are_blocks() {
        let blocks = |start, pages| {
            let blocks = blocks_in(PpnRun::new(Ppn(start), pages));
            blocks.map(|block| block.start.0).collect::<Vec<_>>()
        };
        assert_eq!(blocks(0, 512), [0]);
        assert_eq!(blocks(1, 1023), [512]);
        assert_eq!(blocks(511, 1538), [512, 1024, 1536]);
        assert!(blocks(1, 511).is_empty() && blocks(600, 10).is_empty());
    }
}
