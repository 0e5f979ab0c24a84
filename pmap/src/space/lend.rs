//! Handing pages on: the content of a guest's pages as frames, for another guest (Disco 4.3).
//!
//! A page that names a frame is handed on as that frame, and nothing is copied. A private page can't
//! become a frame itself (the kernel moves no anonymous page into a file), so its content is copied
//! into a new one, once: where the page is noted to have a *twin*, a frame that held its content
//! when it was noted, and still holds it, that is handed on instead.
//!
//! # What content that is
//! A frame's bytes never change, so a page handed on as the frame that it names has the content of
//! the one instant in which the kernel was asked whether the page is broken. A copy, and a comparison
//! with a twin, look at the bytes one after another; all of that is between the moment in which the
//! device took the buffer and the moment in which it gives it back, in which its guest must leave it
//! alone (virtio 1.2, clause 2.7.13). A guest that does not may hand on a mixture of its own bytes,
//! old and new, and loses none of them: its own page is left as it is.
//!
//! Making the sender's private page name the frame too is the business of [`AddressSpace::share`],
//! which compares under a fence, and not of this module.

use super::{Access, AddressSpace, PageState, table::Table};
use crate::{
    frames::{PinnedFrames, Released, WeakFrame},
    types::{Mechanism, PAGE_SIZE, Ppn, PpnRun},
};
use std::{collections::BTreeMap, io};

/// Most pages of one VM with a twin (16 MiB of notes at most).
const MOST_TWINS: usize = 1 << 18;

/// Pages of a guest as frames.
#[derive(Debug)]
pub struct Lent {
    /// The first page.
    pub at: Ppn,
    /// Their content, a frame for each page from there on.
    pub frames: PinnedFrames,
    /// How the frames came about.
    pub origin: Origin,
}

/// What came of lending a run.
#[derive(Debug, Default)]
pub struct Loan {
    /// Pages as frames, in order. Pages that are missing have none.
    pub lent: Vec<Lent>,
    /// Pages known to hold what they held when they were lent before.
    pub unchanged: u32,
    /// Pages known to have been written since they were lent before.
    pub rewritten: u32,
}

/// How a guest's pages became frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The pages name these frames.
    Named,
    /// The pages are private, and equal to these frames.
    Twin,
    /// The pages are private, and were copied.
    Copied,
}

/// Frames that private pages were equal to at some time.
#[derive(Debug, Default)]
pub(super) struct Twins {
    /// Whether anybody will ask: notes cost time and memory.
    wanted: bool,
    frames: BTreeMap<Ppn, WeakFrame>,
}

impl Twins {
    fn note(&mut self, at: Ppn, frames: &PinnedFrames) {
        if !self.wanted {
            return;
        }
        if self.frames.len() + frames.pages() as usize > MOST_TWINS {
            self.frames.clear();
        }
        for (index, weak) in (0..).zip(frames.weak_all()) {
            self.frames.insert(at.plus(index), weak);
        }
    }
}

impl Access<'_> {
    /// Notes that the pages from `at` on were made equal to these frames a moment ago: if they are
    /// handed on unchanged, the frames are. A note is a guess that is checked when it is used, and
    /// kept only after [`AddressSpace::expect_lending`].
    pub fn note_twin(&self, at: Ppn, frames: &PinnedFrames) {
        if frames.group() == self.space().group {
            self.space().twins.lock().note(at, frames);
        }
    }

    /// The content of the pages of `run` as frames, in order. Pages without a frame are copied into
    /// new ones if `copy` says so of their number; pages that are missing in the answer have no
    /// frame: the caller copies their bytes.
    #[must_use]
    pub fn lend(&self, run: PpnRun, copy: impl Fn(u32) -> bool) -> Loan {
        let space = self.space();
        let mut loan = Loan::default();
        for (part, named) in space.named(run, &mut loan) {
            match named {
                Some(frames) => loan.lent.push(Lent {
                    at: part.start,
                    frames,
                    origin: Origin::Named,
                }),
                None => space.lend_private(part, &copy, &mut loan),
            }
        }
        loan
    }
}

impl AddressSpace {
    /// From now on notes of twins are kept: pages of this VM will be handed on.
    pub fn expect_lending(&self) {
        self.twins.lock().wanted = true;
    }

    /// Whether pages of this VM will be handed on.
    #[must_use]
    pub fn expects_lending(&self) -> bool {
        self.twins.lock().wanted
    }

    /// Cuts a run into parts that name consecutive frames, and parts whose pages name none. Tells of
    /// pages that the network made name their frames whether they were written since.
    fn named(&self, run: PpnRun, loan: &mut Loan) -> Vec<(PpnRun, Option<PinnedFrames>)> {
        let mut table = self.table.lock();
        if table.detached() || !table.contains(run) {
            return Vec::new();
        }
        let before = from_network(&table, run);
        let Ok((broken, released)) = self.settle_broken(&mut table, run) else {
            return vec![(run, None)];
        };
        let after = from_network(&table, run);
        loan.unchanged += after;
        loan.rewritten += before - after;
        let frame = |ppn| match table.state(ppn) {
            PageState::Mapped(mpn, _) => Some(mpn),
            _ => None,
        };
        let pages: Vec<_> = run.iter().map(|ppn| (ppn, frame(ppn))).collect();
        let parts = pages.chunk_by(|(_, one), (_, next)| match (one, next) {
            (Some(one), Some(next)) => one.plus(1) == *next,
            (one, next) => one.is_none() && next.is_none(),
        });
        let pinned = parts.filter_map(|part| {
            let (start, first) = *part.first()?;
            let part = PpnRun::new(start, u32::try_from(part.len()).ok()?);
            // The books hold a reference to each: they are alive as long as the lock is held.
            let frames = first.map(|first| self.common.frames.pin_referenced(first, part.pages));
            Some((part, frames))
        });
        let pinned = pinned.collect();
        drop(table);
        self.common.frames.release(&released);
        if !broken.is_empty() {
            // What they were is known, and counted.
            let mut twins = self.twins.lock();
            for ppn in &broken {
                twins.frames.remove(ppn);
            }
        }
        pinned
    }

