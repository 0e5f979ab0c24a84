//! The driver's side: just enough of a guest to set a device up and give it requests.

use mirrorball_pmap::{AddressSpace, GroupId, Pmap, PmapConfig, VmId};
use mirrorball_virtio::{
    BaseImage, BlockCache, BlockDevice, Device, DeviceError, Disk, OverlayMode, Transport,
};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::NamedTempFile;
use vm_memory::{Bytes, GuestAddress};

pub const PAGE: u64 = 4096;
/// Descriptor table, available and used ring of queue 0; each further queue 4 pages on.
pub const TABLE: u64 = 0x1000;
pub const AVAIL: u64 = 0x2000;
pub const USED: u64 = 0x3000;
/// Where requests' headers and status bytes go.
pub const HEADERS: u64 = 0x9000;
pub const STATUSES: u64 = 0xa000;
/// First address that tests may use for data.
pub const DATA: u64 = 0x10_000;
/// Guest memory of every test guest.
pub const MEMORY: u64 = 2 << 20;
/// VERSION_1.
pub const MODERN: u64 = 1 << 32;
/// EVENT_IDX.
pub const EVENT_IDX: u64 = 1 << 29;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// One pmap and one cache, as one machine has them.
pub struct Machine {
    pub pmap: Arc<Pmap>,
    pub cache: Arc<BlockCache>,
}

impl Machine {
    /// Blocks are mapped as they are read.
    pub fn new() -> Self {
        Self::of(BlockCache::new)
    }

    pub fn of(cache: impl FnOnce(Arc<Pmap>) -> BlockCache) -> Self {
        let config = PmapConfig {
            frame_capacity: 256 << 20,
            ..PmapConfig::default()
        };
        let pmap = Pmap::new(&config).unwrap();
        let cache = Arc::new(cache(Arc::clone(&pmap)));
        Self { pmap, cache }
    }

    pub fn disk(&self, image: &Arc<BaseImage>, mode: OverlayMode, scratch: u64) -> Disk {
        let cache = Arc::clone(&self.cache);
        Disk::new(Arc::clone(image), cache, GroupId(0), mode, scratch).unwrap()
    }

    /// A running guest with a disk over `image`.
    pub fn guest(&self, vm: u32, image: &Arc<BaseImage>) -> (Guest, Arc<BlockDevice>) {
        let disk = self.disk(image, OverlayMode::Nonpersistent, 0);
        self.guest_of(vm, disk)
    }

    pub fn guest_of(&self, vm: u32, disk: Disk) -> (Guest, Arc<BlockDevice>) {
        let block = Arc::new(BlockDevice::new(disk, "serial"));
        let guest = Guest::new(&self.pmap, vm, Arc::clone(&block) as Arc<dyn Device>);
        guest.start(MODERN, 16);
        (guest, block)
    }
}

/// A file with these bytes.
pub fn file(content: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file.flush().unwrap();
    file
}

pub fn open(path: &Path) -> Arc<BaseImage> {
    BaseImage::open(path).unwrap()
}

/// Bytes that differ from block to block.
pub fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|i| u8::try_from((i / 4096 * 31 + i) % 251).unwrap())
        .collect()
}

/// One descriptor: address, length, flags, next.
#[derive(Clone, Copy, Debug)]
pub struct Desc(pub u64, pub u32, pub u16, pub u16);

impl Desc {
    pub fn bytes(self) -> [u8; 16] {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&self.0.to_le_bytes());
        raw[8..12].copy_from_slice(&self.1.to_le_bytes());
        raw[12..14].copy_from_slice(&self.2.to_le_bytes());
        raw[14..].copy_from_slice(&self.3.to_le_bytes());
        raw
    }
}

/// A guest with one device.
pub struct Guest {
    pub space: Arc<AddressSpace>,
    pub transport: Arc<Transport>,
    pub interrupts: Arc<AtomicU64>,
}

impl Guest {
    pub fn new(pmap: &Arc<Pmap>, vm: u32, device: Arc<dyn Device>) -> Self {
        let space = pmap.create_space(VmId(vm), GroupId(0), MEMORY).unwrap();
        Self::with_space(space, device)
    }

