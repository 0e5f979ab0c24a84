//! The anonymous-memory manager: runs of pages from what the monitor left free.
//!
//! Everything in the guest competes here: heap, stacks, workload regions and the buffer cache,
//! which gives pages back when others ask for more than there is. Pages come as they are: zero
//! when never used, else with old content.

use crate::pages::{LANE, PageMap};
use crate::shared;
use crate::sync::Spin;
use core::ptr::{self, with_exposed_provenance, with_exposed_provenance_mut};
use core::sync::atomic::{AtomicU64, Ordering};
use mirrorball_abi::layout::PAGE_SIZE;

/// Words of eight bytes in a page.
pub const PAGE_WORDS: usize = PAGE_SIZE / 8;

/// A page as words that several vCPUs, and devices, may touch.
pub type PageWords = [AtomicU64; PAGE_WORDS];

/// Pages that only the heap's small sizes may take: they keep bookkeeping possible when memory is full.
const RESERVE: usize = 32;

struct Memory {
    base: usize,
    map: PageMap<'static>,
}

static MEMORY: Spin<Option<Memory>> = Spin::new(None);

/// Takes over the memory from `start` (page-aligned) to `end`; called once, by vCPU 0.
pub fn init(start: usize, end: usize) {
    // Page indices are counted from a lane boundary so that aligned indices are aligned addresses.
    let base = start.next_multiple_of(LANE * PAGE_SIZE);
    let pages = end.saturating_sub(base) / PAGE_SIZE;
    let words = pages.div_ceil(64);
    let bitmap_pages = (words * 8).div_ceil(PAGE_SIZE);
    // SAFETY: the monitor grants `start..end` to the guest, zeroed; the bitmap is its only user yet,
    // and its own pages are taken out of the map below.
    let bits =
        unsafe { core::slice::from_raw_parts_mut(with_exposed_provenance_mut::<u64>(base), words) };
    let mut map = PageMap::new(bits, pages);
    map.take_low(bitmap_pages, 1);
    *MEMORY.lock() = Some(Memory { base, map });
}

fn with<R>(f: impl FnOnce(&mut Memory) -> R) -> Option<R> {
    MEMORY.lock().as_mut().map(f)
}

/// Takes pages for the heap, down to the last one; the address, or `None` when memory is full.
pub fn take_for_heap(pages: usize) -> Option<usize> {
    take_reclaiming(
        |memory| {
            let at = memory.map.take_low(pages, 1)?;
            Some(memory.base + at * PAGE_SIZE)
        },
        pages,
    )
}

fn take_reclaiming(
    mut take: impl FnMut(&mut Memory) -> Option<usize>,
    pages: usize,
) -> Option<usize> {
    loop {
        if let Some(address) = with(&mut take)? {
            count();
            return Some(address);
        }
        if !crate::cache::shrink(pages) && !crate::balloon::release(pages) {
            return None;
        }
    }
}

/// Gives pages back.
pub fn give(address: usize, pages: usize) {
    with(|memory| memory.map.give((address - memory.base) / PAGE_SIZE, pages));
    count();
}

/// Takes one lane for the buffer cache, unless too little would be left.
pub fn take_lane() -> Option<usize> {
    take_lane_leaving(0)
}

fn take_lane_leaving(pages: usize) -> Option<usize> {
    let address = with(|memory| {
        if memory.map.free() < LANE + 2 * RESERVE + pages {
            return None;
        }
        let address = memory.base + memory.map.take_lane()? * PAGE_SIZE;
        // Under the lock: another lane can't get between.
        let lowest = shared::CACHE_START.get();
        if lowest == 0 || lowest > address as u64 {
            shared::CACHE_START.set(address as u64);
        }
        Some(address)
    })??;
    Some(address)
}

/// Takes one lane for the balloon: free memory, or else the buffer cache's; `None` when neither can
/// spare one.
pub fn take_for_balloon() -> Option<usize> {
    loop {
        if let Some(lane) = take_lane_leaving(crate::cache::wants()) {
            count();
            return Some(lane);
        }
        if !crate::cache::shrink_for_balloon(LANE) {
            return None;
        }
    }
}