    /// Brings the books of a run up to date: pages whose frame was written over are private. Returns
    /// the pages that were found so, and the references that ended.
    fn settle_broken(
        &self,
        table: &mut Table,
        run: PpnRun,
    ) -> io::Result<(Vec<Ppn>, Vec<Released>)> {
        let mapped = |table: &Table, ppn| matches!(table.state(ppn), PageState::Mapped(..));
        let (mut broken, mut released) = (Vec::new(), Vec::new());
        if run.iter().any(|ppn| mapped(table, ppn)) {
            let private = self.broken_now(run)?;
            broken.extend(private.iter().flat_map(|part| part.iter()));
            broken.retain(|&ppn| mapped(table, ppn));
            for part in private {
                table.set_private(part, &mut released);
            }
        }
        Ok((broken, released))
    }

    /// The pages that were written since they were mapped. The books see a break late; the kernel
    /// knows of it now.
    #[cfg(not(feature = "broken-lend-protocol"))]
    pub(super) fn broken_now(&self, run: PpnRun) -> io::Result<Vec<PpnRun>> {
        let (pagemap, base) = (&self.common.pagemap, self.region.address());
        let told = |error: &io::Error| {
            tracing::warn!(%error, vm = ?self.vm, "the page map could not be read");
        };
        let (mut broken, mut absent) = (Vec::new(), Vec::new());
        pagemap
            .absent_runs(base, run, &mut absent)
            .inspect_err(told)?;
        for ppn in absent.iter().flat_map(|part| part.iter()) {
            // Not private, most likely: a mark of the write tracking, left where a private copy was
            // dropped. Once it is there, it is one or the other.
            std::hint::black_box(self.region.page(ppn)[0]);
        }
        pagemap
            .private_runs(base, run, &mut broken)
            .inspect_err(told)?;
        Ok(broken)
    }

    /// What the books know.
    #[cfg(feature = "broken-lend-protocol")]
    #[allow(clippy::unnecessary_wraps, reason = "stands in for the real one")]
    pub(super) fn broken_now(&self, _run: PpnRun) -> io::Result<Vec<PpnRun>> {
        Ok(Vec::new())
    }

    /// Hands pages on that name no frame: as their twins, or as copies.
    fn lend_private(&self, run: PpnRun, copy: &impl Fn(u32) -> bool, loan: &mut Loan) {
        let twins = self.equal_twins(run, loan);
        let pages: Vec<_> = run.iter().zip(twins).collect();
        let parts = pages.chunk_by(|(_, one), (_, next)| one.is_none() && next.is_none());
        for part in parts {
            let Some((start, twin)) = part.first() else {
                continue;
            };
            let part = PpnRun::new(*start, u32::try_from(part.len()).unwrap_or(0));
            let (frames, origin) = match twin {
                Some(twin) => (self.common.frames.pin(*twin), Origin::Twin),
                None if copy(part.pages) => (self.copied(part), Origin::Copied),
                None => (None, Origin::Copied),
            };
            let Some(frames) = frames else {
                continue;
            };
            let at = part.start;
            let follows =
                |last: &&mut Lent| last.origin == origin && last.at.plus(last.frames.pages()) == at;
            let last = loan.lent.last_mut().filter(follows);
            if !last.is_some_and(|last| last.frames.extend(&frames)) {
                loan.lent.push(Lent { at, frames, origin });
            }
        }
    }

    /// For each page the twin that equals it now.
    fn equal_twins(&self, run: PpnRun, loan: &mut Loan) -> Vec<Option<WeakFrame>> {
        let mut twins = self.twins.lock();
        if twins.frames.is_empty() {
            return vec![None; run.pages as usize];
        }
        run.iter()
            .map(|ppn| {
                let weak = *twins.frames.get(&ppn)?;
                let frame = self.common.frames.pin(weak);
                let equal = frame.map(|frame| frame.page(0) == self.region.page(ppn));
                match equal {
                    Some(true) => loan.unchanged += 1,
                    Some(false) => loan.rewritten += 1,
                    None => {}
                }
                if equal != Some(true) {
                    twins.frames.remove(&ppn);
                }
                equal.filter(|equal| *equal).map(|_| weak)
            })
            .collect()
    }

    /// New frames with the content of these pages; `None` when there is no room for them.
    fn copied(&self, run: PpnRun) -> Option<PinnedFrames> {
        let mut new = self.common.frames.allocate(run.pages, self.group).ok()?;
        let mut offset = 0;
        for ppn in run.iter() {
            let page = self.region.page(ppn);
            new.write(offset, page)
                .inspect_err(|error| tracing::warn!(%error, "frames could not be filled"))
                .ok()?;
            offset += PAGE_SIZE;
        }
        let frames = new.publish();
        self.twins.lock().note(run.start, &frames);
        Some(frames)
    }
}

/// How many pages of the run name a frame because it was sent or received.
fn from_network(table: &Table, run: PpnRun) -> u32 {
    let ours = |ppn: &Ppn| matches!(table.state(*ppn), PageState::Mapped(_, Mechanism::Network));
    u32::try_from(run.iter().filter(ours).count()).unwrap_or(u32::MAX)
}
