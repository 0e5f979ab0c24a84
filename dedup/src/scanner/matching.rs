//! From hashes to shared runs.
//!
//! Duplicates come in runs (about a hundred pages at one distance between
//! like guests), and a run is remapped twenty times cheaper than its pages
//! and costs one mapping. So pages are taken in order and a match is kept
//! open for as long as the next page matches the next frame, or the next
//! page of the same hint. The neighbours are compared by their hashes, which
//! are at hand (a page's hash stays in the books until the page is written):
//! every byte is compared under the fence anyway, and comparing twice would
//! double the most expensive part of a merge.
//!
//! Frames take the order of the run that first needs them. So a page that equals another of its own
//! VM is put off to the end of the pass: by then like guests have given frames to the whole
//! stretch, in its order. Matched at once, every page that a guest has twice would get a frame by
//! itself, and each later guest a mapping for each (half of all mappings after a build).
//!
//! A frame's content is hashed again after it was copied from a guest, so an
//! index entry that names a frame is true for as long as the frame lives; and
//! a hint whose page has changed is found out by the same hash (ESX 4.1
//! rehashes the hinted page at a match).

use super::books::{Books, Mark};
use super::making::{self, Made};
use super::stats::ScannerStats;
use super::turn::Turn;
use crate::index::{Entry, Hint, Index, Key};
use crate::page::{Content, PageHasher};
use crate::runs::RunSet;
use mirrorball_pmap::{
    AddressSpace, Mechanism, PageState, PinnedFrames, Pmap, Ppn, PpnRun, ShareCandidate, VmId,
    WeakFrame,
};
use std::collections::BTreeMap;

/// Longest run that is shared at a time; bounds what is pinned meanwhile.
const LONGEST_RUN: usize = 512;

/// Pages that are looked up together.
const TOGETHER: usize = 32;

/// What is to be done with what was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Release zero pages.
    pub(super) zero: bool,
    /// Share equal pages.
    pub(super) content: bool,
    /// Remember unmatched pages as hints (else give them frames at once).
    pub(super) hints: bool,
    /// Only match pages whose hash is the one of their last visit: the
    /// substitute for write tracking.
    pub(super) steady: bool,
}

/// Where the pages of an open run find their content.
#[derive(Debug)]
enum Source {
    /// In consecutive frames.
    Frames(Vec<WeakFrame>),
    /// In the pages of another (or the same) VM, from this one on.
    Hinted(Hint),
    /// Nowhere else, and there are no hints: they get frames.
    Fresh,
}

/// Pages of one VM that can be shared together.
#[derive(Debug)]
pub(super) struct Open {
    start: Ppn,
    keys: Vec<Key>,
    source: Source,
}

impl Open {
    /// A run that begins with a page whose content is in a frame.
    pub(super) fn in_frame(start: Ppn, key: Key, frame: WeakFrame) -> Self {
        Self {
            start,
            keys: vec![key],
            source: Source::Frames(vec![frame]),
        }
    }

    /// Takes the page in if it continues the run.
    pub(super) fn extend(&mut self, ppn: Ppn, key: Key, found: Option<Entry>) -> bool {
        let pages = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        if self.keys.len() >= LONGEST_RUN || ppn != self.start.plus(pages) {
            return false;
        }
        let continues = match (&mut self.source, found) {
            (Source::Frames(frames), Some(Entry::Frame(frame))) => {
                let next = frames
                    .first()
                    .is_some_and(|first| first.mpn().plus(pages) == frame.mpn());
                if next {
                    frames.push(frame);
                }
                next
            }
            (Source::Hinted(first), Some(Entry::Hint(hint))) => {
                hint.vm == first.vm && hint.ppn == first.ppn.plus(pages)
            }
            // The second of two equal pages has to find the first one's frame.
            (Source::Fresh, None) => !self.keys.contains(&key),
            _ => false,
        };
        if continues {
            self.keys.push(key);
        }
        continues
    }
}

