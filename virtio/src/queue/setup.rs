//! Whether a queue's three parts are where a queue can be.

use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// What can be wrong with a queue's set-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The size is 0, no power of two, or above the device's maximum.
    #[error("queue size {size} (a power of two up to {most} is possible)")]
    Size {
        /// The size that the driver chose.
        size: u32,
        /// The largest possible one.
        most: u16,
    },
    /// A part is not aligned as virtio 1.2, clause 2.7 asks.
    #[error("{part} at {address:#x} is not aligned to {alignment} bytes")]
    Alignment {
        /// Which part.
        part: &'static str,
        /// Its guest-physical address.
        address: u64,
        /// What it must be a multiple of.
        alignment: u64,
    },
    /// A part lies outside guest memory, or at address 0.
    #[error("{part} ({bytes} bytes at {address:#x}) is not in guest memory")]
    Range {
        /// Which part.
        part: &'static str,
        /// Its guest-physical address.
        address: u64,
        /// Its size in bytes.
        bytes: usize,
    },
}

/// Checks that a queue's parts are aligned and lie in guest memory.
///
/// The available ring can't be at address 0: `virtio-queue` takes that for a queue never set up.
///
/// # Errors
/// The first part that is out of place.
pub fn check_rings(ring: &Queue, memory: &GuestMemoryMmap) -> Result<(), SetupError> {
    let entries = usize::from(ring.size());
    let parts = [
        ("descriptor table", ring.desc_table(), 16 * entries),
        ("available ring", ring.avail_ring(), 6 + 2 * entries),
        ("used ring", ring.used_ring(), 6 + 8 * entries),
    ];
    for (part, address, bytes) in parts {
        let lost = part == "available ring" && address == 0;
        if lost || !memory.check_range(GuestAddress(address), bytes) {
            return Err(SetupError::Range {
                part,
                address,
                bytes,
            });
        }
    }
    Ok(())
}
