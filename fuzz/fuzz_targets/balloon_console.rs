//! A hostile driver before a balloon and a console: page numbers, buffers, rings and registers in
//! any order, while the host sets targets and types.
//!
//! After each input the books must be the kernel's, the host's buffers bounded, the bystander's
//! memory as it was, and both devices must work again after a reset.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mirrorball_pmap::{
    AddressSpace, GroupId, Mechanism, PAGE_BYTES, Pmap, PmapConfig, Ppn, PpnRun, VmId,
};
use mirrorball_virtio::console::{MAX_INPUT, MAX_WAITING};
use mirrorball_virtio::{Balloon, Console, Device, Transport};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use vm_memory::{Bytes, GuestAddress};

/// Guest memory: small, so that addresses collide.
const PAGES: u32 = 64;
const MEMORY: u64 = PAGES as u64 * PAGE_BYTES;
/// Rings of queue 0; each further queue a page on.
const TABLE: u64 = 0x1000;
const AVAIL: u64 = 0x1800;
const USED: u64 = 0x1c00;
/// Page numbers and other words of well-formed requests.
const WORDS: u64 = 0x8000;
const BYSTANDER: u8 = 0x77;

#[derive(Arbitrary, Debug)]
enum Step {
    /// Page numbers for the balloon; most of them the guest's.
    Numbers {
        deflate: bool,
        numbers: Vec<u8>,
        wild: Option<u32>,
    },
    /// One buffer through a queue of either device.
    Buffer {
        console: bool,
        queue: u8,
        address: u32,
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
    /// A 32-bit register.
    Register {
        console: bool,
        register: u8,
        value: u32,
    },
    /// An access of any size anywhere in the window.
    Access {
        console: bool,
        offset: u64,
        len: u8,
        value: u64,
    },
    /// A worker's round.
    Process {
        console: bool,
        queue: u8,
    },
    /// Frames over pages of the guest.
    Map {
        at: u8,
        pages: u8,
    },
    /// The host's doings.
    Target {
        pages: u32,
    },
    Statistics,
    Type {
        bytes: Vec<u8>,
    },
    Settle,
    /// A proper start.
    Start {
        console: bool,
        event_idx: bool,
    },
}

struct Machine {
    pmap: Arc<Pmap>,
    bystander: Arc<AddressSpace>,
    next: AtomicU32,
}

static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
    let config = PmapConfig {
        frame_capacity: 64 << 20,
        ..PmapConfig::default()
    };
    let pmap = Pmap::new(&config).unwrap();
    let bystander = pmap.create_space(VmId(0), GroupId(0), MEMORY).unwrap();
    let bytes = vec![BYSTANDER; MEMORY as usize];
    bystander
        .access()
        .memory()
        .write_slice(&bytes, GuestAddress(0))
        .unwrap();
    bystander.settle();
    Machine {
        pmap,
        bystander,
        next: AtomicU32::new(1),
    }
});

struct Guest {
    space: Arc<AddressSpace>,
    balloon: Arc<Balloon>,
    console: Arc<Console>,
    transports: [Arc<Transport>; 2],
}

impl Guest {
    fn new(machine: &Machine) -> Self {
        let vm = VmId(machine.next.fetch_add(1, Ordering::Relaxed));
        let space = machine.pmap.create_space(vm, GroupId(0), MEMORY).unwrap();
        let balloon = Arc::new(Balloon::new(&space));
        let console = Arc::new(Console::new(64).with_lines());
        let transport = |device: Arc<dyn Device>| {
            Transport::new(Arc::clone(&space), device, Arc::new(|| {})).unwrap()
        };
        let transports = [transport(balloon.clone()), transport(console.clone())];
        Self {
            space,
            balloon,
            console,
            transports,
        }
    }

    fn transport(&self, console: bool) -> &Transport {
        &self.transports[usize::from(console)]
    }

    /// Both devices' rings lie in the same place: what one writes confuses the other.
    fn start(&self, console: bool, event_idx: bool) {
        let transport = self.transport(console);
        let set = |offset: u64, value: u32| transport.write(offset, &value.to_le_bytes());
        for (register, value) in [
            (0x70, 0),
            (0x70, 3),
            (0x24, 1),
            (0x20, 1),
            (0x24, 0),
            (0x20, u32::from(event_idx) << 29),
            (0x70, 11),
        ] {
            set(register, value);
        }
        for queue in 0..transport.doorbells().len() as u32 {
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
        let _ = self
            .space
            .access()
            .memory()
            .write(bytes, GuestAddress(at % MEMORY));
    }

    fn offer(&self, queue: u64, head: u16, ahead: u16) {
        let avail = AVAIL + queue * PAGE_BYTES;
        let mut index = [0; 2];
        let _ = self
            .space
            .access()
            .memory()
            .read(&mut index, GuestAddress(avail + 2));
        let index = u16::from_le_bytes(index);
        self.write(avail + 4 + 2 * u64::from(index % 16), &head.to_le_bytes());
        self.write(avail + 2, &index.wrapping_add(ahead).to_le_bytes());
    }

    fn buffer(&self, console: bool, queue: u64, address: u64, len: u32, flags: u16) -> bool {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&address.to_le_bytes());
        raw[8..12].copy_from_slice(&len.to_le_bytes());
        raw[12..14].copy_from_slice(&flags.to_le_bytes());
        self.write(TABLE + queue * PAGE_BYTES, &raw);
        self.offer(queue, 0, 1);
        self.transport(console).process(queue as usize).is_ok()
    }

