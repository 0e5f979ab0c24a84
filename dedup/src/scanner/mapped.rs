//! Frames that others made: the content of pages a device mapped.
//!
//! A disk block or a received page that became a guest page without being
//! written is announced by no write tracking. Its frame is read once, however
//! many guests map it; then private copies of it join the frame, and of two
//! frames with the same content one is given up.

use super::books::Mark;
use super::matching::{Matcher, Open};
use crate::index::{Entry, Key};
use crate::page::Content;
use crate::runs::RunSet;
use mirrorball_pmap::{AddressSpace, Mpn, PageState, Ppn, PpnRun, VmId, WeakFrame};

/// A run of pages, in the VM it belongs to, to be laid over frames.
type Target = Option<(VmId, Open)>;

impl Matcher<'_> {
    /// Works through pages of a VM that are said to map frames.
    pub(super) fn mapped(&mut self, space: &AddressSpace, pages: &RunSet) {
        self.stats.seen += pages.pages();
        let (mut zeros, mut target) = (RunSet::default(), None);
        for run in pages.runs() {
            for (run, first) in frame_runs(space, *run) {
                let Some(pinned) =
                    self.pmap
                        .frames()
                        .pin_following(first, run.pages, space.group())
                else {
                    continue;
                };
                for ((n, ppn), frame) in (0..).zip(run.iter()).zip(pinned.weak_all()) {
                    let content = self.index.content(frame).or_else(|| {
                        self.stats.hashed += 1;
                        match self.hasher.look(pinned.page(n)) {
                            Content::Zero => None,
                            Content::Hash(hash) => Some(Mark::of(hash).key(space.group())),
                        }
                    });
                    match content {
                        Some(key) => self.mapped_page(space, ppn, frame, key, &mut target),
                        None => zeros.push(ppn),
                    }
                }
            }
        }
        self.flush(target);
        if self.rules.zero && !zeros.is_empty() {
            self.release(space, &zeros);
        }
    }

    fn mapped_page(
        &mut self,
        space: &AddressSpace,
        ppn: Ppn,
        frame: WeakFrame,
        key: Key,
        target: &mut Target,
    ) {
        self.index.remember(frame, key);
        let (vm, at, frame) = match self.index.find(key) {
            Some(Entry::Frame(known)) if known == frame => return,
            Some(Entry::Frame(known)) if self.pmap.frames().pin(known).is_some() => {
                (space.vm(), ppn, known)
            }
            Some(Entry::Hint(hint)) => {
                self.index.insert_frame(key, frame);
                (hint.vm, hint.ppn, frame)
            }
            Some(Entry::Frame(_)) | None => return self.index.insert_frame(key, frame),
        };
        self.stats.matched += 1;
        if let Some((owner, run)) = target
            && *owner == vm
            && run.extend(at, key, Some(Entry::Frame(frame)))
        {
            return;
        }
        self.flush(target.take());
        *target = Some((vm, Open::in_frame(at, key, frame)));
    }

    fn flush(&mut self, target: Target) {
        if let Some((vm, run)) = target
            && let Some(space) = self.pmap.space(vm)
        {
            self.finish(&space, Some(run));
        }
    }
}

/// The parts of `run` that map consecutive frames, with the first of them.
fn frame_runs(space: &AddressSpace, run: PpnRun) -> Vec<(PpnRun, Mpn)> {
    let mut runs: Vec<(PpnRun, Mpn)> = Vec::new();
    for (ppn, state) in run.iter().zip(space.states(run)) {
        let PageState::Mapped(mpn, _) = state else {
            continue;
        };
        match runs.last_mut() {
            Some((last, first)) if last.end() == ppn && first.plus(last.pages) == mpn => {
                last.pages += 1
            }
            _ => runs.push((PpnRun::new(ppn, 1), mpn)),
        }
    }
    runs
}
