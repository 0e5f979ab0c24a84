//! Memory that is sent from or received into, with notes on what every page should hold.

use super::super::{Job, wrong};
use crate::hash::{self, Random};
use crate::memory::{PAGE_WORDS, Region};
use crate::pattern::{self, Content};
use crate::shared::VERIFIED_PAGES;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::with_exposed_provenance;
use core::sync::atomic::Ordering;
use mirrorball_abi::layout::PAGE_SIZE;

/// Longest message, in bytes.
pub(super) const LONGEST: usize = 1 << 20;
/// Pages of a buffer: the longest message wherever it begins, and a page around it.
const PAGES: usize = LONGEST / PAGE_SIZE + 2;
/// Most pages that are written anew at a time.
const RUN: usize = 64;
/// Different contents that guests have in common.
const COMMON: usize = 64;

/// A stretch of pages, and the checksum that each should have.
#[derive(Debug)]
pub(super) struct Buffer {
    region: Region,
    sums: Vec<u64>,
}

impl Buffer {
    pub(super) fn new() -> Result<Self, String> {
        let region = Region::new(PAGES).ok_or("no memory for buffers")?;
        let sums = (0..PAGES).map(|page| pattern::sum(region.page(page)));
        let sums = sums.collect();
        Ok(Self { region, sums })
    }

    /// A place for so many bytes: at a page's begin as often as anywhere.
    pub(super) fn place(random: &mut Random, bytes: usize) -> usize {
        let room = PAGES * PAGE_SIZE - bytes;
        let offset = random.below(room + 1);
        if random.chance(50) {
            offset / PAGE_SIZE * PAGE_SIZE
        } else {
            offset
        }
    }

    /// The address of a byte.
    pub(super) fn address(&self, offset: usize) -> usize {
        self.region.address() + offset
    }

    /// Whether an address lies here.
    pub(super) fn holds(&self, address: usize) -> bool {
        let start = self.region.address();
        (start..start + PAGES * PAGE_SIZE).contains(&address)
    }

    /// Bytes of it. Nobody may write here meanwhile: neither this guest nor its device.
    pub(super) fn bytes(&self, offset: usize, bytes: usize) -> &[u8] {
        assert!(
            offset + bytes <= PAGES * PAGE_SIZE,
            "bytes outside a buffer"
        );
        // SAFETY: in the region, which is this buffer's alone; the device is given what it writes to
        // only while nobody looks.
        unsafe { core::slice::from_raw_parts(with_exposed_provenance(self.address(offset)), bytes) }
    }

    /// The pages that some bytes lie in.
    pub(super) fn pages(offset: usize, bytes: usize) -> Range<usize> {
        offset / PAGE_SIZE..(offset + bytes).div_ceil(PAGE_SIZE)
    }

    /// Notes what these pages hold now.
    pub(super) fn note(&mut self, pages: Range<usize>) {
        for page in pages {
            self.sums[page] = pattern::sum(self.region.page(page));
        }
    }

    /// Compares pages with what was noted, every byte.
    pub(super) fn check(&self, pages: Range<usize>, what: &str) {
        for page in pages {
            VERIFIED_PAGES.increase(1);
            if pattern::sum(self.region.page(page)) != self.sums[page] {
                wrong(format_args!(
                    "page {page} of {what} holds what nobody wrote"
                ));
            }
        }
    }

    /// Compares all pages.
    pub(super) fn check_all(&self, what: &str) {
        self.check(0..PAGES, what);
    }

    /// Writes a run of pages anew: with zeros, with what other guests write too, or with what none
    /// does.
    pub(super) fn rewrite(&mut self, job: &Job, random: &mut Random) {
        let first = random.below(PAGES);
        let last = (first + 1 + random.below(RUN)).min(PAGES);
        let kind = random.below(8);
        for page in first..last {
            let content = match kind {
                0 => Content::ZERO,
                1..4 => Content::common(job.seed, random.below(COMMON) as u64),
                _ => Content::own(job.seed, job.vm, random.next()),
            };
            pattern::fill(self.region.page(page), content);
        }
        self.note(first..last);
    }

    /// Writes single words somewhere in these pages.
    pub(super) fn scribble(&mut self, random: &mut Random, pages: Range<usize>) {
        for _ in 0..=random.below(4) {
            let page = pages.start + random.below(pages.len());
            if let Some(word) = self.region.page(page).get(random.below(PAGE_WORDS)) {
                word.store(random.next(), Ordering::Relaxed);
            }
            self.note(page..page + 1);
        }
    }

    /// The checksum of some bytes.
    pub(super) fn sum(&self, offset: usize, bytes: usize) -> u64 {
        hash::bytes(self.bytes(offset, bytes))
    }
}
