//! The heap: power-of-two size classes cut from single pages, and whole page runs above.
//!
//! Pages of a size class stay with it for good; a guest runs one workload after another of the
//! same kind, so what fragmentation this leaves is bounded by the peak of each class.

use crate::memory;
use crate::sync::Spin;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull, with_exposed_provenance_mut};
use mirrorball_abi::layout::PAGE_SIZE;

const SMALLEST: usize = 16;
const CLASSES: usize = 8;

struct Free {
    next: Option<NonNull<Free>>,
}

/// Free lists by size class: 16 bytes to 2 KiB.
struct Classes {
    heads: [Option<NonNull<Free>>; CLASSES],
}

// SAFETY: the pointers are what keeps this from being `Send` by itself. They name unused memory, put
// there by `push`, to which no other pointer exists, and no vCPU has memory of its own: whichever
// thread holds the lists may use them.
unsafe impl Send for Classes {}

/// The guest's global allocator.
#[derive(Debug)]
pub struct Heap {
    classes: Spin<Classes>,
}

impl Heap {
    /// An empty heap; takes its first page when something is allocated.
    pub const fn new() -> Self {
        Self {
            classes: Spin::new(Classes {
                heads: [None; CLASSES],
            }),
        }
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

/// The class for a layout; `None` for those that get whole pages.
const fn class_of(layout: Layout) -> Option<usize> {
    let size = if layout.size() > layout.align() {
        layout.size()
    } else {
        layout.align()
    };
    let class = size.div_ceil(SMALLEST).next_power_of_two().trailing_zeros() as usize;
    if class < CLASSES { Some(class) } else { None }
}

impl Classes {
    fn pop(&mut self, class: usize) -> Option<NonNull<u8>> {
        let head = self.heads[class]?;
        // SAFETY: whatever is on a list was put there by `push` and is unused memory.
        self.heads[class] = unsafe { head.as_ref().next };
        Some(head.cast())
    }

    /// # Safety
    /// `block` must be unused memory of the class's size and alignment.
    unsafe fn push(&mut self, class: usize, block: NonNull<u8>) {
        let block = block.cast::<Free>();
        // SAFETY: the caller grants the memory; every class is large enough for `Free`.
        unsafe {
            block.write(Free {
                next: self.heads[class],
            })
        };
        self.heads[class] = Some(block);
    }

    /// # Safety
    /// `page` must be an unused page.
    unsafe fn refill(&mut self, class: usize, page: NonNull<u8>) {
        let size = SMALLEST << class;
        for index in (0..PAGE_SIZE / size).rev() {
            // SAFETY: disjoint parts of the page that the caller grants.
            unsafe { self.push(class, page.add(index * size)) };
        }
    }
}

// SAFETY: the trait asks for blocks that fit their layout, do not overlap while allocated, and are
// not changed by the allocator. A block is a part of a page, or whole pages, that the page manager
// gave to the heap alone. Parts of a page are disjoint multiples of a power of two that is at least
// the layout's size and alignment (`class_of`), so they are aligned as the page is. A block is on
// no list while it is out: `pop` unlinks it, only `dealloc` links it again, and nothing else writes
// to it. No method unwinds: the guest is built to abort.
unsafe impl GlobalAlloc for Heap {
    // SAFETY: nothing here relies on more than the layout's own rules (a power-of-two alignment, a
    // size that does not overflow when rounded up); even a size of 0 gets a block.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            if layout.align() > PAGE_SIZE {
                return ptr::null_mut();
            }
            let address = memory::take_for_heap(layout.size().div_ceil(PAGE_SIZE));
            return address.map_or(ptr::null_mut(), with_exposed_provenance_mut);
        };
        if let Some(block) = self.classes.lock().pop(class) {
            return block.as_ptr();
        }
        // The page is taken with the lock open: taking it may evict cache slots, which frees memory.
        let page = memory::take_for_heap(1)
            .and_then(|page| NonNull::new(with_exposed_provenance_mut(page)));
        let mut classes = self.classes.lock();
        if let Some(page) = page {
            // SAFETY: a fresh page of the page manager.
            unsafe { classes.refill(class, page) };
        }
        classes.pop(class).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    // SAFETY: the caller gives back a block of `alloc` with the layout it was allocated by.
    // `class_of` answers the same for both calls, so a block returns to the list it came from, and
    // whole pages return as the run that was taken: the same start, the same number of pages.
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match (class_of(layout), NonNull::new(block)) {
            // SAFETY: the caller gives back a block that `alloc` returned for this layout.
            (Some(class), Some(block)) => unsafe { self.classes.lock().push(class, block) },
            _ => memory::give(block.expose_provenance(), layout.size().div_ceil(PAGE_SIZE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn classes_fit_size_and_alignment() {
        assert_eq!(class_of(layout(1, 1)), Some(0));
        assert_eq!(class_of(layout(17, 8)), Some(1));
        assert_eq!(class_of(layout(8, 64)), Some(2));
        assert_eq!(class_of(layout(2048, 8)), Some(7));
        assert_eq!(class_of(layout(2049, 8)), None);
        assert_eq!(class_of(layout(16, 4096)), None);
    }

    #[test]
    fn a_page_is_cut_into_disjoint_blocks() {
        let mut page = Box::new([0u128; PAGE_SIZE / 16]);
        let start = NonNull::new(page.as_mut_ptr().cast::<u8>()).unwrap();
        let mut classes = Classes {
            heads: [None; CLASSES],
        };
        // SAFETY: the page is ours and outlives the list.
        unsafe { classes.refill(3, start) };
        let blocks: Vec<usize> = core::iter::from_fn(|| classes.pop(3))
            .map(|b| b.as_ptr().addr())
            .collect();
        assert_eq!(blocks.len(), PAGE_SIZE / 128);
        assert!(
            blocks.windows(2).all(|pair| pair[1] - pair[0] == 128),
            "in order, 128 bytes each"
        );
    }
}
