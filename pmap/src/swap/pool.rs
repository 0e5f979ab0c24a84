//! Swapped pages that are kept in memory after all, but smaller.
//!
//! A page that compresses well is cheaper to get back from memory than from a disk. The pool is bounded,
//! and what it takes is memory of the machine like any other: its owner has it in the budget. A page that
//! does not fit, or hardly gets smaller, goes to the file.

use crate::types::{PAGE_SIZE, Page};
use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

/// A page that takes more than this when compressed is not worth its memory.
const MOST: usize = PAGE_SIZE * 3 / 4;
/// What an allocation takes beyond its bytes, more or less.
const ALLOCATION: u64 = 16;

/// A compressed page. Its memory is charged to the pool until [`Pool::give_back`] is called.
#[derive(Debug)]
pub(crate) struct Packed(Box<[u8]>);

impl Packed {
    /// Bytes of the compressed page.
    pub(super) fn length(&self) -> u64 {
        self.0.len() as u64
    }

    /// Bytes that it takes.
    fn bytes(&self) -> u64 {
        self.0.len() as u64 + ALLOCATION
    }

    /// The page as it was.
    pub(crate) fn unpack(&self, page: &mut Page) -> io::Result<()> {
        let length = lz4_flex::block::decompress_into(&self.0, page).map_err(io::Error::other)?;
        if length == PAGE_SIZE {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// The pool of a machine's swap.
#[derive(Debug)]
pub(crate) struct Pool {
    capacity: u64,
    used: AtomicU64,
}

impl Pool {
    /// A pool of that many bytes; with 0 there is none.
    pub(crate) const fn new(capacity: u64) -> Self {
        Self {
            capacity,
            used: AtomicU64::new(0),
        }
    }

    /// Compresses a page; `None` when it does not get small enough, or there is no room.
    pub(crate) fn pack(&self, page: &Page) -> Option<Packed> {
        let used = self.used.load(Ordering::Relaxed);
        if used.saturating_add(ALLOCATION) >= self.capacity {
            return None;
        }
        let mut buffer = [0; lz4_flex::block::get_maximum_output_size(PAGE_SIZE)];
        let length = lz4_flex::block::compress_into(page, &mut buffer).ok()?;
        let bytes = buffer.get(..length).filter(|_| length <= MOST)?;
        let packed = Packed(bytes.into());
        let after = self.used.fetch_add(packed.bytes(), Ordering::Relaxed) + packed.bytes();
        if after > self.capacity {
            self.give_back(&packed);
            return None;
        }
        Some(packed)
    }

    /// A page of the pool is dropped.
    pub(crate) fn give_back(&self, packed: &Packed) {
        self.used.fetch_sub(packed.bytes(), Ordering::Relaxed);
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: u8) -> Page {
        let mut page = [b' '; PAGE_SIZE];
        for (at, byte) in page.iter_mut().enumerate().filter(|(at, _)| at % 3 == 0) {
            *byte = (b'a' + u8::try_from(at / 7 % 26).unwrap()) ^ number;
        }
        page
    }

    #[test]
    fn a_page_comes_out_as_it_went_in_and_its_memory_is_free_again() {
        let pool = Pool::new(1 << 20);
        for number in 0..8 {
            let page = text(number);
            let packed = pool.pack(&page).unwrap();
            assert!(pool.used() > 0 && pool.used() < PAGE_SIZE as u64);
            let mut back = [7; PAGE_SIZE];
            packed.unpack(&mut back).unwrap();
            assert_eq!(page, back);
            pool.give_back(&packed);
            assert_eq!(pool.used(), 0);
        }
    }

    #[test]
    fn what_hardly_gets_smaller_or_does_not_fit_is_not_taken() {
        let mut noise = [0; PAGE_SIZE];
        let mut state = 1_u64;
        for byte in &mut noise {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = state.to_le_bytes()[7];
        }
        assert!(Pool::new(1 << 20).pack(&noise).is_none());
        assert!(Pool::new(0).pack(&text(1)).is_none());
        let small = Pool::new(3000);
        let kept: Vec<_> = (0..100)
            .map_while(|number| small.pack(&text(number)))
            .collect();
        assert!(!kept.is_empty() && kept.len() < 100, "{} pages", kept.len());
        assert!(small.used() <= 3000);
    }

    #[test]
    fn bytes_that_were_damaged_are_an_error_and_no_page() {
        let pool = Pool::new(1 << 20);
        let whole = pool.pack(&text(3)).unwrap();
        let cut = Packed(whole.0[..whole.0.len() / 2].into());
        assert!(cut.unpack(&mut [0; PAGE_SIZE]).is_err());
        assert!(Packed(Box::default()).unpack(&mut [0; PAGE_SIZE]).is_err());
    }
}
