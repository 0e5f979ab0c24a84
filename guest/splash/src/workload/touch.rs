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
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use mirrorball_abi::layout::PAGE_SIZE;

/// Never written: as the page came.
const UNWRITTEN: u32 = 0;
/// Bytes that are kept of each page: its version and its place in the order.
const NOTES: usize = 2 * size_of::<u32>();

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

/// Pages to take for a working set of `wanted` pages when `available` can be had: twice as many
/// where memory allows it, so that it has somewhere to move, but never fewer. A smaller working set
/// than the one asked for would be a wrong truth to hold estimates against.
fn pages_for(wanted: usize, available: usize) -> Result<usize, String> {
    let kept = wanted.saturating_mul(NOTES).div_ceil(PAGE_SIZE);
    if wanted.saturating_add(kept) > available {
        return Err(too_large(wanted, available));
    }
    let roomy = wanted.saturating_mul(2).min(available * 3 / 4);
    Ok(roomy.max(wanted))
}

fn too_large(wanted: usize, available: usize) -> String {
    let kib = |pages: usize| pages.saturating_mul(PAGE_SIZE) / 1024;
    format!(
        "a working set of {wanted} pages ({} KiB) does not fit: the guest has {available} pages ({} KiB) free",
        kib(wanted),
        kib(available)
    )
}

/// The numbers in memory of their own; `None` where there is no room for them.
fn notes(numbers: impl ExactSizeIterator<Item = u32>) -> Option<Vec<u32>> {
    let mut kept = Vec::new();
    kept.try_reserve_exact(numbers.len()).ok()?;
    kept.extend(numbers);
    Some(kept)
}

impl<'a> Toucher<'a> {
    fn new(job: &'a Job) -> Result<Self, String> {
        let wanted = job.count(0, 1024).max(1);
        let available = memory::available_pages();
        let most = pages_for(wanted, available)?;
        let region = Region::largest(most, wanted)
            .ok_or_else(|| format!("no {wanted} consecutive pages are free for the working set"))?;
        let pages = region.pages();
        let numbers = 0..u32::try_from(pages).unwrap_or(u32::MAX);
        let (Some(versions), Some(order)) = (
            notes(numbers.clone().map(|_| UNWRITTEN)),
            notes(numbers.clone()),
        ) else {
            return Err(too_large(wanted, available));
        };
        let mut toucher = Self {
            job,
            active: wanted,
            versions,
            order,
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
        let ticks_per_ms = shared::ticks_per_ms();
        let mut began = port::ticks();
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
            let now = port::ticks();
            let nanoseconds = now.saturating_sub(began).saturating_mul(1_000_000) / ticks_per_ms;
            shared::record_touch_nanoseconds(nanoseconds);
            began = now;
        }
        OPERATIONS.increase(self.active as u64);
        shared::BYTES.increase((self.active * PAGE_SIZE) as u64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_working_set_moves_in_twice_its_size_or_what_there_is() {
        assert_eq!(pages_for(100, 1000), Ok(200));
        assert_eq!(pages_for(500, 1000), Ok(750));
        assert_eq!(pages_for(900, 1000), Ok(900));
        assert_eq!(
            pages_for(998, 1000),
            Ok(998),
            "the last that fits, with two pages of notes"
        );
    }

    #[test]
    fn a_working_set_is_refused_rather_than_cut() {
        for wanted in [999, 1000, 1001, usize::MAX / 2, usize::MAX] {
            let refused = pages_for(wanted, 1000).unwrap_err();
            assert!(
                refused.contains(&format!("a working set of {wanted} pages"))
                    && refused.contains("the guest has 1000 pages (4000 KiB) free"),
                "{refused}"
            );
        }
        assert!(pages_for(1, 0).is_err());
    }
}
