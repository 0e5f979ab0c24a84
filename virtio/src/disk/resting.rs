//! Copies of blocks that wait to be replaced by the blocks' frames.
//!
//! A mapped frame costs the guest a fault at the first touch of each page. A copy hardly does, where
//! the hypervisor fetches writable pages ahead; and a guest that soon drops a block again gains
//! nothing from a mapping at all. So a block is copied first. The copy *rests* until its guest reads no
//! more or a while has passed; if it is still there then, a frame takes its place. That costs the
//! guest, too, so while guests are busy it is done with a small part of their time ([`Spare`]).
//!
//! Nothing here knows whether a guest has written its copy: the pmap compares under a fence.

use super::BaseImage;
use super::cache::BlockTable;
use mirrorball_pmap::{
    AddressSpace, Mechanism, PinnedFrames, Pmap, Ppn, ShareCandidate, Spare, Undisturbed, VmId,
};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Most copies of each kind that wait; beyond that the oldest stay copies.
const MOST_WAITING: usize = 65_536;
/// Longest run that is put together of shorter ones: by then a change of the mappings costs little a
/// page.
const LONGEST_JOINED: u32 = 512;
/// Pages that are mapped before it is asked again whether guests are busy.
const PORTION: u64 = 128;
/// Runs that are mapped in one burst of the thread's high priority.
const BURST: usize = 16;

/// When the frame of a block takes the place of its copy in a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// When the guest has read nothing for so long and is not running.
    pub quiet: Duration,
    /// At the latest so long after the guest's first read of the block.
    pub most: Duration,
    /// So long after a later read: the guest has dropped the block before and may do so again.
    pub again: Duration,
    /// Most of busy guests' time, in percent, that mapping may cost them; what is due waits for longer
    /// then. `None` for no limit.
    pub burden: Option<u8>,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(100),
            most: Duration::from_secs(2),
            again: Duration::from_secs(5),
            burden: Some(1),
        }
    }
}

/// A run of blocks that was copied into a guest.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) image: Arc<BaseImage>,
    pub(super) table: Arc<BlockTable>,
    pub(super) block: u64,
    pub(super) pages: u32,
    /// The guest has read them before.
    pub(super) again: bool,
    /// Counts the pages that were mapped in the end.
    pub(super) mapped: Arc<AtomicU64>,
}

impl Copied {
    /// Takes the other in if, `after` so many pages of the guest, it goes on where this one ends.
    fn join(&mut self, after: u32, other: &Self) -> bool {
        let continues = after == self.pages
            && self.block + u64::from(self.pages) == other.block
            && self.pages + other.pages <= LONGEST_JOINED
            && Arc::ptr_eq(&self.mapped, &other.mapped);
        if continues {
            self.pages += other.pages;
        }
        continues
    }
}

/// Where a copy is, and which of those that were there.
#[derive(Clone, Copy, Debug)]
struct Turn {
    due: Instant,
    place: (VmId, Ppn),
    number: u64,
}

/// What waits, by place, with the number of the turn that is its own.
type Copies = BTreeMap<(VmId, Ppn), (u64, Copied)>;

#[derive(Debug, Default)]
struct Waiting {
    copies: Copies,
    /// In the order in which they are due, each: first copies of blocks, and later ones.
    first: VecDeque<Turn>,
    again: VecDeque<Turn>,
    /// When each VM that has first copies read such a one last.
    reads: BTreeMap<VmId, Instant>,
    number: u64,
    closed: bool,
}

impl Waiting {
    fn add(&mut self, place: (VmId, Ppn), now: Instant, rest: &Rest, copied: Copied) {
        self.number += 1;
        let number = self.number;
        let (queue, time) = match copied.again {
            false => (&mut self.first, rest.most),
            true => (&mut self.again, rest.again),
        };
        let due = now + time;
        queue.push_back(Turn { due, place, number });
        let dropped = (queue.len() > MOST_WAITING).then(|| queue.pop_front());
        if !copied.again {
            self.reads.insert(place.0, now);
        }
        // What was copied there before is gone.
        self.copies.insert(place, (number, copied));
        if let Some(turn) = dropped.flatten() {
            self.claim(turn);
        }
    }

    /// The copy whose turn it is, unless another has come to its place since.
    fn claim(&mut self, turn: Turn) -> Option<Copied> {
        let (number, _) = self.copies.get(&turn.place)?;
        (*number == turn.number)
            .then(|| self.copies.remove(&turn.place))
            .flatten()
            .map(|(_, copied)| copied)
    }

