//! A virtqueue and a register window with nothing in the way: every field can be given any value.
//!
//! Deliberately not the driver's code, which refuses to build what an attack needs. Layouts are
//! those of virtio 1.2, clauses 2.7 (split virtqueues) and 4.2.2 (MMIO registers).

use crate::hash::Random;
use crate::memory::Region;
use crate::shared::usize_of;
use core::ptr::with_exposed_provenance_mut;
use mirrorball_abi::Device;
use mirrorball_abi::layout::PAGE_SIZE;

/// The buffer is followed by another.
pub const NEXT: u16 = 1;
/// The device may write the buffer.
pub const WRITE: u16 = 2;
/// The buffer is a table of descriptors.
pub const INDIRECT: u16 = 4;

/// Descriptors of a full-size queue.
pub const QUEUE_SIZE: u16 = 16;

const STATUS: u64 = 0x70;
const DRIVER_FEATURES: u64 = 0x20;
const DRIVER_FEATURES_SELECT: u64 = 0x24;
const QUEUE_SELECT: u64 = 0x30;
const QUEUE_NUMBER: u64 = 0x38;
const QUEUE_READY: u64 = 0x44;
const QUEUE_NOTIFY: u64 = 0x50;
const QUEUE_ADDRESSES: [u64; 3] = [0x80, 0x90, 0xa0];

const ACKNOWLEDGED_DRIVER: u32 = 3;
const FEATURES_OK: u32 = 8;
const DRIVER_OK: u32 = 4;
/// `VIRTIO_F_INDIRECT_DESC`, in the low word of the features.
const FEATURE_INDIRECT: u32 = 1 << 28;
/// `VIRTIO_F_VERSION_1`, in the high word of the features.
const FEATURE_VERSION_1: u32 = 1;

/// A device's register window.
#[derive(Clone, Copy, Debug)]
pub struct Registers(pub Device);

impl Registers {
    /// Writes a value of 1, 2, 4 or 8 bytes anywhere in the window.
    pub fn write(self, offset: u64, size: usize, value: u64) {
        let address = usize_of(self.0.address + offset % mirrorball_abi::layout::MMIO_STRIDE);
        let bytes = value.to_le_bytes();
        // SAFETY: the window is emulated: a write there changes no memory of the guest but what the
        // device was told to write, which is the point of this workload.
        unsafe {
            match size {
                1 => with_exposed_provenance_mut::<u8>(address).write_volatile(bytes[0]),
                2 => with_exposed_provenance_mut::<u16>(address & !1)
                    .write_volatile(u16::from_le_bytes([bytes[0], bytes[1]])),
                4 => with_exposed_provenance_mut::<u32>(address & !3).write_volatile(low(value)),
                _ => with_exposed_provenance_mut::<u64>(address & !7).write_volatile(value),
            }
        }
    }

    /// Reads 4 bytes anywhere in the window.
    pub fn read(self, offset: u64) -> u32 {
        let address = usize_of(self.0.address + offset % mirrorball_abi::layout::MMIO_STRIDE) & !3;
        // SAFETY: as for writing.
        unsafe { with_exposed_provenance_mut::<u32>(address).read_volatile() }
    }

    fn set(self, offset: u64, value: u32) {
        self.write(offset, 4, u64::from(value));
    }

    /// Resets the device.
    pub fn reset(self) {
        self.set(STATUS, 0);
    }

    /// Rings a doorbell.
    pub fn notify(self, value: u32) {
        self.set(QUEUE_NOTIFY, value);
    }

    /// Takes the device through the steps of its initialisation with one queue at these addresses.
    pub fn bring_up(self, queue: u32, size: u32, addresses: [u64; 3]) {
        self.reset();
        self.set(STATUS, ACKNOWLEDGED_DRIVER);
        self.set(DRIVER_FEATURES_SELECT, 0);
        self.set(DRIVER_FEATURES, FEATURE_INDIRECT);
        self.set(DRIVER_FEATURES_SELECT, 1);
        self.set(DRIVER_FEATURES, FEATURE_VERSION_1);
        self.set(STATUS, ACKNOWLEDGED_DRIVER | FEATURES_OK);
        self.set(QUEUE_SELECT, queue);
        self.set(QUEUE_NUMBER, size);
        for (offset, address) in QUEUE_ADDRESSES.into_iter().zip(addresses) {
            self.set(offset, low(address));
            self.set(offset + 4, low(address >> 32));
        }
        self.set(QUEUE_READY, 1);
        self.set(STATUS, ACKNOWLEDGED_DRIVER | FEATURES_OK | DRIVER_OK);
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the low half is what is asked for"
)]
const fn low(value: u64) -> u32 {
    value as u32
}

