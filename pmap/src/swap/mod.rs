//! Hypervisor swap: pages of guests on a file, when nothing cheaper is left (ESX Server, OSDI'02,
//! section 3.3).
//!
//! This module has the file, its slots, the pool of pages that are kept compressed, and the thread that
//! brings pages back; which page is taken, and what the books say of it, is in `space/swap.rs`.

mod area;
mod pager;
mod pool;
mod store;

pub(crate) use area::SwapArea;
pub use area::{SwapCounts, SwapError, SwapLimits};
pub use pager::{Lost, Pager};
pub(crate) use pool::Packed;
pub use store::{SwapFile, SwapStore};
