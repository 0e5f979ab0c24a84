//! Descriptor chains, read out of memory that a hostile guest controls.
//!
//! `virtio-queue` keeps the ring indices and the event indices; its chain iterator ends silently
//! at anything malformed, so the chains are walked here, where every fault has a name. Nothing in
//! this module knows what the buffers are for.

mod buffers;
mod chain;
mod setup;

pub use buffers::{Buffer, Buffers};
pub use chain::{Chain, ChainError};
pub use setup::{SetupError, check_rings};

use crate::device::{Completed, DeviceError};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;

/// Buffer bytes after which a round ends, so that one guest's huge requests can't hold a worker.
const ROUND_BYTES: u64 = 32 << 20;

/// Serves the chains that are available now, at most one queue's worth.
///
/// `serve` is given each chain and answers how many bytes it wrote to the chain's start.
///
/// # Errors
/// A malformed ring or chain, or what `serve` says.
pub fn drain(
    ring: &mut Queue,
    memory: &GuestMemoryMmap,
    mut serve: impl FnMut(Chain) -> Result<u32, DeviceError>,
) -> Result<Completed, DeviceError> {
    visit(
        ring,
        memory,
        || true,
        |ring, chain| {
            let head = chain.head;
            let written = serve(chain)?;
            ring.add_used(memory, head, written)?;
            Ok(1)
        },
    )
}

/// Takes the chains that are available now, at most one queue's worth, for as long as `wanted` says.
///
/// `serve` is given each chain, may give it back (or others that it kept) through the ring, and
/// answers how many it gave back. Chains left because they are not wanted stay available; the guest
/// may not ring again for them, but for those that it adds when there were too few it does.
///
/// # Errors
/// A malformed ring or chain, or what `serve` says.
pub fn visit(
    ring: &mut Queue,
    memory: &GuestMemoryMmap,
    wanted: impl Fn() -> bool,
    mut serve: impl FnMut(&mut Queue, Chain) -> Result<u32, DeviceError>,
) -> Result<Completed, DeviceError> {
    let mut completed = Completed::default();
    let (mut taken, mut bytes) = (0, 0);
    // A guest that moves the index back and forth could keep an unbounded loop here for ever.
    for _ in 0..ring.size() {
        ring.disable_notification(memory)?;
        loop {
            if !wanted() {
                return Ok(completed);
            }
            if taken >= ring.size() || bytes >= ROUND_BYTES {
                completed.more = true;
                return Ok(completed);
            }
            let Some(head) = pop(ring, memory)? else {
                break;
            };
            let chain = Chain::read(ring, memory, head)?;
            bytes += chain.readable.bytes() + chain.writable.bytes();
            taken += 1;
            completed.used += serve(ring, chain)?;
        }
        if !ring.enable_notification(memory)? {
            return Ok(completed);
        }
    }
    completed.more = true;
    Ok(completed)
}

/// Takes the next available chain's head, if there is one.
fn pop(ring: &mut Queue, memory: &GuestMemoryMmap) -> Result<Option<u16>, DeviceError> {
    let mut available = ring.iter(memory)?;
    Ok(available.next().map(|chain| chain.head_index()))
}
