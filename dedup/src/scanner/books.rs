//! What the scanner keeps per VM: a mark for each page, and which pages wait
//! for their turn.

use crate::index::{Hint, Index, Key};
use crate::runs::RunSet;
use mirrorball_pmap::{AddressSpace, GroupId, PageState, Ppn, PpnRun, VmId};
use std::collections::VecDeque;

/// What is known of a page since it was last seen written: its hash, or one
/// of the constants. The hash of a page, kept here, is what lets its hint be
/// taken back exactly when the page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u64);

impl Mark {
    /// Nothing.
    pub(super) const NONE: Self = Self(0);
    /// It was zero, and zero pages were not to be released.
    pub(super) const ZERO: Self = Self(1);
    /// It was not zero, and content was not to be shared.
    pub(super) const DATA: Self = Self(2);

    /// The mark of a hash.
    pub(super) const fn of(hash: u64) -> Self {
        if hash > Self::DATA.0 {
            Self(hash)
        } else {
            Self(!hash)
        }
    }

    pub(super) const fn is_hash(self) -> bool {
        self.0 > Self::DATA.0
    }

    /// The index key of this content in that group; only for hashes.
    pub(super) const fn key(self, group: GroupId) -> Key {
        Key::new(group, self.0)
    }
}

/// Runs that are remembered as refused before they are all taken for one.
const MOST_REFUSED: usize = 16_384;

/// One VM's books.
#[derive(Debug)]
pub(super) struct Books {
    vm: VmId,
    group: GroupId,
    /// One per page; zero-allocated, so pages never seen cost no memory.
    marks: Vec<u64>,
    /// Pages written, by how many passes ago (latest last).
    waiting: VecDeque<RunSet>,
    /// Pages to be looked at in this pass before all others, in any VM.
    pub(super) first: RunSet,
    /// Pages that a network copied before the last pass.
    carried: RunSet,
    /// Pages to be looked at in this pass.
    pub(super) due: RunSet,
    /// Pages that devices mapped onto frames, whose content is to be found out.
    pub(super) mapped: RunSet,
    /// Pages that equal another page of this VM, put off to the end of the pass.
    pub(super) put_off: Vec<Ppn>,
    /// Pages whose content another VM has given a frame; they join it when many of them have come
    /// together, for neighbours are cheaper together.
    pub(super) named: Vec<Ppn>,
    /// Pages the pmap had no budget for, to be tried again later.
    refused: Vec<PpnRun>,
}

impl Books {
    pub(super) fn new(space: &AddressSpace) -> Self {
        Self {
            vm: space.vm(),
            group: space.group(),
            marks: vec![0; space.pages() as usize],
            waiting: VecDeque::new(),
            first: RunSet::default(),
            carried: RunSet::default(),
            due: RunSet::default(),
            mapped: RunSet::default(),
            put_off: Vec::new(),
            named: Vec::new(),
            refused: Vec::new(),
        }
    }

    pub(super) fn group(&self) -> GroupId {
        self.group
    }

    pub(super) fn mark(&self, ppn: Ppn) -> Mark {
        Mark(self.marks.get(ppn.index()).copied().unwrap_or(0))
    }

    /// Sets the page's mark. If another hash was known, a hint that named
    /// this page for it is taken back; tells whether there was one.
    pub(super) fn set(&mut self, ppn: Ppn, mark: Mark, index: &mut Index) -> bool {
        let Some(slot) = self.marks.get_mut(ppn.index()) else {
            return false;
        };
        let old = Mark(*slot);
        if old == mark {
            return false;
        }
        *slot = mark.0;
        let hint = Hint { vm: self.vm, ppn };
        old.is_hash() && index.remove_hint(old.key(self.group), hint)
    }

    /// Takes in what was written since the last pass: `all`, of which `taken` begin to wait. What was
    /// not written for `settle` passes becomes due. Returns the hints that went stale.
    pub(super) fn written(
        &mut self,
        taken: RunSet,
        all: &RunSet,
        settle: u32,
        index: &mut Index,
    ) -> u64 {
        let mut stale = 0;
        let different = (taken != *all).then_some(all);
        for written in [&taken].into_iter().chain(different) {
            for ppn in written.iter() {
                stale += u64::from(self.set(ppn, Mark::NONE, index));
            }
            self.due.subtract(written);
            for earlier in &mut self.waiting {
                earlier.subtract(written);
            }
        }
        self.waiting.push_back(taken);
        while self.waiting.len() > settle as usize {
            if let Some(settled) = self.waiting.pop_front() {
                self.due.union(&settled);
            }
        }
        stale
    }

    /// Pages that a network has copied since the last pass come first. Those that it has copied again are
    /// buffers that come back: they wait like others.
    pub(super) fn carried(&mut self, now: RunSet) {
        let mut first = now.clone();
        first.subtract(&self.carried);
        self.carried = now;
        self.due.subtract(&first);
        for waiting in &mut self.waiting {
            waiting.subtract(&first);
        }
        self.first.union(&first);
    }

    /// Pages whose mark is `mark` become due: their mechanism was switched on.
    pub(super) fn revisit(&mut self, mark: Mark) {
        let mut again = RunSet::default();
        for (at, slot) in (0..).zip(&mut self.marks) {
            if Mark(*slot) == mark {
                *slot = Mark::NONE.0;
                again.push(Ppn(at));
            }
        }
        self.due.union(&again);
    }

    pub(super) fn refuse(&mut self, runs: &[PpnRun]) {
        if self.refused.len() >= MOST_REFUSED {
            // Rather more pages than were refused than an endless list.
            self.refused = vec![PpnRun::new(Ppn(0), self.pages())];
        }
        self.refused.extend_from_slice(runs);
    }

    /// Pages that were refused become due again.
    pub(super) fn retry(&mut self) {
        if !self.refused.is_empty() {
            let again = RunSet::new(std::mem::take(&mut self.refused), self.pages());
            self.due.union(&again);
        }
    }

    /// These pages are due and no others: all that there are.
    pub(super) fn restart(&mut self, all: RunSet) {
        self.due = all;
        self.refused.clear();
    }

    /// Takes all hints of this VM out of the index, for the VM is gone.
    pub(super) fn leave(mut self, index: &mut Index) {
        for ppn in (0..self.pages()).map(Ppn) {
            self.set(ppn, Mark::NONE, index);
        }
    }

    pub(super) fn pages(&self) -> u32 {
        u32::try_from(self.marks.len()).unwrap_or(u32::MAX)
    }

    /// Memory of the books at most, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(size_of_val(self.marks.as_slice())).unwrap_or(u64::MAX)
    }
}

/// The pages of `run` that are in a state the caller wants.
pub(super) fn pages_in(
    space: &AddressSpace,
    run: PpnRun,
    wanted: impl Fn(PageState) -> bool,
) -> RunSet {
    /// Bounds how long the VM's books are locked.
    const STEP: u32 = 4096;
    let mut set = RunSet::default();
    for from in (0..run.pages).step_by(STEP as usize) {
        let part = PpnRun::new(run.start.plus(from), (run.pages - from).min(STEP));
        for (ppn, state) in part.iter().zip(space.states(part)) {
            if wanted(state) {
                set.push(ppn);
            }
        }
    }
    set
}
