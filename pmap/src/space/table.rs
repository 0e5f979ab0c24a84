//! The books of one VM: what each guest-physical page is made of.

use crate::{
    frames::Released,
    types::{Mechanism, Mpn, Ppn, PpnRun},
};

/// What a guest-physical page is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// Never written, never given anything: reads as zeros and takes no memory.
    Untouched,
    /// A page of the VM's own.
    Private,
    /// Names a frame, copy-on-write.
    Mapped(Mpn, Mechanism),
    /// Was private, found all zero, and given back: reads as zeros and takes no memory.
    Zero,
    /// In the guest's balloon: reads as zeros and takes no memory.
    Ballooned,
    /// On swap: comes back when it is touched.
    Swapped,
}

/// What a page that takes no memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Empty {
    Untouched,
    Zero,
    Ballooned,
}

const UNTOUCHED: u8 = 0;
const PRIVATE: u8 = 1;
const ZERO: u8 = 2;
const BALLOONED: u8 = 3;
const SWAPPED: u8 = 4;
const MAPPED: u8 = 5;

/// Runs that are remembered as newly mapped before they are all taken for one.
const MOST_NOTES: usize = 16_384;

/// Pages of one VM by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceTotals {
    /// All pages of the VM.
    pub guest_physical: u64,
    /// Pages that are or were in use: private, mapped and zero.
    pub touched: u64,
    /// Pages of the VM's own.
    pub private: u64,
    /// Pages that name a frame.
    pub mapped: u64,
    /// Pages given back because they were all zero.
    pub zero: u64,
    /// Pages the guest has given to the balloon.
    pub ballooned: u64,
    /// Pages on swap: in use by the guest, and no part of `touched`.
    pub swapped: u64,
    /// Memory mappings (VMAs) that the VM's memory consists of.
    pub vmas: u64,
    /// Frames mapped so far whose page the guest has then written.
    pub broken: u64,
}

/// How long the mappings have stayed the same, in looks, and when that is long enough.
#[derive(Clone, Copy, Debug)]
struct Calm {
    looks: u32,
    enough: u32,
}

impl Calm {
    const START: Self = Self {
        looks: 0,
        enough: 4,
    };
}

/// State and backing of every page.
///
/// *State* is what the page is now; *backing* is what lies below: anonymous memory (0) or an
/// overlay of a frame (its number plus one). A broken page is private with a frame as its backing.
#[derive(Debug)]
pub(super) struct Table {
    state: Vec<u8>,
    backing: Vec<u32>,
    /// Which plain pages are memory that was moved here, and where such memory begins: see `seams`.
    moved: Vec<u8>,
    private: u64,
    zero: u64,
    ballooned: u64,
    swapped: u64,
    mapped: u64,
    broken: u64,
    borders: i64,
    detached: bool,
    newly_mapped: Vec<PpnRun>,
    calm: Calm,
    /// Whether the pages written were ever taken, and with them their next writes noticed.
    pub(super) taken: bool,
    /// Where the pages begin whose turn to be taken it is.
    turn: Ppn,
}

impl Table {
    pub(super) fn new(pages: u32) -> Self {
        let pages = pages as usize;
        Self {
            state: vec![UNTOUCHED; pages],
            backing: vec![0; pages],
            moved: vec![0; pages],
            private: 0,
            zero: 0,
            ballooned: 0,
            swapped: 0,
            mapped: 0,
            broken: 0,
            borders: 1,
            detached: false,
            newly_mapped: Vec::new(),
            calm: Calm::START,
            taken: false,
            turn: Ppn(0),
        }
    }

    pub(super) fn detached(&self) -> bool {
        self.detached
    }

    pub(super) fn totals(&self) -> SpaceTotals {
        SpaceTotals {
            guest_physical: self.state.len() as u64,
            touched: self.private + self.mapped + self.zero,
            private: self.private,
            mapped: self.mapped,
            zero: self.zero,
            ballooned: self.ballooned,
            swapped: self.swapped,
            vmas: u64::try_from(self.borders).unwrap_or(0),
            broken: self.broken,
        }
    }

    /// At most `most` pages of `runs`, which are in order: those whose turn it is. Those left come
    /// first the next time.
    pub(super) fn take_turns(&mut self, runs: &[PpnRun], most: u64) -> Vec<PpnRun> {
        let mut room = u32::try_from(most).unwrap_or(u32::MAX);
        let from = self.turn;
        let later = runs.iter().filter(|run| run.end() > from).map(|run| {
            let start = run.start.max(from);
            PpnRun::new(start, run.end().0 - start.0)
        });
        let earlier = runs.iter().filter(|run| run.start < from).map(|run| {
            let end = run.end().min(from);
            PpnRun::new(run.start, end.0 - run.start.0)
        });
        let mut taken = Vec::new();
        for run in later.chain(earlier) {
            if room == 0 {
                break;
            }
            let pages = run.pages.min(room);
            room -= pages;
            taken.push(PpnRun::new(run.start, pages));
            self.turn = run.start.plus(pages);
        }
        taken.sort_unstable();
        taken
    }

