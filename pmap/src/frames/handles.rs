//! Handles on frames: made, pinned, weak.

use super::store::StoreInner;
use crate::sys::bytes_of;
use crate::types::{GroupId, Mpn, PAGE_SIZE, Page};
use std::{io, sync::Arc};

/// A frame that may be gone: it names a page of the store and which life of it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeakFrame {
    pub(super) mpn: Mpn,
    pub(super) generation: u32,
}

impl WeakFrame {
    /// The page of the store.
    #[must_use]
    pub fn mpn(&self) -> Mpn {
        self.mpn
    }
}

/// Consecutive frames that their maker is filling; nobody else knows them. Zero at first.
/// Dropped without [`Self::publish`], they are free again.
#[derive(Debug)]
pub struct NewFrames {
    pinned: PinnedFrames,
}

impl NewFrames {
    pub(super) fn new(pinned: PinnedFrames) -> Self {
        Self { pinned }
    }

    /// The first frame.
    #[must_use]
    pub fn start(&self) -> Mpn {
        self.pinned.start
    }

    /// Number of frames.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pinned.pages
    }

    /// The frames' bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the frames were allocated for this handle and are not published; `&mut self`
        // makes the slice exclusive.
        unsafe {
            self.pinned
                .store
                .memory
                .bytes_mut(self.pinned.start, self.pinned.pages)
        }
    }

    /// Writes bytes into the frames from byte `offset` on: cheaper than through [`Self::bytes_mut`]
    /// for frames that were never touched, since the kernel need not zero them first.
    ///
    /// # Errors
    /// The bytes lie outside the frames, or the machine has no memory left.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let size = bytes_of(self.pinned.pages);
        if offset.checked_add(bytes.len()).is_none_or(|end| end > size) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.pinned
            .store
            .memory
            .write(self.pinned.start, offset, bytes)
    }

    /// Ends the making: from now on the bytes never change.
    #[must_use]
    pub fn publish(self) -> PinnedFrames {
        self.pinned
    }
}

/// Consecutive published frames, kept alive and immutable while the handle lives.
#[derive(Debug)]
pub struct PinnedFrames {
    pub(super) store: Arc<StoreInner>,
    pub(super) start: Mpn,
    pub(super) pages: u32,
}

impl PinnedFrames {
    /// The first frame.
    #[must_use]
    pub fn start(&self) -> Mpn {
        self.start
    }

    /// Number of frames, not 0.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// The sharing group the frames belong to.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.store.ledger.lock().group(self.start)
    }

    /// The frames' bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: published (only `NewFrames::publish` and pinning of published frames make this
        // type reachable for others) and pinned by `self`.
        unsafe { self.store.memory.bytes(self.start, self.pages) }
    }

    /// The bytes of frame number `index` of the run.
    ///
    /// # Panics
    /// When `index` is not below [`Self::pages`].
    #[must_use]
    pub fn page(&self, index: u32) -> &Page {
        let start = bytes_of(index);
        match self.bytes()[start..start + PAGE_SIZE].first_chunk() {
            Some(page) => page,
            None => unreachable!("the slice is one page long"),
        }
    }

    /// A handle on frame number `index` that does not keep it alive.
    #[must_use]
    pub fn weak(&self, index: u32) -> WeakFrame {
        let mpn = self.start.plus(index);
        WeakFrame {
            mpn,
            generation: self.store.ledger.lock().generation(mpn),
        }
    }

    /// Weak handles on all frames, in order.
    #[must_use]
    pub fn weak_all(&self) -> Vec<WeakFrame> {
        let ledger = self.store.ledger.lock();
        let frames = (self.start.0..self.start.0 + self.pages).map(Mpn);
        frames
            .map(|mpn| WeakFrame {
                mpn,
                generation: ledger.generation(mpn),
            })
            .collect()
    }

    /// Takes the frames of `next` in, if they follow these in the store; answers whether they do.
    pub(crate) fn extend(&mut self, next: &Self) -> bool {
        let follows = next.start == self.start.plus(self.pages);
        if follows {
            self.store.ledger.lock().pin(next.start, next.pages);
            self.pages += next.pages;
        }
        follows
    }

    /// A handle of its own on `pages` of the frames.
    ///
    /// # Panics
    /// When the part is empty or not inside the run.
    #[must_use]
    pub fn slice(&self, from: u32, pages: u32) -> PinnedFrames {
        assert!(
            pages > 0 && from.checked_add(pages).is_some_and(|end| end <= self.pages),
            "{from}+{pages} of {}",
            self.pages
        );
        let start = self.start.plus(from);
        self.store.ledger.lock().pin(start, pages);
        Self {
            store: Arc::clone(&self.store),
            start,
            pages,
        }
    }
}

impl Drop for PinnedFrames {
    fn drop(&mut self) {
        self.store.unpin(self.start, self.pages);
    }
}
