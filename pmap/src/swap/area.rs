//! The slots of a swap file, and what was done with them.

use super::SwapStore;
use crate::{
    sys::{Scratch, WriteTracking, bytes_of},
    types::PAGE_SIZE,
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

/// What swap did, in pages since it began.
#[derive(Clone, Debug)]
pub struct SwapCounts {
    /// Written out.
    pub written: u64,
    /// Taken and found all zero: nothing was written.
    pub zero: u64,
    /// Read back because they were touched.
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
    counts: Mutex<SwapCounts>,
}

impl SwapArea {
    pub(crate) fn new(
        tracking: &WriteTracking,
        store: Box<dyn SwapStore>,
        capacity: u32,
    ) -> io::Result<Self> {
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 2).map_err(io::Error::other)?;
        Ok(Self {
            store,
            scratch: Mutex::new(Scratch::new(tracking, BATCH)?),
            slots: Mutex::new(Slots {
                next: 0,
                free: Vec::new(),
                capacity,
            }),
            counts: Mutex::new(SwapCounts {
                written: 0,
                zero: 0,
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
        counts.used = u64::from(slots.next) - slots.free.len() as u64;
        counts
    }
}