/// A descriptor, as the device reads it.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// Guest-physical address.
    pub address: u64,
    /// Length in bytes.
    pub length: u32,
    /// [`NEXT`], [`WRITE`], [`INDIRECT`].
    pub flags: u16,
    /// Index of the next one.
    pub next: u16,
}

/// Memory for one queue: a page each for descriptors, available ring, used ring, request and data.
#[derive(Debug)]
pub struct Ring {
    memory: Region,
}

impl Ring {
    /// A queue of zeros.
    pub fn new() -> Option<Self> {
        let ring = Self {
            memory: Region::new(6)?,
        };
        ring.clear();
        Some(ring)
    }

    /// Makes everything zero again.
    pub fn clear(&self) {
        self.memory
            .words()
            .iter()
            .for_each(|word| word.store(0, core::sync::atomic::Ordering::Relaxed));
    }

    /// Address of a page of the ring: 0 descriptors, 1 available, 2 used, 3 request, 4 data, 5 indirect.
    pub fn page(&self, index: usize) -> u64 {
        (self.memory.address() + index * PAGE_SIZE) as u64
    }

    /// The three addresses that a well-behaved driver would give.
    pub fn addresses(&self) -> [u64; 3] {
        [self.page(0), self.page(1), self.page(2)]
    }

    /// Writes bytes at an offset into the ring's memory; what does not fit is left out.
    pub fn poke(&self, offset: usize, bytes: &[u8]) {
        for (at, byte) in (offset..self.memory.pages() * PAGE_SIZE).zip(bytes) {
            // SAFETY: inside of the ring's own memory, which the guest uses only through here.
            unsafe {
                with_exposed_provenance_mut::<u8>(self.memory.address() + at).write_volatile(*byte)
            };
        }
    }

    /// Writes a descriptor into the table in page `page`.
    pub fn describe(&self, page: usize, index: u16, descriptor: Descriptor) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&descriptor.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&descriptor.length.to_le_bytes());
        bytes[12..14].copy_from_slice(&descriptor.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&descriptor.next.to_le_bytes());
        self.poke(page * PAGE_SIZE + usize::from(index) * 16, &bytes);
    }

    /// Makes the chain at `head` available, as entry `entry`, and says that `index` entries are.
    pub fn offer(&self, entry: u16, head: u16, index: u16) {
        self.poke(PAGE_SIZE + 4 + usize::from(entry) * 2, &head.to_le_bytes());
        self.poke(PAGE_SIZE + 2, &index.to_le_bytes());
    }

    /// Writes a block request's header (clause 5.2.6).
    pub fn request(&self, kind: u32, sector: u64) {
        self.poke(3 * PAGE_SIZE, &kind.to_le_bytes());
        self.poke(3 * PAGE_SIZE + 8, &sector.to_le_bytes());
    }

    /// The usual three buffers of a block read: header, data, status.
    pub fn block_read(&self, sector: u64, length: u32) {
        self.request(0, sector);
        self.describe(
            0,
            0,
            Descriptor {
                address: self.page(3),
                length: 16,
                flags: NEXT,
                next: 1,
            },
        );
        self.describe(
            0,
            1,
            Descriptor {
                address: self.page(4),
                length,
                flags: NEXT | WRITE,
                next: 2,
            },
        );
        self.describe(
            0,
            2,
            Descriptor {
                address: self.page(3) + 64,
                length: 1,
                flags: WRITE,
                next: 0,
            },
        );
        self.offer(0, 0, 1);
    }

    /// Fills the descriptor table, the indirect table and the available ring with noise.
    pub fn noise(&self, random: &mut Random) {
        for page in [0, 1, 5] {
            for at in (0..PAGE_SIZE).step_by(8) {
                self.poke(page * PAGE_SIZE + at, &random.next().to_le_bytes());
            }
        }
    }
}
