//! The frame store: machine pages that guests share, each kept once.
//!
//! A frame is made by one owner ([`NewFrames`]), then published and immutable until it is freed.
//! It lives as long as somebody counts on it: guest pages that map it (references, counted by the
//! mechanism that made them) and the monitor's own handles ([`PinnedFrames`]). Look-up tables hold
//! [`WeakFrame`]s, which keep nothing alive: pinning one fails once its frame is gone. So no table
//! needs to be told when a frame is freed (ESX's hints work the same way).

mod extents;
mod handles;
mod ledger;
mod store;

pub use handles::{NewFrames, PinnedFrames, WeakFrame};
pub use ledger::FrameCounts;
pub(crate) use ledger::Released;
pub use store::FrameStore;
