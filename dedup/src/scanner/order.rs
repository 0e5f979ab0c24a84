//! Which pages come next.
//!
//! All orders end in the same thing, slices of pages per VM, so that hashing
//! and matching know nothing of orders.

use super::books::Books;
use super::look::Slice;
use crate::page::SplitMix;
use crate::runs::RunSet;
use mirrorball_pmap::{AddressSpace, Ppn, PpnRun, VmId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The pages of one pass, handed out in slices.
#[derive(Debug)]
pub(super) enum Plan {
    /// What the books say is due, from the VM on that comes next; in all VMs what comes first before
    /// the rest.
    Due { next: usize, first: bool },
    /// So many pages more, at random.
    Random { left: u64 },
}

impl Plan {
    /// The next slice of at most `limit` pages; empty at the end of the pass.
    pub(super) fn next(
        &mut self,
        limit: u32,
        spaces: &[Arc<AddressSpace>],
        books: &mut BTreeMap<VmId, Books>,
        random: &mut SplitMix,
    ) -> Slice {
        match self {
            Self::Due { next, first } => {
                if *first {
                    let slice = due(next, limit, spaces, books, |books| &mut books.first);
                    if !slice.parts.is_empty() {
                        return slice;
                    }
                    (*next, *first) = (0, false);
                }
                due(next, limit, spaces, books, |books| &mut books.due)
            }
            Self::Random { left } => pick(left, limit, spaces, random),
        }
    }
}

fn due(
    next: &mut usize,
    limit: u32,
    spaces: &[Arc<AddressSpace>],
    books: &mut BTreeMap<VmId, Books>,
    which: impl Fn(&mut Books) -> &mut RunSet,
) -> Slice {
    let mut slice = Slice::default();
    let mut room = limit;
    while let (true, Some(space)) = (room > 0, spaces.get(*next)) {
        let pages = books
            .get_mut(&space.vm())
            .map(|books| which(books).take_front(room))
            .unwrap_or_default();
        let taken = u32::try_from(pages.pages()).unwrap_or(room);
        if taken > 0 {
            slice.parts.push((Arc::clone(space), pages));
        }
        room = room.saturating_sub(taken);
        if room > 0 {
            *next += 1;
        }
    }
    slice
}

/// ESX 4.4: pages are taken at random, over all VMs alike. Those that are not
/// private are left out when they are looked at.
fn pick(left: &mut u64, limit: u32, spaces: &[Arc<AddressSpace>], random: &mut SplitMix) -> Slice {
    let mut ends = Vec::with_capacity(spaces.len());
    let mut total = 0;
    for space in spaces {
        total += u64::from(space.pages());
        ends.push(total);
    }
    let count = (*left).min(u64::from(limit));
    *left -= count;
    let mut picked: BTreeMap<usize, Vec<PpnRun>> = BTreeMap::new();
    for _ in 0..if total == 0 { 0 } else { count } {
        let at = random.below(total);
        let which = ends.partition_point(|end| *end <= at);
        let start = which
            .checked_sub(1)
            .and_then(|before| ends.get(before))
            .copied()
            .unwrap_or(0);
        let ppn = Ppn(u32::try_from(at - start).unwrap_or(0));
        picked.entry(which).or_default().push(PpnRun::new(ppn, 1));
    }
    let parts = picked.into_iter().filter_map(|(which, runs)| {
        let space = spaces.get(which)?;
        Some((Arc::clone(space), RunSet::new(runs, space.pages())))
    });
    Slice {
        parts: parts.collect(),
    }
}
