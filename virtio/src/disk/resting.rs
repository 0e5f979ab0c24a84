//! Copies of blocks that wait to be replaced by the blocks' frames.
//!
//! A mapped frame costs the guest a fault at the first touch of each page. A copy hardly does, where
//! the hypervisor fetches writable pages ahead; and a guest that soon drops a block again gains
//! nothing from a mapping at all. So a block is copied first, and its frame is kept, so that other
//! guests' reads find it. The copy *rests* until its guest reads no more or a while has passed; if
//! it is still there then, the frame takes its place.
//!
//! Nothing here knows whether a guest has written its copy: the pmap compares under a fence.

use super::BaseImage;
use super::cache::BlockTable;
use mirrorball_pmap::{
    AddressSpace, Mechanism, PinnedFrames, Pmap, Ppn, ShareCandidate, Undisturbed, VmId,
};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Most pages of copies whose frames are kept (256 MiB); reads map at once beyond that.
const MOST_KEPT: u64 = 65_536;
/// Most copies of each kind that wait; beyond that the oldest stay copies.
const MOST_WAITING: usize = 65_536;
/// Longest run that is put together of shorter ones: by then a change of the mappings costs little a
/// page, and joining costs by length.
const LONGEST_JOINED: u32 = 512;
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
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(100),
            most: Duration::from_secs(2),
            again: Duration::from_secs(5),
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
    /// The blocks' frames, if they are to be kept until then.
    pub(super) frames: Option<PinnedFrames>,
    /// Counts the pages that were mapped in the end.
    pub(super) mapped: Arc<AtomicU64>,
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
    /// In the order in which they are due, each: copies whose frames are kept, and the others.
    first: VecDeque<Turn>,
    again: VecDeque<Turn>,
    /// When each VM that has copies with kept frames read such a one last.
    reads: BTreeMap<VmId, Instant>,
    kept: u64,
    number: u64,
    closed: bool,
}

impl Waiting {
    fn remove(&mut self, place: (VmId, Ppn)) -> Option<Copied> {
        let (_, copied) = self.copies.remove(&place)?;
        if copied.frames.is_some() {
            self.kept -= u64::from(copied.pages);
        }
        Some(copied)
    }

    fn add(&mut self, place: (VmId, Ppn), now: Instant, rest: &Rest, copied: Copied) {
        // What was copied there before is gone.
        self.remove(place);
        self.number += 1;
        let number = self.number;
        let (queue, time) = match &copied.frames {
            Some(_) => (&mut self.first, rest.most),
            None => (&mut self.again, rest.again),
        };
        let due = now + time;
        queue.push_back(Turn { due, place, number });
        let dropped = (queue.len() > MOST_WAITING).then(|| queue.pop_front());
        if copied.frames.is_some() {
            self.kept += u64::from(copied.pages);
            self.reads.insert(place.0, now);
        }
        self.copies.insert(place, (number, copied));
        if let Some(turn) = dropped.flatten() {
            self.claim(turn);
        }
    }

    /// The copy whose turn it is, unless another has come to its place since.
    fn claim(&mut self, turn: Turn) -> Option<Copied> {
        let (number, _) = self.copies.get(&turn.place)?;
        (*number == turn.number)
            .then(|| self.remove(turn.place))
            .flatten()
    }

