//! What one write to a page costs the guest, page by page.
//!
//! The fill step's first writes meet untouched anonymous memory; the overwrite step's meet
//! whatever the monitor made of the pages meanwhile, shared frames as a rule. Between the two
//! commands the pages are kept. Either step may read all pages before it writes one: what was read
//! has translations, which a write that copies the page has to take away.

use super::{Job, fitting, mismatch};
use crate::memory::{self, Region};
use crate::pattern::{self, Content};
use crate::port;
use crate::shared::{self, ACTIVE_PAGES, OPERATIONS, VERIFIED_PAGES};
use crate::sync::Spin;
use alloc::string::String;
use core::hint::black_box;
use core::sync::atomic::Ordering;

/// Pages of the fill step, for the overwrite step.
static FILLED: Spin<Option<Region>> = Spin::new(None);

/// The word that is written and measured.
const MEASURED: u64 = 100;
/// What the overwrite step adds to it.
const CHANGE: u64 = 0x5555_5555_5555_5555;

fn content(job: &Job, page: usize) -> Content {
    Content::common(job.seed, 0x7072_6f62_0000_0000 | page as u64)
}

pub(super) fn run(job: &Job) -> Result<(), String> {
    match job.params[1] {
        0 => fill(job),
        _ => overwrite(job),
    }
}

/// Reads a word of each page, if the command says so.
fn read(job: &Job, region: &Region) {
    if job.params[2] == 0 {
        return;
    }
    for page in 0..region.pages() {
        let word = &region.page(page)[shared::usize_of(MEASURED)];
        // A read that nobody needs would be left out.
        black_box(word.load(Ordering::Relaxed));
    }
}

/// Writes one word of a page and records what that took.
fn measure(region: &Region, page: usize, value: u64) {
    let word = &region.page(page)[shared::usize_of(MEASURED)];
    let start = port::ticks_in_order();
    word.store(value, Ordering::Relaxed);
    let end = port::ticks_in_order();
    shared::record_write_ticks(end.saturating_sub(start));
    OPERATIONS.increase(1);
}

fn fill(job: &Job) -> Result<(), String> {
    drop(FILLED.lock().take());
    let free = memory::available_pages();
    let pages = fitting(
        "the pages to probe",
        job.count(0, 1024).max(1),
        free * 3 / 4,
        free,
    )?;
    let region = Region::new(pages).ok_or("no such run of consecutive pages is free")?;
    read(job, &region);
    for page in 0..pages {
        let content = content(job, page);
        measure(&region, page, content.word(MEASURED));
        pattern::fill(region.page(page), content);
    }
    ACTIVE_PAGES.set(pages as u64);
    *FILLED.lock() = Some(region);
    Ok(())
}

fn overwrite(job: &Job) -> Result<(), String> {
    let region = FILLED.lock().take().ok_or("nothing was filled before")?;
    read(job, &region);
    for page in 0..region.pages() {
        let content = content(job, page);
        let value = content.word(MEASURED) ^ CHANGE;
        measure(&region, page, value);
        if let Err(wrong) = pattern::check_patched(region.page(page), content, MEASURED, value) {
            mismatch(
                format_args!("probed page {page} at {:#x}", region.address()),
                wrong,
            );
        }
        VERIFIED_PAGES.increase(1);
    }
    Ok(())
}