    pub(super) fn contains(&self, run: PpnRun) -> bool {
        run.pages > 0 && u64::from(run.start.0) + u64::from(run.pages) <= self.state.len() as u64
    }

    pub(super) fn state(&self, ppn: Ppn) -> PageState {
        match self.state[ppn.index()] {
            UNTOUCHED => PageState::Untouched,
            PRIVATE => PageState::Private,
            ZERO => PageState::Zero,
            BALLOONED => PageState::Ballooned,
            SWAPPED => PageState::Swapped,
            mapped => PageState::Mapped(
                Mpn(self.backing[ppn.index()] - 1),
                Mechanism::ALL[usize::from(mapped - MAPPED)],
            ),
        }
    }

    /// The frame that lies below the page, whether it shows or the page is broken.
    pub(super) fn overlay(&self, ppn: Ppn) -> Option<Mpn> {
        self.backing[ppn.index()].checked_sub(1).map(Mpn)
    }

    /// True when the pages lie over exactly these consecutive frames.
    pub(super) fn overlaid_by(&self, run: PpnRun, first: Mpn) -> bool {
        run.iter()
            .zip(first.0..)
            .all(|(ppn, mpn)| self.backing[ppn.index()] == mpn + 1)
    }

    /// The whole overlay (one mapping) around a page.
    pub(super) fn overlay_around(&self, ppn: Ppn) -> PpnRun {
        let backing = self.backing[ppn.index()];
        let continues = |index: usize, offset: i64| {
            self.backing
                .get(index)
                .is_some_and(|&other| i64::from(other) == i64::from(backing) + offset)
        };
        let (mut before, mut after) = (0u32, 0u32);
        while before < ppn.0
            && continues(ppn.index() - before as usize - 1, -i64::from(before) - 1)
            && backing > before + 1
        {
            before += 1;
        }
        while continues(ppn.index() + after as usize + 1, i64::from(after) + 1) {
            after += 1;
        }
        PpnRun::new(Ppn(ppn.0 - before), before + after + 1)
    }

    /// The pages of the run are the VM's own now: they were written. Ended references go to `released`.
    pub(super) fn set_private(&mut self, run: PpnRun, released: &mut Vec<Released>) {
        for ppn in run.iter() {
            if self.state[ppn.index()] == PRIVATE {
                continue;
            }
            if self.state[ppn.index()] >= MAPPED {
                self.broken += 1;
            }
            self.leave(ppn, released);
            self.state[ppn.index()] = PRIVATE;
            self.private += 1;
        }
    }

    /// The pages of the run name consecutive frames now. Ended references go to `released`;
    /// returns the change in the number of mappings.
    pub(super) fn set_mapped(
        &mut self,
        run: PpnRun,
        first: Mpn,
        mechanism: Mechanism,
        released: &mut Vec<Released>,
    ) -> i64 {
        let borders = self.borders_around(run);
        self.calm = Calm::START;
        for (ppn, mpn) in run.iter().zip(first.0..) {
            self.leave(ppn, released);
            self.state[ppn.index()] = MAPPED + mechanism as u8;
            self.backing[ppn.index()] = mpn + 1;
            self.moved[ppn.index()] = 0;
            self.mapped += 1;
        }
        self.rebordered(run, borders)
    }

    /// Counts a look at mappings that have stayed the same. True when that makes enough; the next
    /// time it takes twice as many, as not all pages can be quietened.
    pub(super) fn calm_look(&mut self) -> bool {
        self.calm.looks += 1;
        if self.calm.looks < self.calm.enough {
            return false;
        }
        self.calm = Calm {
            looks: 0,
            enough: self.calm.enough.saturating_mul(2),
        };
        true
    }

    /// Remembers a run that a device mapped, for [`Self::take_mapped`].
    pub(super) fn note_mapped(&mut self, run: PpnRun) {
        if let Some(last) = self.newly_mapped.last_mut()
            && last.end() == run.start
        {
            last.pages += run.pages;
        } else if self.newly_mapped.len() < MOST_NOTES {
            self.newly_mapped.push(run);
        } else {
            // Nobody has asked for long: say "anywhere" instead of keeping an endless list.
            let pages = u32::try_from(self.state.len()).unwrap_or(u32::MAX);
            self.newly_mapped = vec![PpnRun::new(Ppn(0), pages)];
        }
    }

    /// The runs noted since the last call.
    pub(super) fn take_mapped(&mut self) -> Vec<PpnRun> {
        std::mem::take(&mut self.newly_mapped)
    }

