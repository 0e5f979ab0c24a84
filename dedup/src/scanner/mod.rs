//! The scanner: finds pages of equal content and has them shared.
//!
//! A pass goes through three steps, a bounded slice of pages at a time: an
//! *order* says which pages are worth a look ([`order`], [`books`]), they are
//! hashed in parallel ([`look`]), and runs of matches are shared
//! ([`matching`]). Work of a pass is in proportion to what was written since
//! the last one, in particular next to nothing when nothing was.
//!
//! The scanner is single-threaded but for hashing, and owns all it writes; it
//! holds VMs only for the length of a pass, so one that goes away in between
//! is simply not there in the next.

mod books;
mod config;
mod look;
mod making;
mod mapped;
mod matching;
mod order;
mod pace;
mod stats;
mod thread;
mod turn;

#[cfg(test)]
mod tests;

pub use config::{Order, ScannerConfig};
pub use stats::{PassReport, ScannerStats};
pub use thread::ScannerThread;

use crate::index::Index;
use crate::page::{PageHasher, SplitMix};
use crate::runs::RunSet;
use books::{Books, Mark, pages_in};
use look::Lookers;
use matching::{Matcher, Rules};
use mirrorball_pmap::{AddressSpace, PageState, Pmap, Ppn, PpnRun, VmId};
use order::Plan;
use pace::{Pace, Unlimited, Work};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use turn::Turn;

/// Passes after which refused pages are tried again: budgets come back
/// slowly, and until then every try is wasted.
const RETRY_EVERY: u64 = 32;

/// Pages of a VM that wait for neighbours at most, more or less: 16 MiB that take memory twice meanwhile.
const MANY: usize = 4096;

/// The content scanner, without a thread of its own.
#[derive(Debug)]
pub struct Scanner {
    pmap: Arc<Pmap>,
    config: ScannerConfig,
    index: Index,
    books: BTreeMap<VmId, Books>,
    lookers: Lookers,
    random: SplitMix,
    stats: ScannerStats,
    /// Time of the hashing threads that is in the statistics already.
    charged: Duration,
    /// Pages compared that the pace was told of.
    fenced: u64,
    /// This pass has left written pages to later ones.
    portioned: bool,
    /// What was written need not settle before it is looked at in this pass.
    hurries: bool,
}

impl Scanner {
    /// A scanner over all VMs that `pmap` has, now and later.
    #[must_use]
    pub fn new(pmap: Arc<Pmap>, config: &ScannerConfig) -> Self {
        Self {
            pmap,
            config: config.clone(),
            index: Index::default(),
            books: BTreeMap::new(),
            lookers: Lookers::new(config.threads, config.nice, PageHasher::new(config.seed)),
            random: SplitMix::new(!config.seed),
            stats: ScannerStats::default(),
            charged: Duration::ZERO,
            fenced: 0,
            portioned: false,
            hurries: false,
        }
    }