    /// Takes out what is due, about `most` pages of it.
    fn due(&mut self, now: Instant, most: u64) -> BTreeMap<(VmId, Ppn), Copied> {
        let (mut due, mut pages) = (BTreeMap::new(), 0);
        while pages < most
            && let Some(turn) =
                pop_due(&mut self.first, now).or_else(|| pop_due(&mut self.again, now))
        {
            if let Some(copied) = self.claim(turn) {
                pages += u64::from(copied.pages);
                due.insert(turn.place, copied);
            }
        }
        due
    }

    /// VMs that have read nothing for the time that counts as quiet.
    fn quiet(&self, now: Instant, rest: &Rest) -> Vec<VmId> {
        let quiet = |read: Instant| now.saturating_duration_since(read) >= rest.quiet;
        let vms = self.reads.iter().filter(|(_, read)| quiet(**read));
        vms.map(|(vm, _)| *vm).collect()
    }

    /// Takes out a VM's first copies, about `most` pages of them.
    fn first_of(&mut self, vm: VmId, most: u64) -> BTreeMap<(VmId, Ppn), Copied> {
        let all = self.copies.range((vm, Ppn(0))..=(vm, Ppn(u32::MAX)));
        let mut pages = 0;
        let first: Vec<_> = all
            .filter(|(_, (_, copied))| !copied.again)
            .take_while(|(_, (_, copied))| {
                let before = pages;
                pages += u64::from(copied.pages);
                before < most
            })
            .map(|(place, _)| *place)
            .collect();
        if first.is_empty() {
            self.reads.remove(&vm);
        }
        let take = |place| Some((place, self.copies.remove(&place)?.1));
        first.into_iter().filter_map(take).collect()
    }
}

fn pop_due(queue: &mut VecDeque<Turn>, now: Instant) -> Option<Turn> {
    let due = queue.front().is_some_and(|turn| turn.due <= now);
    due.then(|| queue.pop_front()).flatten()
}

/// All copies of one machine that wait.
#[derive(Debug)]
pub(super) struct Resting {
    pmap: Arc<Pmap>,
    rest: Rest,
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// Held while copies are replaced, so that [`Self::map_all`] ends after all of them.
    mapping: Mutex<Spare>,
}

impl Resting {
    pub(super) fn new(pmap: Arc<Pmap>, rest: Rest) -> Self {
        Self {
            pmap,
            rest,
            waiting: Mutex::default(),
            changed: Condvar::new(),
            mapping: Mutex::new(Spare::new(rest.burden.map(f64::from))),
        }
    }

    /// Takes note of a copy that begins at a guest page.
    pub(super) fn add(&self, vm: VmId, at: Ppn, copied: Copied) {
        let mut waiting = self.waiting.lock();
        let idle = waiting.copies.is_empty();
        waiting.add((vm, at), Instant::now(), &self.rest, copied);
        drop(waiting);
        if idle {
            self.changed.notify_all();
        }
    }

    /// The guest has read something else to these pages that is not to be mapped: what was copied to a
    /// place among them before is gone.
    pub(super) fn overwritten(&self, vm: VmId, at: Ppn, pages: u32) {
        let mut waiting = self.waiting.lock();
        let gone = waiting.copies.range((vm, at)..(vm, at.plus(pages)));
        let gone: Vec<_> = gone.map(|(place, _)| *place).collect();
        for place in gone {
            waiting.copies.remove(&place);
        }
    }

    /// Maps what has rested by `now`, or as much of it as guests that are busy should bear; answers how
    /// long they should be left alone then.
    pub(super) fn map(&self, now: Instant) -> Duration {
        let mut spare = self.mapping.lock();
        while self.portion(&mut spare, |waiting, most| waiting.due(now, most)) {}
        let quiet = self.waiting.lock().quiet(now, &self.rest);
        for vm in quiet {
            let space = self.pmap.space(vm);
            if space.is_none_or(|space| space.guest_outside()) {
                while self.portion(&mut spare, |waiting, most| waiting.first_of(vm, most)) {}
            }
        }
        spare.wait()
    }

