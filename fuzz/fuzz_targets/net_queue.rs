//! A hostile driver before a network device, on a switch with two others: packets of any form and in
//! any name, buffers, rings and registers in any order, pages that are frames and pages that are not.
//!
//! After each input the bystander's memory must be as it was but for what was sent to it, packets
//! must bear the sender's own address, the books must be the kernel's, the device must work again after
//! a reset, and nothing may be left of the frames.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mirrorball_pmap::{
    AddressSpace, GroupId, Mechanism, PAGE_BYTES, Pmap, PmapConfig, Ppn, PpnRun, VmId,
};
use mirrorball_virtio::{Device, NetConfig, NetDevice, Transfer, Transport};
use mirrorball_vnet::{Mac, Network, NetworkConfig, Offload, Packet, Piece, Port, PortConfig};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use vm_memory::{Bytes, GuestAddress};

/// Guest memory: small, so that addresses collide.
const PAGES: u32 = 64;
const MEMORY: u64 = PAGES as u64 * PAGE_BYTES;
/// Rings of the receive queue; those of the transmit queue a page on.
const TABLE: u64 = 0x1000;
const AVAIL: u64 = 0x1800;
const USED: u64 = 0x1c00;
/// Headers of well-formed packets.
const HEADERS: u64 = 0x8000;
/// Where the bystander's one receive buffer is, and what all else of its memory holds.
const ROOM: u64 = 32 * PAGE_BYTES;
const BYSTANDER: u8 = 0x77;

#[derive(Arbitrary, Debug)]
enum Step {
    /// A packet in parts, with any headers.
    Send {
        device: [u8; 12],
        to: u8,
        from: u8,
        parts: Vec<(u8, u16, u16)>,
    },
    /// TCP over IPv4 that stands for segments of `size` bytes, nearly right.
    Long {
        to: u8,
        size: u16,
        bytes: u16,
        at: u8,
        wrong: u8,
    },
    /// A receive buffer in parts.
    Post {
        parts: Vec<(u8, u16, u16)>,
    },
    /// A raw descriptor, offered.
    Buffer {
        queue: u8,
        address: u64,
        len: u32,
        flags: u8,
    },
    /// Bytes anywhere in guest memory.
    Memory {
        at: u32,
        bytes: Vec<u8>,
    },
    /// An entry of an available ring, and how far the index moves.
    Offer {
        queue: u8,
        head: u16,
        ahead: u16,
    },
    /// An access of any size anywhere in the window.
    Access {
        offset: u64,
        len: u8,
        value: u64,
    },
    /// A worker's round.
    Process {
        queue: u8,
    },
    /// Frames over pages of the guest.
    Map {
        at: u8,
        pages: u8,
    },
    /// Somebody sends to the guest, or to all.
    Arrive {
        bytes: u16,
        pages: u8,
        all: bool,
        checksum: Option<(u16, u16)>,
    },
    /// The cable.
    Link {
        up: bool,
    },
    Settle,
    /// A proper start with these features.
    Start {
        features: u8,
    },
}

struct Machine {
    pmap: Arc<Pmap>,
    next: AtomicU32,
}

static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
    let config = PmapConfig {
        frame_capacity: 64 << 20,
        ..PmapConfig::default()
    };
    Machine {
        pmap: Pmap::new(&config).unwrap(),
        next: AtomicU32::new(0),
    }
});

/// A guest with a network device.
struct Station {
    space: Arc<AddressSpace>,
    device: Arc<NetDevice>,
    transport: Arc<Transport>,
}

impl Station {
    fn new(machine: &Machine, network: &Arc<Network>, mac: Mac, transfer: Transfer) -> Self {
        let vm = VmId(machine.next.fetch_add(1, Ordering::Relaxed));
        let space = machine.pmap.create_space(vm, GroupId(0), MEMORY).unwrap();
        space.expect_lending();
        let config = NetConfig {
            port: PortConfig::station(mac),
            mtu: 1500,
            transfer,
            pairs: 2,
        };
        let device = Arc::new(NetDevice::new(network, config).unwrap());
        let shown = Arc::clone(&device) as Arc<dyn Device>;
        let transport = Transport::new(Arc::clone(&space), shown, Arc::new(|| {})).unwrap();
        Self {
            space,
            device,
            transport,
        }
    }

    fn start(&self, features: u32) {
        let set = |offset: u64, value: u32| self.transport.write(offset, &value.to_le_bytes());
        for (register, value) in [
            (0x70, 0),
            (0x70, 3),
            (0x24, 1),
            // With segments of UDP where those of TCP are taken.
            (0x20, 1 | (features >> 7 & 1) * 0x01c0_0000),
            (0x24, 0),
            (0x20, features),
            (0x70, 11),
        ] {
            set(register, value);
        }
        for queue in 0..5 {
            let base = u64::from(queue) * PAGE_BYTES;
            self.write(AVAIL + base, &[0; 4]);
            self.write(USED + base, &[0; 4]);
            set(0x30, queue);
            set(0x38, 16);
            for (register, address) in [(0x80, TABLE), (0x90, AVAIL), (0xa0, USED)] {
                set(register, (address + base) as u32);
                set(register + 4, 0);
            }
            set(0x44, 1);
        }
        set(0x70, 15);
    }

