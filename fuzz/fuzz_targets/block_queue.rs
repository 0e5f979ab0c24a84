//! A hostile driver before a block device: registers, rings and requests in any order.
//!
//! Raw bytes alone rarely make a ring that is worth reading, so the input is a list of steps:
//! well-formed requests, damage to memory, wild register accesses. After each input a witness of
//! another VM reads the whole image through the same frames, and the device must work again
//! after a reset.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mirrorball_pmap::{AddressSpace, GroupId, Pmap, PmapConfig, VmId};
use mirrorball_virtio::queue::{Buffer, Buffers};
use mirrorball_virtio::{BaseImage, BlockCache, BlockDevice, Device, Disk, OverlayMode, Transport};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use vm_memory::{Bytes, GuestAddress};

/// Guest memory: small, so that addresses collide.
const MEMORY: u64 = 32 * 4096;
const IMAGE: usize = 9 * 4096 + 1234;
const TABLE: u64 = 0x1000;
const AVAIL: u64 = 0x1800;
const USED: u64 = 0x1c00;
/// Headers, status bytes and indirect tables of well-formed requests.
const SCRATCH: u64 = 0x2000;

#[derive(Arbitrary, Debug)]
enum Step {
    /// A request with its data cut into buffers, perhaps through an indirect table.
    Request {
        kind: u8,
        sector: u8,
        data: Vec<(u16, u16)>,
        indirect: bool,
        writable: bool,
    },
    /// Bytes anywhere in guest memory.
    Memory { at: u32, bytes: Vec<u8> },
    /// One descriptor of the table.
    Descriptor {
        index: u8,
        address: u64,
        len: u32,
        flags: u8,
        next: u16,
    },
    /// An entry of the available ring, and how far the index moves.
    Offer { head: u16, ahead: u16 },
    /// A 32-bit register.
    Register { register: u8, value: u32 },
    /// An access of any size anywhere in the window.
    Access { offset: u64, len: u8, value: u64 },
    /// A worker's round.
    Process { queue: u8 },
    /// The host's switch.
    Sharing { on: bool },
    /// A proper start.
    Start { event_idx: bool, size: u8 },
}

struct Machine {
    pmap: Arc<Pmap>,
    cache: Arc<BlockCache>,
    image: Arc<BaseImage>,
    content: Vec<u8>,
    witness: Arc<AddressSpace>,
    next: AtomicU32,
}

static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
    let config = PmapConfig {
        frame_capacity: 64 << 20,
        ..PmapConfig::default()
    };
    let pmap = Pmap::new(&config).unwrap();
    let cache = Arc::new(BlockCache::new(Arc::clone(&pmap)));
    let content: Vec<u8> = (0..IMAGE)
        .map(|i| (i / 4096 * 37 + i % 255) as u8)
        .collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let image = BaseImage::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    let witness = pmap.create_space(VmId(0), GroupId(0), MEMORY).unwrap();
    Machine {
        pmap,
        cache,
        image,
        content,
        witness,
        next: AtomicU32::new(1),
    }
});

impl Machine {
    fn disk(&self) -> Disk {
        let (image, cache) = (Arc::clone(&self.image), Arc::clone(&self.cache));
        Disk::new(
            image,
            cache,
            GroupId(0),
            OverlayMode::Nonpersistent,
            2 * 4096,
        )
        .unwrap()
    }

    /// Reads the whole image as another guest would, and compares.
    fn witness(&self) {
        let disk = self.disk();
        let all = Buffer {
            address: 0x4000,
            len: IMAGE.next_multiple_of(4096) as u32,
        };
        let buffers: Buffers = [all].into_iter().collect();
        disk.read(0, &buffers, &self.witness.access(), true)
            .unwrap();
        let mut seen = vec![0; all.len as usize];
        buffers
            .read(self.witness.access().memory(), &mut seen)
            .unwrap();
        assert!(seen[..IMAGE] == self.content && seen[IMAGE..].iter().all(|&byte| byte == 0));
    }
}

struct Guest {
    space: Arc<AddressSpace>,
    block: Arc<BlockDevice>,
    transport: Arc<Transport>,
    size: u16,
}

impl Guest {
    fn new(machine: &Machine) -> Self {
        let vm = VmId(machine.next.fetch_add(1, Ordering::Relaxed));
        let space = machine.pmap.create_space(vm, GroupId(0), MEMORY).unwrap();
        let block = Arc::new(BlockDevice::new(machine.disk(), "fuzz"));
        let device = Arc::clone(&block) as Arc<dyn Device>;
        let transport = Transport::new(Arc::clone(&space), device, Arc::new(|| {})).unwrap();
        Self {
            space,
            block,
            transport,
            size: 16,
        }
    }