/// The matching part of a pass, over what a slice of pages looked like.
#[derive(Debug)]
pub(super) struct Matcher<'a> {
    pub(super) pmap: &'a Pmap,
    pub(super) index: &'a mut Index,
    pub(super) books: &'a mut BTreeMap<VmId, Books>,
    pub(super) stats: &'a mut ScannerStats,
    pub(super) hasher: &'a PageHasher,
    pub(super) rules: Rules,
    /// Put pages off that equal another of their own VM, or have given their content to another.
    pub(super) put_off: bool,
    /// Neighbouring pages of the VM at hand and the frames that are to be proposed to them, in order:
    /// together they are cheaper.
    pub(super) pending: Vec<(Ppn, PinnedFrames)>,
    /// Begun before the first fence, so that no fence stays closed for want of a core.
    pub(super) turn: &'a mut Turn,
}

impl Matcher<'_> {
    /// Works through one VM's pages, in their order.
    pub(super) fn part(&mut self, space: &AddressSpace, seen: &[(Ppn, Content)]) {
        let mut zeros = RunSet::default();
        let mut open = None;
        for (n, (ppn, content)) in seen.iter().enumerate() {
            if n.is_multiple_of(TOGETHER) {
                self.touch(space, seen.iter().skip(n).take(TOGETHER));
            }
            match content {
                Content::Zero => self.zero(space, *ppn, &mut zeros),
                Content::Hash(hash) if self.rules.content => {
                    self.page(space, *ppn, Mark::of(*hash), &mut open);
                }
                Content::Hash(_) => self.mark(space, *ppn, Mark::DATA),
            }
        }
        self.finish(space, open);
        if !zeros.is_empty() {
            self.release(space, &zeros);
        }
    }

    /// Looks pages up in the index for nothing but to have its slots in the cache: lookups one after
    /// another wait for memory each, these wait together.
    fn touch<'a>(&self, space: &AddressSpace, seen: impl Iterator<Item = &'a (Ppn, Content)>) {
        for (_, content) in seen {
            if let Content::Hash(hash) = content {
                std::hint::black_box(self.index.find(Mark::of(*hash).key(space.group())));
            }
        }
    }

    /// Matches pages that were put off, in their order.
    pub(super) fn put_off(&mut self, space: &AddressSpace, pages: &[Ppn]) {
        let mut open = None;
        for ppn in pages {
            let mark = self
                .books
                .get(&space.vm())
                .map_or(Mark::NONE, |books| books.mark(*ppn));
            // What was written meanwhile has lost its mark.
            if mark.is_hash() {
                self.page(space, *ppn, mark, &mut open);
            }
        }
        self.finish(space, open);
    }

    /// Shares what is left of a part.
    pub(super) fn finish(&mut self, space: &AddressSpace, open: Option<Open>) {
        if let Some(run) = open {
            self.close(space, run);
        }
        self.share_pending(space);
    }

    fn mark(&mut self, space: &AddressSpace, ppn: Ppn, mark: Mark) {
        if let Some(books) = self.books.get_mut(&space.vm()) {
            self.stats.stale_hints += u64::from(books.set(ppn, mark, self.index));
        }
    }

    fn zero(&mut self, space: &AddressSpace, ppn: Ppn, zeros: &mut RunSet) {
        if self.rules.zero {
            self.mark(space, ppn, Mark::NONE);
            zeros.push(ppn);
        } else {
            self.mark(space, ppn, Mark::ZERO);
        }
    }

    fn page(&mut self, space: &AddressSpace, ppn: Ppn, mark: Mark, open: &mut Option<Open>) {
        let Some(books) = self.books.get(&space.vm()) else {
            return;
        };
        let steady = books.mark(ppn) == mark;
        let key = mark.key(books.group());
        self.mark(space, ppn, mark);
        if self.rules.steady && !steady {
            return;
        }
        let own = Hint {
            vm: space.vm(),
            ppn,
        };
        let mut found = self.index.find(key);
        match found {
            Some(Entry::Hint(hint)) if hint == own => return,
            Some(Entry::Hint(hint)) if hint.vm == own.vm && self.put_off => {
                if let Some(books) = self.books.get_mut(&own.vm) {
                    books.put_off.push(ppn);
                }
                return;
            }
            _ => {}
        }
        if found.is_some() {
            // It may have been shared since it was looked at: as another page's hint.
            if space.state(ppn) != PageState::Private {
                return self.mark(space, ppn, Mark::NONE);
            }
            self.stats.matched += 1;
        }
        if let Some(run) = open {
            if run.extend(ppn, key, found) {
                return;
            }
            if let Some(run) = open.take() {
                self.close(space, run);
            }
            // Closing the run may have turned the hint into a frame, or dropped it.
            found = self.index.find(key);
        }
        let source = match found {
            Some(Entry::Frame(frame)) => Source::Frames(vec![frame]),
            Some(Entry::Hint(hint)) => Source::Hinted(hint),
            None if self.rules.hints => return self.index.insert_hint(key, own),
            None => Source::Fresh,
        };
        *open = Some(Open {
            start: ppn,
            keys: vec![key],
            source,
        });
    }

    /// Shares the pages of a run that is at its end.
    fn close(&mut self, space: &AddressSpace, run: Open) {
        match run.source {
            Source::Frames(frames) => self.join_frames(space, run.start, &run.keys, &frames),
            Source::Hinted(first) => self.join_hinted(space, run.start, &run.keys, first),
            Source::Fresh => {
                if let Some(made) = self.make((space, run.start), (space, run.start), &run.keys) {
                    self.publish(space, run.start, &run.keys, &made, None);
                }
            }
        }
    }

    /// Pages whose content is in consecutive frames, as far as these live.
    fn join_frames(
        &mut self,
        space: &AddressSpace,
        start: Ppn,
        keys: &[Key],
        frames: &[WeakFrame],
    ) {
        let mut done = 0;
        while let Some(rest) = frames.get(done..).filter(|rest| !rest.is_empty()) {
            let at = start.plus(u32::try_from(done).unwrap_or(u32::MAX));
            if let Some(pinned) = self.pmap.frames().pin_run(rest) {
                done += pinned.pages() as usize;
                self.propose(space, at, pinned);
            } else {
                if let Some(key) = keys.get(done) {
                    self.index.remove_frame(*key);
                    self.index.insert_hint(
                        *key,
                        Hint {
                            vm: space.vm(),
                            ppn: at,
                        },
                    );
                }
                done += 1;
            }
        }
    }

    /// Pages whose content was seen in other private pages: both get frames.
    fn join_hinted(&mut self, space: &AddressSpace, start: Ppn, keys: &[Key], first: Hint) {
        let other = self
            .pmap
            .space(first.vm)
            .filter(|other| other.group() == space.group());
        let made = match &other {
            Some(other) => self
                .make((space, start), (other, first.ppn), keys)
                .map(|made| (other, made)),
            None => None,
        };
        let Some((other, made)) = made else {
            if other.is_none() {
                self.adopt(space, start, keys);
            }
            return;
        };
        self.publish(space, start, keys, &made, Some((other, first.ppn)));
        // Where the hint was false, this page is the one seen last.
        for ((n, key), _) in (0..).zip(keys).zip(&made.good).filter(|(_, good)| !**good) {
            self.stats.false_hints += 1;
            if let Some(books) = self.books.get_mut(&other.vm()) {
                books.set(first.ppn.plus(n), Mark::NONE, self.index);
            }
            self.adopt(space, start.plus(n), std::slice::from_ref(key));
        }
    }

    /// The pages become the hints for their content.
    fn adopt(&mut self, space: &AddressSpace, start: Ppn, keys: &[Key]) {
        for (ppn, key) in (start.0..).map(Ppn).zip(keys) {
            self.index.insert_hint(
                *key,
                Hint {
                    vm: space.vm(),
                    ppn,
                },
            );
        }
    }

    /// New frames for `space`'s pages at `start`, made from `from`'s at `at`;
    /// if there is no memory for them, they are to be tried again later.
    fn make(
        &mut self,
        (space, start): (&AddressSpace, Ppn),
        (from, at): (&AddressSpace, Ppn),
        keys: &[Key],
    ) -> Option<Made> {
        let pages = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let made = making::make(self.pmap, self.hasher, from, PpnRun::new(at, pages), keys);
        if made.is_none() {
            self.stats.refused += u64::from(pages);
            if let Some(books) = self.books.get_mut(&space.vm()) {
                books.refuse(&[PpnRun::new(start, pages)]);
            }
        }
        made
    }

    /// Enters good frames into the index and proposes them to the pages of
    /// `space` and of `other`.
    fn publish(
        &mut self,
        space: &AddressSpace,
        start: Ppn,
        keys: &[Key],
        made: &Made,
        other: Option<(&AddressSpace, Ppn)>,
    ) {
        let weak = made.frames.weak_all();
        let mut from = 0;
        for part in made.good.chunk_by(|a, b| a == b) {
            let pages = u32::try_from(part.len()).unwrap_or(u32::MAX);
            if part.first() == Some(&true) {
                let entries = keys.iter().zip(&weak).skip(from as usize).take(part.len());
                for (key, frame) in entries {
                    self.index.insert_frame(*key, *frame);
                }
                let frames = made.frames.slice(from, pages);
                if let Some((other, at)) = other {
                    self.name(other, at.plus(from), &frames);
                }
                self.propose(space, start.plus(from), frames);
            }
            from += pages;
        }
    }

    /// Has pages share with frames, as soon as no more of their neighbours come.
    fn propose(&mut self, space: &AddressSpace, at: Ppn, frames: PinnedFrames) {
        if frames.pages() < space.least_run() {
            return;
        }
        let follows = |(before, last): &(Ppn, PinnedFrames)| before.plus(last.pages()) == at;
        if !self.pending.last().is_some_and(follows) {
            self.share_pending(space);
        }
        self.pending.push((at, frames));
    }

    /// Has the pages that gave the content join its frames, later if they may.
    fn name(&mut self, other: &AddressSpace, at: Ppn, frames: &PinnedFrames) {
        if frames.pages() < other.least_run() {
            return;
        }
        match self.books.get_mut(&other.vm()).filter(|_| self.put_off) {
            Some(books) => books.named.extend(PpnRun::new(at, frames.pages()).iter()),
            None => self.share(other, &[(at, frames)]),
        }
    }

    fn share_pending(&mut self, space: &AddressSpace) {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            let proposed: Vec<_> = pending.iter().map(|(at, frames)| (*at, frames)).collect();
            self.share(space, &proposed);
        }
    }

    /// Shares pages with frames; their marks go, for a page that maps a frame
    /// is no hint, and one that turns out different is seen written.
    fn share(&mut self, space: &AddressSpace, proposed: &[(Ppn, &PinnedFrames)]) {
        self.turn.go_first();
        let candidates = proposed
            .iter()
            .map(|&(at, frames)| ShareCandidate { at, frames });
        let candidates: Vec<_> = candidates.collect();
        let outcome = space.share(&candidates, Mechanism::Content);
        self.stats.count_share(&outcome);
        let Some(books) = self.books.get_mut(&space.vm()) else {
            return;
        };
        let runs: Vec<_> = proposed
            .iter()
            .map(|(at, frames)| PpnRun::new(*at, frames.pages()))
            .collect();
        for ppn in runs.iter().flat_map(|run| run.iter()) {
            books.set(ppn, Mark::NONE, self.index);
        }
        if outcome.refused > 0 {
            let mut left = RunSet::new(runs, books.pages());
            left.subtract(&RunSet::new(outcome.shared_runs, books.pages()));
            books.refuse(left.runs());
        }
    }

    /// Gives zero pages back.
    pub(super) fn release(&mut self, space: &AddressSpace, zeros: &RunSet) {
        self.turn.go_first();
        let outcome = space.release_zero(zeros.runs());
        self.stats.count_zero(outcome);
        if let (true, Some(books)) = (outcome.refused > 0, self.books.get_mut(&space.vm())) {
            books.refuse(zeros.runs());
        }
    }
}