    /// A guest with this memory.
    pub fn with_space(space: Arc<AddressSpace>, device: Arc<dyn Device>) -> Self {
        let interrupts = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&interrupts);
        let interrupt = Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let transport = Transport::new(Arc::clone(&space), device, interrupt).unwrap();
        Self {
            space,
            transport,
            interrupts,
        }
    }

    pub fn set(&self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    pub fn get(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.transport.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// Negotiates and sets every queue up with `size` descriptors.
    pub fn start(&self, features: u64, size: u32) {
        self.set(0x70, 0);
        self.set(0x70, 1);
        self.set(0x70, 3);
        for half in 0..2 {
            self.set(0x24, half);
            self.set(
                0x20,
                (features >> (32 * half) & 0xffff_ffff).try_into().unwrap(),
            );
        }
        self.set(0x70, 11);
        for queue in 0..u32::try_from(self.transport.doorbells().len()).unwrap() {
            let base = queue * 0x4000;
            self.set(0x30, queue);
            self.set(0x38, size);
            for (register, address) in [(0x80, TABLE), (0x90, AVAIL), (0xa0, USED)] {
                self.set(register, u32::try_from(address).unwrap() + base);
                self.set(register + 4, 0);
            }
            self.set(0x44, 1);
        }
        self.set(0x70, 15);
    }

    pub fn write(&self, address: u64, data: &[u8]) {
        self.space
            .access()
            .memory()
            .write_slice(data, GuestAddress(address))
            .unwrap();
    }

    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.space
            .access()
            .memory()
            .read_slice(&mut data, GuestAddress(address))
            .unwrap();
        data
    }

    pub fn word(&self, address: u64) -> u16 {
        u16::from_le_bytes(self.read(address, 2).try_into().unwrap())
    }

    pub fn set_word(&self, address: u64, value: u16) {
        self.write(address, &value.to_le_bytes());
    }

    /// Writes descriptors from table index `first` on.
    pub fn describe(&self, first: u16, descriptors: &[Desc]) {
        for (index, descriptor) in (u64::from(first)..).zip(descriptors) {
            self.write(TABLE + 16 * index, &descriptor.bytes());
        }
    }

    /// Makes the chain at `head` available in queue `queue`.
    pub fn offer_in(&self, queue: u64, head: u16) {
        let avail = AVAIL + 0x4000 * queue;
        let index = self.word(avail + 2);
        self.set_word(avail + 4 + 2 * u64::from(index % 16), head);
        self.set_word(avail + 2, index.wrapping_add(1));
    }

    pub fn offer(&self, head: u16) {
        self.offer_in(0, head);
    }

    /// What a worker does when the doorbell fired.
    pub fn kick(&self) -> Result<(), DeviceError> {
        self.transport.process(0)
    }

    /// All used entries of queue 0 so far: head and length.
    pub fn used(&self) -> Vec<(u32, u32)> {
        let word = |at: u64| u32::from_le_bytes(self.read(at, 4).try_into().unwrap());
        (0..u64::from(self.word(USED + 2)))
            .map(|i| (word(USED + 4 + 8 * (i % 16)), word(USED + 8 + 8 * (i % 16))))
            .collect()
    }

    /// One block request through the ring; answers its status and used length.
    pub fn request(&self, kind: u32, sector: u64, data: &[(u64, u32)]) -> (u8, u32) {
        self.try_request(kind, sector, data).unwrap()
    }

    pub fn try_request(
        &self,
        kind: u32,
        sector: u64,
        data: &[(u64, u32)],
    ) -> Result<(u8, u32), DeviceError> {
        let mut header = Vec::from(kind.to_le_bytes());
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        self.write(HEADERS, &header);
        self.write(STATUSES, &[0xee]);
        // IN and GET_ID have their data written by the device.
        let flags = if kind == 0 || kind == 8 {
            NEXT | WRITE
        } else {
            NEXT
        };
        let mut chain = vec![Desc(HEADERS, 16, NEXT, 1)];
        for (index, &(address, len)) in (2..).zip(data) {
            chain.push(Desc(address, len, flags, index));
        }
        chain.push(Desc(STATUSES, 1, WRITE, 0));
        self.describe(0, &chain);
        self.offer(0);
        self.kick()?;
        let (head, len) = *self.used().last().unwrap();
        assert_eq!(head, 0);
        Ok((self.read(STATUSES, 1)[0], len))
    }
}

pub const IN: u32 = 0;
pub const OUT: u32 = 1;
pub const FLUSH: u32 = 4;
pub const GET_ID: u32 = 8;
pub const DISCARD: u32 = 11;
pub const WRITE_ZEROES: u32 = 13;
