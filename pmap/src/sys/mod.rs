//! The pmap's unsafe code: mappings, the frame store's memory, write tracking, the page map.
//!
//! Everything here is a thin, checked wrapper of one kernel facility. It knows addresses and
//! offsets, but not what a page means; that is kept by `frames` and `space`.

mod pagemap;
mod paging;
mod priority;
mod region;
mod replace;
mod seclusion;
mod store;
mod support;
mod tracking;

pub(crate) use pagemap::Pagemap;
pub(crate) use paging::{Buffer, Scratch};
pub use priority::{Alarm, Undisturbed};
pub(crate) use region::{LARGE_PAGES, Region};
pub(crate) use store::StoreMemory;
pub use support::TrackingSupport;
pub(crate) use tracking::WriteTracking;

use crate::types::PAGE_SIZE;

/// Bytes of a number of pages.
pub(crate) const fn bytes_of(pages: u32) -> usize {
    pages as usize * PAGE_SIZE
}
