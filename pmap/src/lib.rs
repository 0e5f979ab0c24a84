//! The pmap: every VM's guest-physical pages ([`Ppn`]) to machine pages ([`Mpn`]).
//!
//! Everything that saves memory is a way of making two entries of this map name one machine page,
//! or of making an entry need no page at all (Disco, SOSP'97, section 4; ESX Server, OSDI'02,
//! section 4). This crate does the mapping, keeps exact books of it, and guarantees that no guest
//! ever reads a byte that is not its own. It knows nothing of KVM, virtio or scanning policy: what
//! to share is decided above, that sharing is right is decided here.
//!
//! * [`Pmap`]: all address spaces over one frame store, and the machine's totals;
//! * [`FrameStore`]: machine pages kept once ([`NewFrames`], [`PinnedFrames`], [`WeakFrame`]);
//! * [`AddressSpace`]: one VM's memory: sharing, breaking, zero pages, device [`Access`].
#![deny(unsafe_op_in_unsafe_fn, missing_docs)]

mod account;
mod budget;
mod error;
mod frames;
mod pmap;
mod space;
mod spare;
mod swap;
mod sys;
mod types;

pub use account::{KernelAccount, Totals};
pub use error::{MapRefused, PmapError};
pub use frames::{FrameCounts, FrameStore, NewFrames, PinnedFrames, WeakFrame};
pub use pmap::{Pmap, PmapConfig};
pub use space::{
    Access, AddressSpace, GiveOutcome, InGuest, Lent, Loan, Origin, PageState, ShareCandidate,
    ShareOutcome, SpaceTotals, SwapOutcome, Taken, Watch, ZeroOutcome, is_zero,
};
pub use spare::Spare;
pub use swap::{Lost, Pager, SwapCounts, SwapError, SwapFile, SwapLimits, SwapStore};
pub use sys::{Alarm, TrackingSupport, Undisturbed};
pub use types::*;