    /// Writes what fits into guest memory.
    fn write(&self, at: u64, bytes: &[u8]) {
        let access = self.space.access();
        let _ = access.memory().write(bytes, GuestAddress(at % MEMORY));
    }

    fn offer(&self, queue: u64, head: u16, ahead: u16) {
        let avail = AVAIL + queue * PAGE_BYTES;
        let mut index = [0; 2];
        let access = self.space.access();
        let _ = access.memory().read(&mut index, GuestAddress(avail + 2));
        drop(access);
        let index = u16::from_le_bytes(index);
        self.write(avail + 4 + 2 * u64::from(index % 16), &head.to_le_bytes());
        self.write(avail + 2, &index.wrapping_add(ahead).to_le_bytes());
    }

    /// A chain of these buffers in a queue, served.
    fn chain(&self, queue: u64, buffers: &[(u64, u32)], flags: u16) -> bool {
        for (index, (address, len)) in (0u16..).zip(buffers) {
            let more = usize::from(index) + 1 < buffers.len();
            let mut raw = [0; 16];
            raw[..8].copy_from_slice(&address.to_le_bytes());
            raw[8..12].copy_from_slice(&len.to_le_bytes());
            raw[12..14].copy_from_slice(&(flags | u16::from(more)).to_le_bytes());
            raw[14..].copy_from_slice(&(index + 1).to_le_bytes());
            self.write(TABLE + queue * PAGE_BYTES + 16 * u64::from(index), &raw);
        }
        self.offer(queue, 0, 1);
        let served = self.transport.process(queue as usize).is_ok();
        self.device.finish(queue as usize, &self.space);
        served
    }

    fn check_books(&self) {
        self.space.settle();
        let totals = self.space.totals();
        assert_eq!(totals.private, self.space.private_pages_now().unwrap());
        assert!(totals.touched <= totals.guest_physical);
    }
}

/// Buffers out of a fuzzer's numbers: whole pages more often than odd places.
fn buffers(parts: &[(u8, u16, u16)]) -> Vec<(u64, u32)> {
    let place = |&(page, offset, len): &(u8, u16, u16)| {
        let at = u64::from(u32::from(page) % PAGES) * PAGE_BYTES;
        match offset & 0xc000 {
            0xc000 => (at + u64::from(offset & 0xfff), u32::from(len)),
            _ => (at, u32::from(len % 9) * 4096),
        }
    };
    parts.iter().take(12).map(place).collect()
}

struct World {
    attacker: Station,
    bystander: Station,
    /// Somebody who sends and listens.
    third: Port,
    own: Mac,
}

impl World {
    fn new(machine: &Machine, transfer: Transfer) -> Self {
        let network = Network::new("lan", &NetworkConfig::default());
        let own = Mac::numbered(1);
        let bystander = Station::new(machine, &network, Mac::numbered(2), transfer);
        bystander.write(0, &vec![BYSTANDER; MEMORY as usize]);
        bystander.start(1 << 15);
        // A page for the headers, so that pages of a packet can fall on pages.
        bystander.chain(0, &[(ROOM + 4096 - 26, 26), (ROOM + 4096, 15 * 4096)], 2);
        let config = PortConfig::station(Mac::numbered(3));
        Self {
            attacker: Station::new(machine, &network, own, transfer),
            bystander,
            third: network.attach(config, || {}).unwrap(),
            own,
        }
    }

    fn mac(&self, number: u8) -> Mac {
        match number & 7 {
            0..=3 => Mac::numbered((number & 3).into()),
            4 => Mac::BROADCAST,
            5 => Mac([0; 6]),
            6 => Mac([1, 0, 0x5e, 0, 0, number]),
            _ => Mac([2, 0, 0, 0, 0, number]),
        }
    }

