//! Memory policy as in VMware ESX Server (Waldspurger, OSDI 2002, sections 5 and 6).
//!
//! When guests want more memory than the machine has, something must say who gives, how much, and by
//! which means. This crate says it, and does nothing: plain numbers in, targets and orders out. The
//! same input always gives the same output, whatever the order of the VMs.
//!
//! | step | what it decides | module |
//! |---|---|---|
//! | admission | whether a VM may start at all | [`admission`] |
//! | active memory | how much of its memory a VM uses, from sampled pages | [`active`] |
//! | targets | how much each VM is entitled to: shares, min, max, idle memory tax | [`targets`] |
//! | state | how hard memory has to be taken back: high, soft, hard, low | [`state`] |
//! | reserve | what has to stay free because guests can't be stopped at once | [`reserve`] |
//! | sharing | whether equal pages are looked for before any are swapped | [`sharing`] |
//! | orders | by what means each VM gets to its target: balloon, swap, hold | [`reclaim`] |
//! | simulation | all of it over thousands of model guests | [`simulate`] |
//!
//! Memory is counted in pages of 4 KiB throughout. It knows no VM but by its place in a slice, no
//! clock, no thread and no randomness.
#![forbid(unsafe_code)]

pub mod active;
pub mod admission;
pub mod reclaim;
pub mod reserve;
pub mod sharing;
pub mod simulate;
pub mod state;
pub mod targets;

mod claim;

pub use claim::{Claim, ClaimError, IdleTax};

/// Whole pages of a number of pages that is not negative.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounds down, and saturates"
)]
fn whole(pages: f64) -> u64 {
    pages as u64
}