    /// Takes out what is due.
    fn due(&mut self, now: Instant) -> BTreeMap<(VmId, Ppn), Copied> {
        let mut due = BTreeMap::new();
        while let Some(turn) =
            pop_due(&mut self.first, now).or_else(|| pop_due(&mut self.again, now))
        {
            if let Some(copied) = self.claim(turn) {
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

    /// Takes out a VM's copies whose frames are kept.
    fn kept_of(&mut self, vm: VmId) -> BTreeMap<(VmId, Ppn), Copied> {
        self.reads.remove(&vm);
        let all = self.copies.range((vm, Ppn(0))..=(vm, Ppn(u32::MAX)));
        let kept: Vec<_> = all
            .filter(|(_, (_, copied))| copied.frames.is_some())
            .map(|(place, _)| *place)
            .collect();
        let take = |place| Some((place, self.remove(place)?));
        kept.into_iter().filter_map(take).collect()
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
    mapping: Mutex<()>,
}

impl Resting {
    pub(super) fn new(pmap: Arc<Pmap>, rest: Rest) -> Self {
        Self {
            pmap,
            rest,
            waiting: Mutex::default(),
            changed: Condvar::new(),
            mapping: Mutex::default(),
        }
    }

    /// Whether so many more pages may have their frames kept.
    pub(super) fn has_room(&self, pages: u64) -> bool {
        self.waiting.lock().kept + pages <= MOST_KEPT
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

    /// Maps what has rested by `now`.
    pub(super) fn map(&self, now: Instant) {
        let _mapping = self.mapping.lock();
        let mut waiting = self.waiting.lock();
        let due = waiting.due(now);
        let quiet = waiting.quiet(now, &self.rest);
        drop(waiting);
        self.replace(due);
        for vm in quiet {
            let space = self.pmap.space(vm);
            if space.is_none_or(|space| space.guest_outside()) {
                let kept = self.waiting.lock().kept_of(vm);
                self.replace(kept);
            }
        }
    }

    /// Maps everything, rested or not.
    pub(super) fn map_all(&self) {
        let _mapping = self.mapping.lock();
        let mut waiting = self.waiting.lock();
        let copies = std::mem::take(&mut waiting.copies);
        waiting.kept = 0;
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
        let mut runs: Vec<Run> = Vec::new();
        for (at, copied) in copies {
            for run in runs_of(at, copied) {
                let joined = runs.last().and_then(|last| last.joined(&run, &self.pmap));
                match (joined, runs.last_mut()) {
                    (Some(joined), Some(last)) => *last = joined,
                    _ => runs.push(run),
                }
            }
            if runs.len() > BURST {
                let open = runs.pop();
                share(space, &mut runs);
                runs.extend(open);
            }
        }
        share(space, &mut runs);
    }

    /// Maps what has rested, again and again, until [`Self::close`].
    pub(super) fn run(&self) {
        /// Looks in the time in which a guest becomes quiet.
        const LOOKS: u32 = 2;
        let mut waiting = self.waiting.lock();
        while !waiting.closed {
            if waiting.copies.is_empty() {
                self.changed.wait(&mut waiting);
                continue;
            }
            let time = self.rest.quiet / LOOKS;
            if self.changed.wait_for(&mut waiting, time).timed_out() {
                drop(waiting);
                self.map(Instant::now());
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

impl Run {
    /// Both runs as one, if the other continues this one: that saves a change of the mappings.
    fn joined(&self, next: &Self, pmap: &Pmap) -> Option<Self> {
        let pages = self.frames.pages();
        let continues = pages + next.frames.pages() <= LONGEST_JOINED
            && self.at.plus(pages) == next.at
            && self.frames.start().plus(pages) == next.frames.start()
            && Arc::ptr_eq(&self.mapped, &next.mapped);
        if !continues {
            return None;
        }
        let mut weak = self.frames.weak_all();
        weak.extend(next.frames.weak_all());
        Some(Self {
            at: self.at,
            frames: pmap.frames().pin_run(&weak)?,
            mapped: self.mapped.clone(),
        })
    }
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

/// A copy's blocks in frames, which are read again if they were not kept and nobody maps them.
fn runs_of(at: Ppn, copied: Copied) -> Vec<Run> {
    let parts = match copied.frames {
        Some(frames) => vec![frames],
        None => {
            let (block, pages) = (copied.block, u64::from(copied.pages));
            match copied.table.frames(&copied.image, block, pages) {
                Ok(found) => found.map_or(Vec::new(), |(parts, _)| parts),
                Err(error) => {
                    // The guest has its copy; that the image changed is found out elsewhere.
                    tracing::debug!(%error, block, "blocks stay copied");
                    Vec::new()
                }
            }
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