    /// Maps some of what `take` takes out; false if there is no more of it, or nothing to spend on it.
    fn portion(
        &self,
        spare: &mut Spare,
        take: impl Fn(&mut Waiting, u64) -> BTreeMap<(VmId, Ppn), Copied>,
    ) -> bool {
        if !spare.wait().is_zero() {
            return false;
        }
        let most = if spare.is_free() { u64::MAX } else { PORTION };
        let copies = take(&mut self.waiting.lock(), most);
        let some = !copies.is_empty();
        let pages: u32 = copies.values().map(|copied| copied.pages).sum();
        // A page's first use after that is a fault.
        spare.work(self.pmap.guest_fault() * pages, || self.replace(copies));
        some
    }

    /// Maps everything, rested or not.
    pub(super) fn map_all(&self) {
        let _mapping = self.mapping.lock();
        let mut waiting = self.waiting.lock();
        let copies = std::mem::take(&mut waiting.copies);
        waiting.first.clear();
        waiting.again.clear();
        waiting.reads.clear();
        drop(waiting);
        let all = copies.into_iter();
        self.replace(all.map(|(place, (_, copied))| (place, copied)).collect());
    }

    fn replace(&self, copies: BTreeMap<(VmId, Ppn), Copied>) {
        let mut rest = copies.into_iter().peekable();
        while let Some(((vm, _), _)) = rest.peek() {
            let vm = *vm;
            let own = std::iter::from_fn(|| rest.next_if(|((owner, _), _)| *owner == vm));
            let own: Vec<_> = own.map(|((_, at), copied)| (at, copied)).collect();
            if let Some(space) = self.pmap.space(vm) {
                self.replace_in(&space, own);
            }
        }
    }

    /// Replaces one VM's copies, which are in the order of its pages.
    fn replace_in(&self, space: &AddressSpace, copies: Vec<(Ppn, Copied)>) {
        let mut joined: Vec<(Ppn, Copied)> = Vec::new();
        for (at, copied) in copies {
            let last = joined.last_mut();
            if !last.is_some_and(|(first, last)| last.join(at.0 - first.0, &copied)) {
                joined.push((at, copied));
            }
        }
        let mut runs = Vec::new();
        for (at, copied) in joined {
            runs.extend(runs_of(at, copied));
            if runs.len() >= BURST {
                share(space, &mut runs);
            }
        }
        share(space, &mut runs);
    }

    /// Maps what has rested, again and again, until [`Self::close`].
    pub(super) fn run(&self) {
        /// Looks in the time in which a guest becomes quiet.
        const LOOKS: u32 = 2;
        let mut alone = Duration::ZERO;
        let mut waiting = self.waiting.lock();
        while !waiting.closed {
            if waiting.copies.is_empty() {
                self.changed.wait(&mut waiting);
                continue;
            }
            let time = alone.max(self.rest.quiet / LOOKS);
            if self.changed.wait_for(&mut waiting, time).timed_out() {
                drop(waiting);
                alone = self.map(Instant::now());
                waiting = self.waiting.lock();
            }
        }
    }

    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.changed.notify_all();
    }
}

/// Consecutive frames that consecutive guest pages are copies of.
#[derive(Debug)]
struct Run {
    at: Ppn,
    frames: PinnedFrames,
    mapped: Arc<AtomicU64>,
}

/// Lays the runs' frames over the pages that are still equal to them.
fn share(space: &AddressSpace, runs: &mut Vec<Run>) {
    if runs.is_empty() {
        return;
    }
    let _undisturbed = Undisturbed::begin();
    for Run { at, frames, mapped } in runs.drain(..) {
        let frames = &frames;
        let outcome = space.share(&[ShareCandidate { at, frames }], Mechanism::Disk);
        mapped.fetch_add(outcome.shared, Ordering::Relaxed);
    }
}

/// A copy's blocks in frames, which are read once more where no guest maps them.
fn runs_of(at: Ppn, copied: Copied) -> Vec<Run> {
    let (block, pages) = (copied.block, u64::from(copied.pages));
    let parts = match copied.table.frames(&copied.image, block, pages) {
        Ok(found) => found.map_or(Vec::new(), |(parts, _)| parts),
        Err(error) => {
            // The guest has its copy; that the image changed is found out elsewhere.
            tracing::debug!(%error, block, "blocks stay copied");
            Vec::new()
        }
    };
    let mut next = at;
    let run = |frames: PinnedFrames| {
        let at = next;
        next = next.plus(frames.pages());
        Run {
            at,
            frames,
            mapped: copied.mapped.clone(),
        }
    };
    parts.into_iter().map(run).collect()
}
