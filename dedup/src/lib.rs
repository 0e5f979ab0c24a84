//! Content sharing: pages that happen to hold the same bytes are kept once.
//!
//! Disco found sharing only where it could see it being made (a disk read, a
//! network transfer); ESX section 4 finds it by content, whatever made the
//! pages equal. This crate is that part of the machine, with the baseline it
//! is measured against ([`ksm`]) and the bound it is measured by
//! ([`oracle`]).
//!
//! Nothing here can make a guest read a wrong byte: a hash only *proposes*
//! that a page equals a frame. `mirrorball_pmap` fences the page, compares
//! every byte and remaps. So this crate needs no unsafe code, knows nothing
//! of KVM or of devices, and may be as approximate as it likes about which
//! pages are worth proposing.
#![forbid(unsafe_code)]

mod cpu;
mod index;
pub mod ksm;
pub mod oracle;
mod page;
mod runs;
mod scanner;

pub use page::{Content, PageHasher, hash_pages, read_pages};
pub use scanner::{Order, PassReport, Scanner, ScannerConfig, ScannerStats, ScannerThread};