fn count() {
    if let Some(used) = with(|memory| memory.map.used()) {
        shared::ANONYMOUS_PAGES.set((used as u64).saturating_sub(shared::CACHE_PAGES.get()));
    }
}

/// Pages that can be had now: free ones and those the buffer cache would give back, without the reserve.
pub fn available_pages() -> usize {
    let free = with(|memory| memory.map.free().saturating_sub(RESERVE)).unwrap_or(0);
    free + shared::usize_of(shared::CACHE_PAGES.get())
}

/// A run of consecutive pages, given back when dropped.
#[derive(Debug)]
pub struct Region {
    address: usize,
    pages: usize,
}

impl Region {
    /// Takes `pages` consecutive pages with whatever content they have.
    pub fn new(pages: usize) -> Option<Self> {
        Self::aligned(pages, 1)
    }

    /// Takes `pages` consecutive pages of which the first is a multiple of `align` pages.
    pub fn aligned(pages: usize, align: usize) -> Option<Self> {
        let address = take_reclaiming(
            |memory| {
                if memory.map.free() < pages + RESERVE {
                    return None;
                }
                let at = memory.map.take_low(pages, align)?;
                Some(memory.base + at * PAGE_SIZE)
            },
            pages,
        )?;
        Some(Self { address, pages })
    }

    /// Takes the largest run of at most `most` pages that is to be had, but at least `least`.
    pub fn largest(most: usize, least: usize) -> Option<Self> {
        let mut pages = most;
        loop {
            if let Some(region) = Self::new(pages) {
                return Some(region);
            }
            if pages <= least {
                return None;
            }
            pages = (pages * 7 / 8).max(least);
        }
    }

    /// Address of the first byte.
    pub fn address(&self) -> usize {
        self.address
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// All words of the region.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the run belongs to this region while it lives, is mapped and aligned, and is
        // accessed through atomics or by devices only.
        unsafe {
            core::slice::from_raw_parts(
                with_exposed_provenance(self.address),
                self.pages * PAGE_WORDS,
            )
        }
    }

    /// The words of one page.
    ///
    /// # Panics
    /// When `index` is not below [`Region::pages`].
    pub fn page(&self, index: usize) -> &PageWords {
        assert!(
            index < self.pages,
            "page {index} of a region of {}",
            self.pages
        );
        page_at(self.address + index * PAGE_SIZE, self)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        give(self.address, self.pages);
    }
}

/// The page at `address`, which belongs to `_owner`.
pub fn page_at<T>(address: usize, _owner: &T) -> &PageWords {
    debug_assert_eq!(address % PAGE_SIZE, 0);
    // SAFETY: only called with pages that `_owner` holds; they are mapped, and atomics or devices
    // are all that touches them.
    unsafe { &*with_exposed_provenance::<PageWords>(address) }
}

/// Copies bytes out of a page. Words that change meanwhile come out old or new.
///
/// # Panics
/// When `from + to.len()` is over a page.
pub fn copy_out(page: &PageWords, from: usize, to: &mut [u8]) {
    assert!(from + to.len() <= PAGE_SIZE, "copy over the end of a page");
    // SAFETY: in range; the page may change under the copy (a device write), which for bytes that
    // are checked afterwards is as good as having come earlier or later.
    unsafe {
        ptr::copy_nonoverlapping(
            page.as_ptr().cast::<u8>().add(from),
            to.as_mut_ptr(),
            to.len(),
        )
    };
}

/// Copies a whole page in.
///
/// # Panics
/// When `from` is not one page long.
pub fn copy_in(page: &PageWords, from: &[u8]) {
    assert_eq!(from.len(), PAGE_SIZE, "not a page");
    let (words, _) = from.as_chunks::<8>();
    for (word, bytes) in page.iter().zip(words) {
        word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
    }
}