    /// The pages of the run take no memory any more; `anonymous` when fresh memory was laid over
    /// them. Returns the change in the number of mappings.
    pub(super) fn set_empty(
        &mut self,
        run: PpnRun,
        empty: Empty,
        anonymous: bool,
        released: &mut Vec<Released>,
    ) -> i64 {
        let borders = self.borders_around(run);
        for ppn in run.iter() {
            if self.state[ppn.index()] == BALLOONED && empty == Empty::Zero {
                // Its zeros are no content that anybody shares: it stays the balloon's.
                continue;
            }
            self.leave(ppn, released);
            if anonymous {
                self.backing[ppn.index()] = 0;
                self.moved[ppn.index()] = 0;
            }
            let (state, count) = match empty {
                Empty::Untouched => (UNTOUCHED, None),
                Empty::Zero => (ZERO, Some(&mut self.zero)),
                Empty::Ballooned => (BALLOONED, Some(&mut self.ballooned)),
            };
            self.state[ppn.index()] = state;
            if let Some(count) = count {
                *count += 1;
            }
        }
        self.rebordered(run, borders)
    }

    /// Private pages of a range that lie over no frame, as runs.
    pub(super) fn plain_private(&self, range: std::ops::Range<u32>) -> Vec<PpnRun> {
        let mut runs: Vec<PpnRun> = Vec::new();
        for ppn in range.map(Ppn) {
            let index = ppn.index();
            if self.state[index] != PRIVATE || self.backing[index] != 0 {
                continue;
            }
            match runs.last_mut() {
                Some(last) if last.end() == ppn => last.pages += 1,
                _ => runs.push(PpnRun::new(ppn, 1)),
            }
        }
        runs
    }

    /// Pages of the run that are in the balloon are untouched now; returns how many.
    pub(super) fn leave_balloon(&mut self, run: PpnRun) -> u64 {
        let before = self.ballooned;
        for ppn in run.iter() {
            if self.state[ppn.index()] == BALLOONED {
                self.state[ppn.index()] = UNTOUCHED;
                self.ballooned -= 1;
            }
        }
        before - self.ballooned
    }

    /// The change in the number of mappings if fresh memory were laid over the run.
    pub(super) fn change_by_covering(&self, run: PpnRun) -> i64 {
        let other = |index: Option<usize>| {
            let there = index.filter(|index| *index < self.backing.len());
            i64::from(there.is_some_and(|index| self.backing[index] != 0 || self.is_moved(index)))
        };
        let ends = other(run.start.index().checked_sub(1)) + other(Some(run.end().index()));
        ends - self.borders_around(run)
    }

    /// Pages that have content: private, on swap, or naming a frame.
    pub(super) fn in_use(&self) -> u64 {
        self.private + self.swapped + self.mapped
    }

    /// The VM leaves: all references end, nothing can be mapped any more.
    pub(super) fn detach(&mut self, released: &mut Vec<Released>) {
        for index in 0..self.state.len() {
            if self.state[index] >= MAPPED {
                #[allow(
                    clippy::cast_possible_truncation,
                    reason = "a VM has fewer than 2^32 pages"
                )]
                self.leave(Ppn(index as u32), released);
                self.state[index] = UNTOUCHED;
            }
        }
        self.state.fill(UNTOUCHED);
        (self.private, self.zero, self.ballooned, self.swapped) = (0, 0, 0, 0);
        self.detached = true;
        self.newly_mapped = Vec::new();
    }

    fn leave(&mut self, ppn: Ppn, released: &mut Vec<Released>) {
        match self.state(ppn) {
            PageState::Untouched => {}
            PageState::Private => self.private -= 1,
            PageState::Zero => self.zero -= 1,
            PageState::Ballooned => self.ballooned -= 1,
            PageState::Swapped => self.swapped -= 1,
            PageState::Mapped(mpn, mechanism) => {
                self.mapped -= 1;
                released.push(Released { mpn, mechanism });
            }
        }
    }

    /// Borders between mappings inside the run and at both its ends.
    fn borders_around(&self, run: PpnRun) -> i64 {
        let border = |index: u32| {
            let (before, after) = (
                self.backing[index as usize - 1],
                self.backing[index as usize],
            );
            match (before, after) {
                (0, 0) => self.is_seam(index as usize),
                (0, _) => true,
                _ => after != before + 1,
            }
        };
        let last = u32::try_from(self.backing.len()).unwrap_or(u32::MAX);
        let inside = (run.start.0.max(1)..=run.end().0.min(last - 1))
            .filter(|&index| border(index))
            .count();
        i64::try_from(inside).unwrap_or(i64::MAX)
    }

    fn rebordered(&mut self, run: PpnRun, before: i64) -> i64 {
        let change = self.borders_around(run) - before;
        self.borders += change;
        change
    }
}

mod picking;
mod seams;

#[cfg(test)]
mod tests;
