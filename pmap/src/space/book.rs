//! The book of a space's swap: where the content of pages is that are not in guest memory, and which missing
//! pages the kernel tells of. Who may hold and change it is said in `swap.rs`.

use crate::{
    swap::{Packed, SwapArea},
    sys::Buffer,
    types::{Ppn, PpnRun},
};
use std::collections::{HashMap, HashSet};

/// Where the content of a page is that is not in guest memory.
#[derive(Debug)]
pub(super) enum Place {
    /// In that slot of the swap file.
    Slot(u32),
    /// In the pool of compressed pages.
    Packed(Packed),
    /// In the monitor's memory: it is watched, or could not be given back at once.
    Kept(Box<Buffer>),
    /// In the monitor's memory, and on its way to the file. Only who holds the scratch memory makes and
    /// ends such a place, so a page that is found in one is of the batch that is being written.
    Writing(Box<Buffer>),
}

/// Which pages are not in guest memory; see the module's description.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) places: HashMap<Ppn, Place>,
    /// Whether a missing page is asked for: it may be taken.
    expected: Bits,
    /// Whether it may be asked for. That is more only where the kernel was asked for it and refused,
    /// maybe not for all.
    asked: Bits,
    /// A page can't be read.
    pub(super) lost: bool,
    /// Pages that somebody waits for in vain.
    pub(super) awaited: Vec<Ppn>,
    /// Pages whose next touch is waited for, see `watch`.
    pub(super) watched: HashSet<Ppn>,
}

impl Book {
    /// Whether the next touch of the page will be told once it is missing.
    pub(super) fn is_expected(&self, ppn: Ppn) -> bool {
        self.expected.has(ppn)
    }

    /// Whether the page is plain memory that may be asked for. Of another one only a message can be left
    /// that was sent before something else was laid there: to show zeros would hide that.
    pub(super) fn may_show(&self, ppn: Ppn) -> bool {
        self.asked.has(ppn)
    }

    /// The kernel is about to be asked to tell of missing pages.
    pub(super) fn ask(&mut self, run: PpnRun) {
        self.asked.set(run, true);
    }

    /// The kernel tells of missing pages from now on.
    pub(super) fn expect(&mut self, run: PpnRun) {
        self.expected.set(run, true);
    }

    /// The pages have other content now; `remapped` when something was laid over them.
    pub(super) fn forget(&mut self, run: PpnRun, remapped: bool, area: Option<&SwapArea>) {
        if !self.places.is_empty() {
            for ppn in run.iter() {
                match (self.places.remove(&ppn), area) {
                    (Some(Place::Slot(slot)), Some(area)) => area.free([slot]),
                    (Some(Place::Packed(packed)), Some(area)) => area.drop_packed(&packed, false),
                    _ => {}
                }
            }
        }
        if remapped {
            self.expected.set(run, false);
            self.asked.set(run, false);
        }
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> u64 {
        let entry = size_of::<Ppn>() + size_of::<Place>();
        (self.places.capacity() * entry) as u64 + self.expected.bytes() + self.asked.bytes()
    }
}

/// A bit for each page.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn has(&self, ppn: Ppn) -> bool {
        let word = self.0.get(ppn.index() / 64).copied().unwrap_or(0);
        word >> (ppn.index() % 64) & 1 != 0
    }

    fn set(&mut self, run: PpnRun, on: bool) {
        if on && self.0.len() <= run.end().index() / 64 {
            self.0.resize(run.end().index() / 64 + 1, 0);
        }
        for ppn in run.iter() {
            let Some(word) = self.0.get_mut(ppn.index() / 64) else {
                return;
            };
            let bit = 1 << (ppn.index() % 64);
            *word = if on { *word | bit } else { *word & !bit };
        }
    }

    fn bytes(&self) -> u64 {
        (self.0.capacity() * 8) as u64
    }
}
