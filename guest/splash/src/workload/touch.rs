//! The ESX "toucher" (ESX, section 5.3): a working set of known size that moves over time.
//!
//! It is the truth that estimates of active memory are held against, and a source of pages with a
//! chosen mix of zero, common and private content. What a page holds follows from its index and
//! how often it was written, so every touch that is not a write verifies the whole page.

use super::{Job, mismatch};
use crate::hash::Random;
use crate::memory::{self, Region};
use crate::pattern::{self, Content};
use crate::port;
use crate::sched;
use crate::shared::{self, ACTIVE_PAGES, OPERATIONS, VERIFIED_PAGES};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// Never written: as the page came.
const UNWRITTEN: u32 = 0;

struct Toucher<'a> {
    job: &'a Job,
    region: Region,
    versions: Vec<u32>,
    /// Indices of all pages; the first `active` are the working set.
    order: Vec<u32>,
    active: usize,
    written: u64,
    zero: u64,
    common: u64,
    random: Random,
}

pub(super) fn run(job: &Job) -> Result<(), String> {
    let mut toucher = Toucher::new(job)?;
    let period = job.param(1, 1000) * shared::ticks_per_ms();
    let moved = job.count(2, 10).min(100);
    let end = match job.param(6, 0) {
        0 => u64::MAX,
        ms => port::ticks().saturating_add(ms * shared::ticks_per_ms()),
    };
    ACTIVE_PAGES.set(toucher.active as u64);
    let mut next = port::ticks();
    while !shared::stop_requested() && port::ticks() < end {
        toucher.touch();
        toucher.move_on(toucher.active * moved / 100);
        next = next.saturating_add(period).max(port::ticks());
        sched::block_until_or(next.min(end), shared::stop_requested);
    }
    Ok(())
}

impl<'a> Toucher<'a> {
    fn new(job: &'a Job) -> Result<Self, String> {
        let wanted = job.count(0, 1024).max(1);
        // Twice the working set, so that it has somewhere to move; less when memory is short.
        let most = (wanted * 2).min(memory::available_pages() * 3 / 4).max(1);
        let region = Region::largest(most, 1).ok_or("no memory for the working set")?;
        let pages = region.pages();
        let mut toucher = Self {
            job,
            active: wanted.min(pages),
            versions: vec![UNWRITTEN; pages],
            order: (0..u32::try_from(pages).unwrap_or(u32::MAX)).collect(),
            region,
            written: job.param(3, 50).min(100),
            zero: job.params[4].min(100),
            common: job.params[5].min(100),
            random: Random::new(job.seed),
        };
        toucher.move_on(toucher.active);
        Ok(toucher)
    }

    /// Content of a page that was written `version` times: its kind follows from its index.
    fn content(&self, page: usize, version: u32) -> Content {
        let share = Random::new(self.job.seed ^ page as u64).next() % 100;
        let tag = (page as u64) << 32 | u64::from(version);
        if share < self.zero {
            Content::ZERO
        } else if share < self.zero + self.common {
            Content::common(self.job.seed, tag)
        } else {
            Content::own(self.job.seed, self.job.vm, tag)
        }
    }

    /// Touches each page of the working set once: a page is written or verified.
    fn touch(&mut self) {
        for index in 0..self.active {
            let page = self.order[index] as usize;
            let version = self.versions[page];
            if version == UNWRITTEN || self.random.chance(self.written) {
                self.versions[page] = version.wrapping_add(1).max(1);
                pattern::fill(
                    self.region.page(page),
                    self.content(page, self.versions[page]),
                );
            } else {
                self.verify(page, version);
            }
        }
        OPERATIONS.increase(self.active as u64);
        shared::BYTES.increase((self.active * mirrorball_abi::layout::PAGE_SIZE) as u64);
    }

    fn verify(&mut self, page: usize, version: u32) {
        let content = self.content(page, version);
        if let Err(wrong) = pattern::check(self.region.page(page), content) {
            mismatch(
                format_args!("touched page {page} at {:#x}", self.region.address()),
                wrong,
            );
            pattern::fill(self.region.page(page), content);
        }
        VERIFIED_PAGES.increase(1);
    }

    /// Exchanges `count` pages of the working set for others.
    fn move_on(&mut self, count: usize) {
        let pages = self.order.len();
        for _ in 0..count {
            let out = self.random.below(self.active);
            let into = self.active + self.random.below(pages - self.active);
            if into < pages {
                self.order.swap(out, into);
            }
        }
    }
}