    fn set(&self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    fn start(&mut self, event_idx: bool, size: u8) {
        self.size = 1 << (size % 8);
        self.write(AVAIL, &[0; 4]);
        self.write(USED, &[0; 4]);
        for (register, value) in [
            (0x70, 0),
            (0x70, 3),
            (0x24, 1),
            (0x20, 1),
            (0x24, 0),
            (0x20, u32::from(event_idx) << 29),
            (0x70, 11),
            (0x30, 0),
            (0x38, u32::from(self.size)),
            (0x80, TABLE as u32),
            (0x84, 0),
            (0x90, AVAIL as u32),
            (0x94, 0),
            (0xa0, USED as u32),
            (0xa4, 0),
            (0x44, 1),
            (0x70, 15),
        ] {
            self.set(register, value);
        }
    }

    /// Writes what fits into guest memory.
    fn write(&self, at: u64, bytes: &[u8]) {
        let _ = self
            .space
            .access()
            .memory()
            .write(bytes, GuestAddress(at % MEMORY));
    }

    fn offer(&self, head: u16, ahead: u16) {
        let mut index = [0; 2];
        let _ = self
            .space
            .access()
            .memory()
            .read(&mut index, GuestAddress(AVAIL + 2));
        let index = u16::from_le_bytes(index);
        self.write(
            AVAIL + 4 + 2 * u64::from(index % self.size),
            &head.to_le_bytes(),
        );
        self.write(AVAIL + 2, &index.wrapping_add(ahead).to_le_bytes());
    }

    fn request(&self, kind: u8, sector: u8, data: &[(u16, u16)], indirect: bool, writable: bool) {
        let mut header = u32::from(kind % 16).to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(u64::from(sector).to_le_bytes());
        self.write(SCRATCH, &header);
        let most = if indirect {
            64
        } else {
            usize::from(self.size).saturating_sub(2)
        };
        let data = &data[..data.len().min(most)];
        let mut chain = vec![descriptor(SCRATCH, 16, 1, 1)];
        for (next, &(address, len)) in (2..).zip(data) {
            // Pages and sectors more often than odd places.
            let (address, len) = match address % 4 {
                0 => (
                    u64::from(address) / 4 % 32 * 4096,
                    u32::from(len % 4) * 4096,
                ),
                1 => (u64::from(address), u32::from(len % 32) * 512),
                _ => (u64::from(address), u32::from(len)),
            };
            chain.push(descriptor(address, len, 1 | u16::from(writable) * 2, next));
        }
        chain.push(descriptor(SCRATCH + 0x100, 1, 2, 0));
        let chain: Vec<u8> = chain.concat();
        if indirect {
            self.write(SCRATCH + 0x800, &chain);
            self.write(
                TABLE,
                &descriptor(SCRATCH + 0x800, chain.len() as u32, 4, 0),
            );
        } else {
            self.write(TABLE, &chain);
        }
        self.offer(0, 1);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Request {
                kind,
                sector,
                data,
                indirect,
                writable,
            } => {
                self.request(kind, sector, &data, indirect, writable);
                let _ = self.transport.process(0);
            }
            Step::Memory { at, bytes } => self.write(u64::from(at), &bytes),
            Step::Descriptor {
                index,
                address,
                len,
                flags,
                next,
            } => {
                let raw = descriptor(address, len, flags.into(), next);
                self.write(TABLE + 16 * u64::from(index % 128), &raw);
            }
            Step::Offer { head, ahead } => self.offer(head, ahead),
            Step::Register { register, value } => self.set(u64::from(register) * 4, value),
            Step::Access { offset, len, value } => {
                let mut data = value.to_le_bytes()[..usize::from(len % 9)].to_vec();
                self.transport.write(offset, &data);
                self.transport.read(offset, &mut data);
            }
            Step::Process { queue } => drop(self.transport.process(usize::from(queue % 3))),
            Step::Sharing { on } => self.block.set_sharing(on),
            Step::Start { event_idx, size } => self.start(event_idx, size),
        }
    }
}

fn descriptor(address: u64, len: u32, flags: u16, next: u16) -> [u8; 16] {
    let mut raw = [0; 16];
    raw[..8].copy_from_slice(&address.to_le_bytes());
    raw[8..12].copy_from_slice(&len.to_le_bytes());
    raw[12..14].copy_from_slice(&flags.to_le_bytes());
    raw[14..].copy_from_slice(&next.to_le_bytes());
    raw
}

fuzz_target!(|steps: Vec<Step>| {
    let machine = &*MACHINE;
    let mut guest = Guest::new(machine);
    guest.start(false, 4);
    for step in steps.into_iter().take(64) {
        guest.step(step);
    }
    guest.start(true, 4);
    guest.request(8, 0, &[(0x4004, 1)], false, true);
    guest.transport.process(0).unwrap();
    let mut status = [0xff];
    guest
        .space
        .access()
        .memory()
        .read_slice(&mut status, GuestAddress(SCRATCH + 0x100))
        .unwrap();
    assert_eq!(status, [0]);
    machine.pmap.remove_space(guest.space.vm());
    machine.witness();
});
