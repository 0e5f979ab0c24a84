//! Guest pages that reads come to again and again.
//!
//! A page that is read into anew after a few MiB of other reads is no place where the guest keeps
//! what it reads, but a buffer: of direct I/O, or of a cache that is too small. What would be mapped
//! there is gone before anybody else can share it, and a change of mappings costs more than a copy.

use super::BLOCK_BYTES;
use crate::queue::Buffers;

/// Pages of reads after which a page's last one is forgotten (8 MiB).
const REMEMBERED: u32 = 2048;
/// Pages that are remembered at most, each at a place of its own or that of another.
const SLOTS: usize = 4096;

/// The pages that a disk's reads came to last.
#[derive(Debug, Default)]
pub(super) struct Reused {
    /// Nothing before the first read.
    slots: Vec<Slot>,
    /// Pages read into so far; wraps around.
    now: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    page: u64,
    read: u32,
}

impl Reused {
    /// Takes note of a read, and answers whether all its pages were read into not long ago.
    pub(super) fn visit(&mut self, buffers: &Buffers) -> bool {
        if self.slots.is_empty() {
            let nobody = Slot {
                page: u64::MAX,
                read: 0,
            };
            self.slots.resize(SLOTS, nobody);
        }
        let mut all = true;
        for buffer in buffers.iter() {
            let end = buffer.address.saturating_add(buffer.len.into());
            for page in buffer.address / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES) {
                all &= self.page(page);
            }
        }
        all
    }

    fn page(&mut self, page: u64) -> bool {
        self.now = self.now.wrapping_add(1);
        let place = usize::try_from(page % SLOTS as u64).unwrap_or(0);
        let Some(slot) = self.slots.get_mut(place) else {
            return false;
        };
        let recent = slot.page == page && self.now.wrapping_sub(slot.read) <= REMEMBERED;
        *slot = Slot {
            page,
            read: self.now,
        };
        recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Buffer;

    fn pages(first: u64, count: u32) -> Buffers {
        let address = first * BLOCK_BYTES;
        let len = count * 4096;
        [Buffer { address, len }].into_iter().collect()
    }

    #[test]
    fn a_buffer_is_known_when_it_comes_again_and_a_cache_is_not() {
        let mut reused = Reused::default();
        for buffer in 0..4 {
            assert!(!reused.visit(&pages(0x1000 + 256 * buffer, 256)));
        }
        for buffer in 0..4 {
            assert!(reused.visit(&pages(0x1000 + 256 * buffer, 256)));
        }
        for cluster in 0..64 {
            assert!(!reused.visit(&pages(0x8000 + 64 * cluster, 64)));
        }
        assert!(!reused.visit(&pages(0x8000, 64)), "4096 pages ago");
    }

    #[test]
    fn a_read_with_one_new_page_is_a_new_one() {
        let mut reused = Reused::default();
        assert!(!reused.visit(&pages(7, 2)));
        assert!(!reused.visit(&pages(7, 3)));
        assert!(reused.visit(&pages(8, 2)));
        // The same place in the table.
        assert!(!reused.visit(&pages(8 + SLOTS as u64, 1)));
        assert!(!reused.visit(&pages(8, 1)));
    }
}