    fn step(&self, step: Step, machine: &Machine) {
        let guest = &self.attacker;
        match step {
            Step::Send {
                device,
                to,
                from,
                parts,
            } => {
                let from = if from < 128 { self.own } else { self.mac(from) };
                let header = [&device[..], &self.mac(to).0, &from.0, &[0x88, 0xb5]].concat();
                guest.write(HEADERS, &header);
                let mut all = vec![(HEADERS, 26)];
                all.extend(buffers(&parts));
                guest.chain(1, &all, 0);
            }
            Step::Long {
                to,
                size,
                bytes,
                at,
                wrong,
            } => {
                let mut header = vec![1, 1, 54, 0];
                header.extend(size.to_le_bytes());
                header.extend([34, 0, 16, 0, 0, 0]);
                header.extend([&self.mac(to).0[..], &self.own.0, &[8, 0, 0x45, 0, 0, 0]].concat());
                header.extend([0, 1, 0, 0, 64, 6, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2]);
                header.extend([0, 7, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x19, 1, 0, 0, 0, 0, 0]);
                if let Some(byte) = header.get_mut(usize::from(at)) {
                    *byte ^= wrong;
                }
                guest.write(HEADERS, &header);
                let rest = u32::from(bytes).max(1);
                guest.chain(1, &[(HEADERS, 66), (ROOM, rest)], 0);
            }
            Step::Post { parts } if parts.is_empty() => {}
            Step::Post { parts } => drop(guest.chain(0, &buffers(&parts), 2)),
            Step::Buffer {
                queue,
                address,
                len,
                flags,
            } => drop(guest.chain(u64::from(queue % 5), &[(address, len)], (flags & 7).into())),
            Step::Memory { at, bytes } => guest.write(at.into(), &bytes),
            Step::Offer { queue, head, ahead } => guest.offer(u64::from(queue % 5), head, ahead),
            Step::Access { offset, len, value } => {
                let mut data = value.to_le_bytes()[..usize::from(len % 9)].to_vec();
                guest.transport.write(offset, &data);
                guest.transport.read(offset, &mut data);
            }
            Step::Process { queue } => {
                drop(guest.transport.process(usize::from(queue % 5)));
                guest.device.finish(usize::from(queue % 5), &guest.space);
            }
            Step::Map { at, pages } => {
                let pages = u32::from(pages % 8) + 1;
                let mut frames = machine.pmap.frames().allocate(pages, GroupId(0)).unwrap();
                frames.bytes_mut().fill(at);
                let frames = frames.publish();
                let at = Ppn(u32::from(at) % PAGES);
                let _ = guest
                    .space
                    .access()
                    .map_frames(at, &frames, Mechanism::Disk);
            }
            Step::Arrive {
                bytes,
                pages,
                all,
                checksum,
            } => self.arrive(machine, bytes, pages, all, checksum),
            Step::Link { up } => guest.device.set_link(up),
            Step::Settle => guest.space.settle(),
            Step::Start { features } => guest.start(
                u32::from(features & 3)
                    | u32::from(features >> 2 & 1) << 15
                    | u32::from(features >> 3 & 3) << 28
                    | u32::from(features >> 5 & 1) * (1 << 17 | 1 << 22)
                    | u32::from(features >> 6 & 1) * 0x3b80,
            ),
        }
    }

    fn arrive(
        &self,
        machine: &Machine,
        bytes: u16,
        pages: u8,
        all: bool,
        checksum: Option<(u16, u16)>,
    ) {
        let to = if all { Mac::BROADCAST } else { self.own };
        let mut head = [&to.0[..], &self.third.mac().0, &[0x88, 0xb5]].concat();
        head.resize(14 + usize::from(bytes % 5000), 3);
        let mut pieces = vec![Piece::Bytes(head)];
        if pages % 9 > 0 {
            let frames = machine.pmap.frames();
            let mut frames = frames.allocate(u32::from(pages % 9), GroupId(0)).unwrap();
            frames.bytes_mut().fill(0x33);
            pieces.push(Piece::Frames(frames.publish()));
        }
        let offload = Offload {
            checksum: checksum.map(|(start, offset)| mirrorball_vnet::Checksum { start, offset }),
            segments: None,
        };
        self.third.send(Packet::new(pieces, offload).unwrap());
        drop(self.attacker.transport.process(0));
    }

    /// Whatever was before, the device works after a reset.
    fn check_life(&self) {
        let guest = &self.attacker;
        guest.device.set_link(true);
        guest.start(1 << 15);
        while self.third.receive().is_some() {}
        let header = [&[0; 12][..], &self.third.mac().0, &self.own.0, &[1, 2]].concat();
        guest.write(HEADERS, &header);
        assert!(guest.chain(1, &[(HEADERS, 26)], 0));
        let packet = self.third.receive().expect("a good packet arrives");
        assert_eq!((packet.bytes(), packet.source()), (14, self.own));
    }

    fn check_bystander(&self) {
        let _ = self.bystander.transport.process(0);
        let (room, end) = (ROOM / PAGE_BYTES, ROOM / PAGE_BYTES + 16);
        let mine = |page: &[u8; 4096]| page.iter().all(|&byte| byte == BYSTANDER);
        for ppn in PpnRun::new(Ppn(6), PAGES - 6).iter() {
            let inside = (room..end).contains(&u64::from(ppn.0));
            assert!(
                inside || self.bystander.space.with_page(ppn, mine),
                "{ppn:?}"
            );
        }
        while let Some(packet) = self.third.receive() {
            assert_eq!(packet.source(), self.own, "a forged packet arrived");
        }
    }
}

fuzz_target!(|input: (u8, Vec<Step>)| {
    let machine = &*MACHINE;
    let transfers = [Transfer::Always, Transfer::Never, Transfer::Cost];
    let world = World::new(machine, transfers[usize::from(input.0) % 3]);
    world.attacker.start(1 << 15);
    for step in input.1.into_iter().take(64) {
        world.step(step, machine);
    }
    world.check_bystander();
    for station in [&world.attacker, &world.bystander] {
        station.check_books();
    }
    world.check_life();
    let vms = [&world.attacker, &world.bystander].map(|station| station.space.vm());
    drop(world);
    vms.into_iter().for_each(|vm| machine.pmap.remove_space(vm));
    assert_eq!(machine.pmap.totals().frames, 0);
});
