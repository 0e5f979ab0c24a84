//! What can go wrong in the pmap, for its callers.

use crate::types::{GroupId, VmId};
use std::io;

/// An operation on the pmap could not be done.
#[derive(Debug, thiserror::Error)]
pub enum PmapError {
    /// The frame store could not be made or grown.
    #[error("the frame store could not {action}: {source}")]
    FrameStore {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No run of that many frames is free.
    #[error("the frame store has no run of {pages} frames left (capacity {capacity} frames)")]
    NoFrames {
        /// Frames asked for.
        pages: u32,
        /// Frames in the store.
        capacity: u32,
    },
    /// Guest memory could not be set up.
    #[error("memory of {bytes} bytes for {vm:?} could not be {action}: {source}")]
    GuestMemory {
        /// Whose memory.
        vm: VmId,
        /// Its size.
        bytes: u64,
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The size of a VM's memory is 0, not whole pages, or beyond what page numbers can name.
    #[error(
        "{bytes} bytes can't be a VM's memory: it must be whole 4 KiB pages, at least one, at most 16 TiB"
    )]
    BadSize {
        /// The size asked for.
        bytes: u64,
    },
    /// The VM has an address space already.
    #[error("{vm:?} has an address space already")]
    Exists {
        /// The VM.
        vm: VmId,
    },
}

/// Why pages were not mapped onto frames. The caller copies instead; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapRefused {
    /// One more mapping would come too near to `vm.max_map_count`.
    #[error("the budget of memory mappings (vm.max_map_count) is used up")]
    NoBudget,
    /// The frames belong to another sharing group.
    #[error("the frames belong to {frames:?}, the VM to {vm:?}")]
    OtherGroup {
        /// Group of the frames.
        frames: GroupId,
        /// Group of the VM.
        vm: GroupId,
    },
    /// The pages lie (partly) outside the VM's memory.
    #[error("the pages lie outside the VM's memory")]
    OutOfRange,
    /// The VM has left the pmap.
    #[error("the VM has left the pmap")]
    Detached,
    /// The kernel refused the mapping.
    #[error("the kernel refused the mapping (error {0})")]
    Kernel(i32),
}
