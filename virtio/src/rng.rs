//! virtio-entropy (virtio 1.2, clause 5.4): random bytes of the host's, so that a guest that has
//! just booted need not wait for its own.

use crate::device::{Completed, Device, DeviceError};
use crate::queue::{self, Chain};
use mirrorball_pmap::Access;
use rustix::rand::{GetRandomFlags, getrandom};
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;

/// requestq (clause 5.4.2).
const QUEUE_SIZES: [u16; 1] = [64];
/// Most bytes for one chain; a driver that wants more asks again.
const MAX_BYTES: usize = 4096;

/// One guest's source of randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rng;

impl Rng {
    /// A source that draws on the kernel's.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

/// Fills a chain's start with random bytes; answers how many.
fn fill(chain: &Chain, memory: &GuestMemoryMmap) -> Result<u32, DeviceError> {
    let head = chain.head;
    let bad = |reason| DeviceError::Request { head, reason };
    let room = usize::try_from(chain.writable.bytes()).unwrap_or(usize::MAX);
    if room == 0 {
        return Err(bad("no room for random bytes"));
    }
    let mut bytes = [0; MAX_BYTES];
    let wanted = &mut bytes[..room.min(MAX_BYTES)];
    // Up to 256 bytes come whole; more may be cut short by a signal.
    let got = loop {
        match getrandom(&mut *wanted, GetRandomFlags::empty()) {
            Ok(got) => break got,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Err(bad("the host has no randomness")),
        }
    };
    let written = chain
        .writable
        .write(memory, &wanted[..got])
        .map_err(virtio_queue::Error::GuestMemory)?;
    Ok(u32::try_from(written).unwrap_or(0))
}

impl Device for Rng {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, _offset: u64, _data: &mut [u8]) {}

    fn process(
        &self,
        _queue: usize,
        ring: &mut Queue,
        access: &Access<'_>,
    ) -> Result<Completed, DeviceError> {
        let memory = access.memory();
        queue::drain(ring, memory, |chain| fill(&chain, memory))
    }

    fn reset(&self) {}
}