    /// One pass at full speed: the rate limits are [`ScannerThread`]'s.
    pub fn pass(&mut self) -> PassReport {
        self.pass_at(&mut Unlimited::new(&self.config))
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> ScannerStats {
        self.stats
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> &ScannerConfig {
        &self.config
    }

    /// Switches the release of zero pages. Those found meanwhile are not
    /// forgotten.
    pub fn set_zero(&mut self, on: bool) {
        if on && !self.config.zero {
            self.books
                .values_mut()
                .for_each(|books| books.revisit(Mark::ZERO));
        }
        self.config.zero = on;
    }

    /// Switches the sharing of equal pages. What is shared stays shared; what
    /// was written meanwhile is looked at when it is switched on again.
    pub fn set_content(&mut self, on: bool) {
        if on && !self.config.content {
            self.books
                .values_mut()
                .for_each(|books| books.revisit(Mark::DATA));
        }
        self.config.content = on;
    }

    fn pass_at(&mut self, pace: &mut dyn Pace) -> PassReport {
        let (start, before) = (Instant::now(), self.stats);
        let mut turn = Turn::new();
        self.lookers.go_first(self.hurries);
        let spaces = self.pmap.spaces();
        let mut complete = self.plan(&spaces, pace, &mut turn);
        complete = complete && self.mapped(&spaces, pace, &mut turn);
        let mut plan = match self.order() {
            Order::EsxRandom => Plan::Random {
                left: spaces.iter().map(|space| u64::from(space.pages())).sum(),
            },
            Order::DirtyAware | Order::Sequential => Plan::Due {
                next: 0,
                first: true,
            },
        };
        while complete {
            let slice = plan.next(pace.slice(), &spaces, &mut self.books, &mut self.random);
            if slice.parts.is_empty() {
                break;
            }
            let hashed = self.stats.hashed;
            self.slice(&slice, &mut turn);
            let hashed = self.stats.hashed - hashed;
            complete = self.charge(pace, Work::hashing(hashed), &mut turn)
                && self.put_off(&spaces, MANY, pace, &mut turn);
        }
        complete = complete && self.put_off(&spaces, 0, pace, &mut turn);
        let frames = self.pmap.frames();
        self.index
            .purge(frames.counts().frames, |weak| frames.pin(weak).is_some());
        self.stats.passes += 1;
        self.stats.whole_passes += u64::from(complete && !self.portioned);
        self.stats.index_bytes =
            self.index.bytes() + self.books.values().map(Books::bytes).sum::<u64>();
        self.charge(pace, Work::default(), &mut turn);
        PassReport {
            work: self.stats - before,
            elapsed: start.elapsed(),
            complete,
        }
    }

    /// The order that is followed: without write tracking every page has to
    /// be visited to be found unchanged.
    fn order(&self) -> Order {
        match self.config.order {
            Order::DirtyAware if !self.pmap.tracking() => Order::Sequential,
            order => order,
        }
    }

    /// Brings the books up to date and decides what is due; false if stopped.
    fn plan(&mut self, spaces: &[Arc<AddressSpace>], pace: &mut dyn Pace, turn: &mut Turn) -> bool {
        self.forget_gone(spaces);
        self.portioned = false;
        for space in spaces {
            let mut work = Work::default();
            match self.order() {
                Order::DirtyAware => work = self.take_written(space, pace.protectable()),
                Order::Sequential => self.take_all(space),
                Order::EsxRandom => {
                    space.settle();
                    self.note_mapped(space);
                }
            }
            self.note_carried(space);
            if !self.charge(pace, work, turn) {
                return false;
            }
        }
        true
    }

    /// Has what a network copied looked at first.
    fn note_carried(&mut self, space: &AddressSpace) {
        let carried = RunSet::new(space.take_carried(), space.pages());
        if !self.config.network_hints || self.order() == Order::EsxRandom {
            return;
        }
        if let Some(books) = self.books.get_mut(&space.vm()) {
            books.carried(carried);
            self.stats.network_hints += books.first.pages();
        }
    }

    /// What was written since the last pass, or `most` pages of it, waits until it has settled.
    fn take_written(&mut self, space: &AddressSpace, most: Option<u64>) -> Work {
        let taken = space.take_written_up_to(most);
        let mut written = RunSet::new(taken.runs, space.pages());
        let all = RunSet::new(taken.written, space.pages());
        self.portioned |= written.pages() < all.pages();
        let work = Work {
            protected: written.pages(),
            ..Work::default()
        };
        let known = self.note_mapped(space);
        if !known && all.pages() < space.totals().private {
            // Another scanner has taken note of some before.
            written.union(&pages_in(space, whole(space), |state| {
                state == PageState::Private
            }));
        }
        let Some(books) = self.books.get_mut(&space.vm()) else {
            return work;
        };
        let settle = if self.hurries { 0 } else { self.config.settle };
        self.stats.stale_hints += books.written(written, &all, settle, &mut self.index);
        if self.stats.passes % RETRY_EVERY == RETRY_EVERY - 1 {
            books.retry();
        }
        work
    }

    /// Every private page is due.
    fn take_all(&mut self, space: &AddressSpace) {
        space.settle();
        self.note_mapped(space);
        if let Some(books) = self.books.get_mut(&space.vm()) {
            books.restart(pages_in(space, whole(space), |state| {
                state == PageState::Private
            }));
        }
    }

    /// Opens books for the VM if there are none, and notes what devices have
    /// mapped; true if there were books.
    fn note_mapped(&mut self, space: &AddressSpace) -> bool {
        let mapped = |state| matches!(state, PageState::Mapped(..));
        let known = self.books.contains_key(&space.vm());
        let books = self
            .books
            .entry(space.vm())
            .or_insert_with(|| Books::new(space));
        let mut noted = RunSet::new(space.take_mapped(), space.pages());
        if !known {
            let there: u64 = noted
                .runs()
                .iter()
                .map(|run| pages_in(space, *run, mapped).pages())
                .sum();
            if there != space.totals().mapped {
                noted.union(&pages_in(space, whole(space), mapped));
            }
        }
        books.mapped.union(&noted);
        known
    }

    fn forget_gone(&mut self, spaces: &[Arc<AddressSpace>]) {
        let here: std::collections::BTreeSet<_> = spaces.iter().map(|space| space.vm()).collect();
        let gone: Vec<_> = self
            .books
            .keys()
            .filter(|vm| !here.contains(vm))
            .copied()
            .collect();
        for vm in gone {
            if let Some(books) = self.books.remove(&vm) {
                books.leave(&mut self.index);
            }
        }
    }

    /// Looks at what devices mapped; false if stopped.
    fn mapped(
        &mut self,
        spaces: &[Arc<AddressSpace>],
        pace: &mut dyn Pace,
        turn: &mut Turn,
    ) -> bool {
        if !self.config.content {
            return true;
        }
        for space in spaces {
            while let Some(books) = self
                .books
                .get_mut(&space.vm())
                .filter(|books| !books.mapped.is_empty())
            {
                let pages = books.mapped.take_front(pace.slice());
                let hashed = self.stats.hashed;
                self.matcher(turn).mapped(space, &pages);
                let hashed = self.stats.hashed - hashed;
                if !self.charge(pace, Work::hashing(hashed), turn) {
                    return false;
                }
            }
        }
        true
    }

    /// Matches what was put off, in VMs with `least` pages that only wait for neighbours, or in all
    /// when that is 0; false if stopped.
    fn put_off(
        &mut self,
        spaces: &[Arc<AddressSpace>],
        least: usize,
        pace: &mut dyn Pace,
        turn: &mut Turn,
    ) -> bool {
        for space in spaces {
            let Some(books) = self.books.get_mut(&space.vm()) else {
                continue;
            };
            if books.named.len() < least {
                continue;
            }
            let mut pages = std::mem::take(&mut books.named);
            if least == 0 {
                pages.append(&mut books.put_off);
            }
            pages.sort_unstable();
            for pages in pages.chunks(pace.slice() as usize) {
                let mut matcher = self.matcher(turn);
                matcher.put_off = false;
                matcher.put_off(space, pages);
                if !self.charge(pace, Work::default(), turn) {
                    return false;
                }
            }
        }
        true
    }

    fn slice(&mut self, slice: &look::Slice, turn: &mut Turn) {
        let seen = self.lookers.look(slice);
        self.stats.seen += slice.pages();
        self.stats.hashed += seen.iter().map(|seen| seen.len() as u64).sum::<u64>();
        let mut matcher = self.matcher(turn);
        for ((space, _), seen) in slice.parts.iter().zip(&seen) {
            matcher.part(space, seen);
        }
    }

    fn matcher<'a>(&'a mut self, turn: &'a mut Turn) -> Matcher<'a> {
        let rules = Rules {
            zero: self.config.zero,
            content: self.config.content,
            hints: self.config.hints,
            steady: self.order() == Order::Sequential && self.config.settle > 0,
        };
        Matcher {
            pmap: &self.pmap,
            index: &mut self.index,
            books: &mut self.books,
            stats: &mut self.stats,
            hasher: self.lookers.hasher(),
            rules,
            put_off: true,
            pending: Vec::new(),
            turn,
        }
    }

    /// Accounts for the CPU time since the last time, and asks whether to go on.
    fn charge(&mut self, pace: &mut dyn Pace, mut work: Work, turn: &mut Turn) -> bool {
        let workers = self.lookers.cpu();
        let cpu = turn.used() + workers.saturating_sub(self.charged);
        self.charged = workers;
        self.stats.cpu_seconds += cpu.as_secs_f64();
        work.cpu = cpu;
        work.fenced = self.stats.compared - self.fenced;
        self.fenced = self.stats.compared;
        let go_on = pace.go_on(work, &self.stats);
        turn.yield_after();
        go_on
    }
}

fn whole(space: &AddressSpace) -> PpnRun {
    PpnRun::new(Ppn(0), space.pages())
}
