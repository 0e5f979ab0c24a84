//! What perfect sharing would save at this instant.
//!
//! An upper bound to measure scanners by: every page of every VM is read and
//! compared by content, whatever that costs, without changing any of them.
//! Pages that were never touched are not read (reading would make the kernel
//! back them), and neither are those given back as zeros.
//!
//! Contents are told apart by XXH3-128: with 2^32 pages the chance of one
//! pair of different pages counted as equal is below 2^-64.

use mirrorball_pmap::{AddressSpace, GroupId, PageState, Pmap, Ppn, PpnRun, is_zero};
use rayon::prelude::*;
use std::collections::HashSet;
use xxhash_rust::xxh3::xxh3_128;

/// What [`count`] found, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OracleReport {
    /// Guest pages in use: private, mapped, and given back as zeros.
    pub pages: u64,
    /// Of these, pages that hold zeros.
    pub zero: u64,
    /// Different contents among the rest, counted per group.
    pub distinct: u64,
    /// The rest less `distinct`.
    pub duplicate: u64,
    /// Pages that perfect sharing saves, those saved already included:
    /// `zero` and `duplicate`. Comparable with `Totals::reclaimed`.
    pub reclaimable: u64,
}

/// Pages read in one piece of work.
const PIECE: u32 = 1024;

/// Counts over all VMs of the machine. Guests may run meanwhile; then each
/// page counts with what it held when it was read.
#[must_use]
pub fn count(pmap: &Pmap) -> OracleReport {
    pmap.settle_all();
    let spaces = pmap.spaces();
    let pieces: Vec<(&AddressSpace, PpnRun)> =
        spaces.iter().flat_map(|space| pieces(space)).collect();
    let seen: Vec<Piece> = pieces
        .par_iter()
        .map(|(space, run)| look(space, *run))
        .collect();
    let mut report = OracleReport::default();
    let mut contents = HashSet::new();
    for piece in seen {
        report.zero += piece.zero;
        report.pages += piece.zero + piece.contents.len() as u64;
        contents.extend(piece.contents);
    }
    report.distinct = contents.len() as u64;
    report.duplicate = report.pages - report.zero - report.distinct;
    report.reclaimable = report.zero + report.duplicate;
    report
}

/// What a piece of a VM's memory holds.
struct Piece {
    zero: u64,
    contents: Vec<(GroupId, u128)>,
}

fn pieces(space: &AddressSpace) -> impl Iterator<Item = (&AddressSpace, PpnRun)> {
    let pages = space.pages();
    (0..pages)
        .step_by(PIECE as usize)
        .map(move |from| (space, PpnRun::new(Ppn(from), (pages - from).min(PIECE))))
}

fn look(space: &AddressSpace, run: PpnRun) -> Piece {
    let mut piece = Piece {
        zero: 0,
        contents: Vec::new(),
    };
    for (ppn, state) in run.iter().zip(space.states(run)) {
        match state {
            PageState::Untouched | PageState::Ballooned | PageState::Swapped => {}
            PageState::Zero => piece.zero += 1,
            PageState::Private | PageState::Mapped(..) => space.with_page(ppn, |page| {
                if is_zero(page) {
                    piece.zero += 1;
                } else {
                    piece.contents.push((space.group(), xxh3_128(page)));
                }
            }),
        }
    }
    piece
}
