//! The slots of a swap file, and what was done with them.

use super::{
    SwapStore,
    pool::{Packed, Pool},
};
use crate::{
    sys::{Scratch, WriteTracking, bytes_of},
    types::{PAGE_SIZE, Page},
};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::{io, time::Duration};

/// Pages that are taken from a VM at a time: bounds how long its books are held.
const BATCH: u32 = 32;

/// Pages could not be swapped out; they are where they were.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// There is no swap: none was given, or this kernel can't page.
    #[error("there is no swap on this machine")]
    None,
    /// All slots are in use.
    #[error("the swap file is full: all {capacity} pages of it are in use")]
    Full {
        /// Slots of the file.
        capacity: u32,
    },
    /// The file system refused.
    #[error("the swap file can't be written: {0}")]
    Write(io::Error),
    /// The kernel refused to take or give a page.
    #[error("guest pages can't be moved: {0}")]
    Move(io::Error),
}

/// How much is swapped at most.
#[derive(Clone, Copy, Debug)]
pub struct SwapLimits {
    /// Pages in the store.
    pub capacity: u32,
    /// Bytes of memory for pages that are kept compressed, before the store is used; 0 for none.
    pub pool: u64,
}

impl SwapLimits {
    /// A store of so many pages, and nothing compressed.
    #[must_use]
    pub const fn store(capacity: u32) -> Self {
        Self { capacity, pool: 0 }
    }
}

/// What swap did, in pages since it began.
#[derive(Clone, Debug)]
pub struct SwapCounts {
    /// Written out.
    pub written: u64,
    /// Taken and found all zero: nothing was written.
    pub zero: u64,
    /// Compressed and kept in memory: nothing was written.
    pub packed: u64,
    /// The bytes that those came to, of [`PAGE_BYTES`](crate::PAGE_BYTES) each.
    pub packed_bytes: u64,
    /// Brought back from there.
    pub unpacked: u64,
    /// Memory that compressed pages take now, bytes.
    pub pool_bytes: u64,
    /// The most that it ever was.
    pub pool_most: u64,
    /// Brought back because they were touched, those from memory included.
    pub read: u64,
    /// Slots in use.
    pub used: u64,
    /// Writes that failed; their pages stayed.
    pub write_errors: u64,
    /// Reads that failed; their VMs were stopped.
    pub read_errors: u64,
    /// From the moment in which the touch was seen until the page was there, nanoseconds.
    pub latency: Histogram<u64>,
}

/// Slots in use and free.
#[derive(Debug)]
struct Slots {
    next: u32,
    free: Vec<u32>,
    capacity: u32,
}

/// The swap of a machine.
#[derive(Debug)]
pub(crate) struct SwapArea {
    pub(crate) store: Box<dyn SwapStore>,
    /// Held while a batch is taken; before all locks of a space.
    pub(crate) scratch: Mutex<Scratch>,
    slots: Mutex<Slots>,
    pool: Pool,
    counts: Mutex<SwapCounts>,
}

impl SwapArea {
    pub(crate) fn new(
        tracking: &WriteTracking,
        store: Box<dyn SwapStore>,
        limits: SwapLimits,
    ) -> io::Result<Self> {
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 2).map_err(io::Error::other)?;
        Ok(Self {
            store,
            scratch: Mutex::new(Scratch::new(tracking, BATCH)?),
            slots: Mutex::new(Slots {
                next: 0,
                free: Vec::new(),
                capacity: limits.capacity,
            }),
            pool: Pool::new(limits.pool),
            counts: Mutex::new(SwapCounts {
                written: 0,
                zero: 0,
                packed: 0,
                packed_bytes: 0,
                unpacked: 0,
                pool_bytes: 0,
                pool_most: 0,
                read: 0,
                used: 0,
                write_errors: 0,
                read_errors: 0,
                latency,
            }),
        })
    }

    /// So many slots, consecutive ones as long as the file grows.
    pub(crate) fn allocate(&self, pages: usize) -> Result<Vec<u32>, SwapError> {
        let mut slots = self.slots.lock();
        let Slots {
            next,
            free,
            capacity,
        } = &mut *slots;
        let fresh = (*capacity - *next) as usize;
        if fresh + free.len() < pages {
            return Err(SwapError::Full {
                capacity: *capacity,
            });
        }
        // Reused slots first, so that the file stays small.
        let reused = free.len().min(pages);
        let mut taken = free.split_off(free.len() - reused);
        taken.sort_unstable();
        while taken.len() < pages {
            taken.push(*next);
            *next += 1;
        }
        Ok(taken)
    }

    pub(crate) fn free(&self, slots: impl IntoIterator<Item = u32>) {
        self.slots.lock().free.extend(slots);
    }

    /// Writes the pages of `bytes` that are named to the slots, consecutive ones in one go; all of
    /// them or an error.
    pub(crate) fn write(&self, slots: &[u32], pages: &[u32], bytes: &[u8]) -> io::Result<()> {
        let numbered: Vec<_> = slots.iter().copied().zip(pages.iter().copied()).collect();
        let runs = numbered.chunk_by(|one, next| one.0 + 1 == next.0 && one.1 + 1 == next.1);
        for run in runs {
            let (slot, page) = run[0];
            let from = bytes_of(page);
            let result = (self.store).write(slot, &bytes[from..from + run.len() * PAGE_SIZE]);
            if result.is_err() {
                self.counts.lock().write_errors += 1;
                return result;
            }
        }
        self.counts.lock().written += slots.len() as u64;
        Ok(())
    }

    /// Compresses a page into the pool; `None` when it has to go to the file.
    pub(crate) fn pack(&self, page: &Page) -> Option<Packed> {
        let packed = self.pool.pack(page)?;
        let mut counts = self.counts.lock();
        counts.packed += 1;
        counts.packed_bytes += packed.length();
        counts.pool_most = counts.pool_most.max(self.pool.used());
        Some(packed)
    }

    /// A compressed page is dropped; `used` when somebody wanted it back.
    pub(crate) fn drop_packed(&self, packed: &Packed, used: bool) {
        self.pool.give_back(packed);
        self.counts.lock().unpacked += u64::from(used);
    }

    pub(crate) fn count_zero(&self, pages: u64) {
        self.counts.lock().zero += pages;
    }

    pub(crate) fn count_read(&self, latency: Duration) {
        let mut counts = self.counts.lock();
        counts.read += 1;
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        counts.latency.saturating_record(nanoseconds);
    }

    pub(crate) fn count_read_error(&self) {
        self.counts.lock().read_errors += 1;
    }

    pub(crate) fn counts(&self) -> SwapCounts {
        let mut counts = self.counts.lock().clone();
        let slots = self.slots.lock();
        counts.pool_bytes = self.pool.used();
        counts.used = u64::from(slots.next) - slots.free.len() as u64;
        counts
    }
}
