//! The store itself: memory and ledger together.

use super::{
    handles::{NewFrames, PinnedFrames, WeakFrame},
    ledger::{FrameCounts, Ledger, Released},
};
use crate::{
    error::PmapError,
    sys::StoreMemory,
    types::{GroupId, Mechanism, Mpn, PAGE_BYTES},
};
use parking_lot::Mutex;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// Free frames whose memory is kept, where nobody says otherwise: 16 MiB.
const MOST_SPARE: u32 = 4096;

/// Shared by the store and all handles. The ledger's lock is a leaf: nothing is locked inside it.
#[derive(Debug)]
pub(crate) struct StoreInner {
    pub(super) memory: StoreMemory,
    pub(super) ledger: Mutex<Ledger>,
    /// Free frames whose memory is kept at most.
    most_spare: AtomicU32,
}

/// All frames of one machine. Cheap to clone; every clone is the same store.
#[derive(Clone, Debug)]
pub struct FrameStore {
    inner: Arc<StoreInner>,
}

impl FrameStore {
    /// A store that can grow to `capacity` bytes; it takes memory only for frames in use.
    pub(crate) fn new(capacity: u64) -> Result<Self, PmapError> {
        let frames = u32::try_from(capacity / PAGE_BYTES).unwrap_or(u32::MAX - 1);
        let memory = StoreMemory::new(frames).map_err(|source| PmapError::FrameStore {
            action: "be created",
            source,
        })?;
        Ok(Self {
            inner: Arc::new(StoreInner {
                memory,
                ledger: Mutex::new(Ledger::new(frames)),
                most_spare: AtomicU32::new(MOST_SPARE),
            }),
        })
    }

    /// `pages` consecutive new frames for one sharing group.
    ///
    /// # Errors
    /// [`PmapError::NoFrames`] when no such run is free (or `pages` is 0).
    pub fn allocate(&self, pages: u32, group: GroupId) -> Result<NewFrames, PmapError> {
        let mut ledger = self.inner.ledger.lock();
        let capacity = ledger.capacity();
        let taken = if pages == 0 {
            None
        } else {
            ledger.allocate(pages, group)
        };
        let taken = taken.ok_or(PmapError::NoFrames { pages, capacity })?;
        drop(ledger);
        let mut new = NewFrames::new(PinnedFrames {
            store: Arc::clone(&self.inner),
            start: Mpn(taken.start),
            pages,
        });
        if taken.used {
            // What another guest left there is nobody's to see, even if the maker forgets a byte.
            new.bytes_mut().fill(0);
        }
        Ok(new)
    }

    /// Pins one frame; `None` when it is gone.
    #[must_use]
    pub fn pin(&self, weak: WeakFrame) -> Option<PinnedFrames> {
        self.pin_run(&[weak])
    }

    /// Pins the longest prefix of `run` that is alive and consecutive; `None` when the first is gone.
    #[must_use]
    pub fn pin_run(&self, run: &[WeakFrame]) -> Option<PinnedFrames> {
        let start = run.first()?.mpn;
        let mut ledger = self.inner.ledger.lock();
        let mut pages = 0;
        for weak in run {
            if weak.mpn != start.plus(pages) || !ledger.pin_if_alive(weak.mpn, weak.generation) {
                break;
            }
            pages += 1;
        }
        drop(ledger);
        (pages > 0).then(|| PinnedFrames {
            store: Arc::clone(&self.inner),
            start,
            pages,
        })
    }

    /// Pins the frames from `start` on that are alive and of one group, at most `pages`: what lies
    /// behind a matching frame, to extend the match.
    #[must_use]
    pub fn pin_following(&self, start: Mpn, pages: u32, group: GroupId) -> Option<PinnedFrames> {
        let mut ledger = self.inner.ledger.lock();
        let mut pinned = 0;
        while pinned < pages {
            let mpn = start.plus(pinned);
            if !ledger.is_published(mpn, group) {
                break;
            }
            ledger.pin(mpn, 1);
            pinned += 1;
        }
        drop(ledger);
        (pinned > 0).then(|| PinnedFrames {
            store: Arc::clone(&self.inner),
            start,
            pages: pinned,
        })
    }

    /// Pins frames that a guest page is known to reference: the caller holds the books that say so.
    pub(crate) fn pin_referenced(&self, start: Mpn, pages: u32) -> PinnedFrames {
        self.inner.ledger.lock().pin(start, pages);
        PinnedFrames {
            store: Arc::clone(&self.inner),
            start,
            pages,
        }
    }

    /// Keeps the memory of at most so many free frames for the next ones, less than by itself: on a
    /// machine whose memory is short. Giving it back costs more the fewer are kept.
    pub fn keep_spare(&self, pages: u32) {
        let most = pages.min(MOST_SPARE);
        self.inner.most_spare.store(most, Ordering::Relaxed);
        self.inner.trim();
    }

    /// Totals of the books.
    #[must_use]
    pub fn counts(&self) -> FrameCounts {
        self.inner.ledger.lock().counts()
    }

    /// The same, if nobody else is at the books just now: for who must not wait for whom.
    #[must_use]
    pub fn try_counts(&self) -> Option<FrameCounts> {
        self.inner.ledger.try_lock().map(|ledger| ledger.counts())
    }

    /// Bytes of the monitor's own memory that the books take.
    #[must_use]
    pub fn overhead_bytes(&self) -> u64 {
        self.inner.ledger.lock().overhead_bytes() as u64
    }

    /// Bytes of the store that are resident, as the kernel counts them.
    ///
    /// # Errors
    /// What `fstat` says.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        self.inner.memory.resident_bytes()
    }

    pub(crate) fn memory(&self) -> &StoreMemory {
        &self.inner.memory
    }

    /// Counts guest pages that map pinned frames from now on.
    pub(crate) fn reference(&self, start: Mpn, pages: u32, mechanism: Mechanism) {
        self.inner.ledger.lock().reference(start, pages, mechanism);
    }

    /// Counts guest pages that no longer map their frames; frees those nobody counts on.
    pub(crate) fn release(&self, released: &[Released]) {
        if released.is_empty() {
            return;
        }
        let mut ledger = self.inner.ledger.lock();
        for &one in released {
            ledger.release(one);
        }
        drop(ledger);
        self.inner.trim();
    }
}

impl StoreInner {
    pub(super) fn unpin(&self, start: Mpn, pages: u32) {
        self.ledger.lock().unpin(start, pages);
        self.trim();
    }

    /// Gives memory of free frames back to the kernel, when there is enough of it.
    ///
    /// Not frame by frame: every overlay that still lies over a freed frame (all its pages there
    /// are broken) makes the kernel tell the MMU notifiers of all VMs. With a thousand guests
    /// booted from one image, one frame given back cost a million calls.
    fn trim(&self) {
        let most = self.most_spare.load(Ordering::Relaxed);
        let extents = self.ledger.lock().trim(most);
        if extents.is_empty() {
            return;
        }
        for &(start, pages) in &extents {
            if let Err(error) = self.memory.punch(Mpn(start), pages) {
                // The frames stay unused: memory is lost, but never content mixed up.
                tracing::error!(%error, start, pages, "freed frames could not be given back");
                return;
            }
        }
        self.ledger.lock().trimmed(&extents);
    }
}