    fn numbers(&self, deflate: bool, numbers: &[u32]) -> bool {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.write(WORDS, &bytes);
        self.buffer(false, deflate.into(), WORDS, bytes.len() as u32, 0)
    }

    fn step(&self, step: Step, machine: &Machine) {
        match step {
            Step::Numbers {
                deflate,
                numbers,
                wild,
            } => {
                let inside = numbers.iter().map(|&n| u32::from(n) % (PAGES + 2));
                let numbers: Vec<u32> = inside.chain(wild).collect();
                self.numbers(deflate, &numbers);
            }
            Step::Buffer {
                console,
                queue,
                address,
                len,
                flags,
            } => {
                // Pages of the guest more often than odd places.
                let (address, len) = match flags & 0xc0 {
                    0 => (u64::from(address % PAGES) * PAGE_BYTES, len % 0x8000),
                    0x40 => (u64::from(address) % MEMORY, len % 0x3000),
                    _ => (address.into(), len),
                };
                self.buffer(
                    console,
                    u64::from(queue % 5),
                    address,
                    len,
                    (flags & 7).into(),
                );
            }
            Step::Memory { at, bytes } => self.write(at.into(), &bytes),
            Step::Offer { queue, head, ahead } => self.offer(u64::from(queue % 5), head, ahead),
            Step::Register {
                console,
                register,
                value,
            } => self
                .transport(console)
                .write(u64::from(register) * 4, &value.to_le_bytes()),
            Step::Access {
                console,
                offset,
                len,
                value,
            } => {
                let mut data = value.to_le_bytes()[..usize::from(len % 9)].to_vec();
                self.transport(console).write(offset, &data);
                self.transport(console).read(offset, &mut data);
            }
            Step::Process { console, queue } => {
                drop(self.transport(console).process(usize::from(queue % 6)));
            }
            Step::Map { at, pages } => {
                let pages = u32::from(pages % 8) + 1;
                let mut frames = machine.pmap.frames().allocate(pages, GroupId(0)).unwrap();
                frames.bytes_mut().fill(at);
                let frames = frames.publish();
                let at = Ppn(u32::from(at) % PAGES);
                let _ = self.space.access().map_frames(at, &frames, Mechanism::Disk);
            }
            Step::Target { pages } => self.balloon.set_target(pages),
            Step::Statistics => self.balloon.request_statistics(),
            Step::Type { bytes } => drop(self.console.send(&bytes)),
            Step::Settle => self.space.settle(),
            Step::Start { console, event_idx } => self.start(console, event_idx),
        }
    }

    fn check_books(&self) {
        self.space.settle();
        let totals = self.space.totals();
        assert_eq!(totals.private, self.space.private_pages_now().unwrap());
        assert!(totals.touched + totals.ballooned <= totals.guest_physical);
        let waiting: usize = self.console.take_lines().iter().map(String::len).sum();
        // What is not UTF-8 grows threefold when it is shown.
        assert!(waiting <= 3 * MAX_WAITING);
    }

    /// Both devices do their work after a reset, whatever was before.
    fn check_life(&self) {
        self.start(false, true);
        let whole = PpnRun::new(Ppn(0), PAGES);
        assert_eq!(
            self.space.unballoon(&[whole]),
            0,
            "a reset empties the balloon"
        );
        let last = PAGES - 1;
        self.write(u64::from(last) * PAGE_BYTES, &[1; 4096]);
        assert!(self.numbers(false, &[last, last]));
        let zero = |page: &[u8; 4096]| page.iter().all(|&byte| byte == 0);
        assert!(self.space.with_page(Ppn(last), zero));
        assert_eq!(self.space.totals().ballooned, 1);
        self.start(true, false);
        let all = self
            .console
            .send(&[])
            .and_then(|()| self.console.send(b"x"));
        assert!(all.is_ok() || all.unwrap_err().waiting > MAX_INPUT - 1);
        assert!(self.buffer(true, 0, WORDS, 1, 2));
        let mut used = [0; 8];
        let at = GuestAddress(USED + 4);
        self.space
            .access()
            .memory()
            .read_slice(&mut used, at)
            .unwrap();
        assert_eq!(used, [0, 0, 0, 0, 1, 0, 0, 0]);
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let machine = &*MACHINE;
    let guest = Guest::new(machine);
    guest.start(false, false);
    guest.start(true, false);
    for step in steps.into_iter().take(64) {
        guest.step(step, machine);
    }
    guest.check_books();
    guest.check_life();
    machine.pmap.remove_space(guest.space.vm());
    let mine = |page: &[u8; 4096]| page.iter().all(|&byte| byte == BYSTANDER);
    for ppn in PpnRun::new(Ppn(0), PAGES).iter() {
        assert!(machine.bystander.with_page(ppn, mine));
    }
    assert_eq!(machine.pmap.totals().frames, 0);
});
