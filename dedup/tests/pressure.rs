//! Every byte stays right while pages are swapped, watched, shared, given up, mapped and written at once.
//!
//! Real mappings, real faults: threads write as vCPUs do (a write that a fence forbids fails, waits and is
//! made again), the host reads the same pages, also from outside the process's own loads
//! (`/proc/self/mem`), and all mechanisms work on them without pause. `MIRRORBALL_STRESS=100` makes it a
//! hundred times as long.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use mirrorball_dedup::{Scanner, ScannerConfig};
use mirrorball_pmap::*;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const SPACES: u32 = 3;
/// Pages of a space, the first of which is its status page.
const PAGES: u32 = 193;
const VCPUS: u32 = 2;
/// Steps of each vCPU.
const STEPS: u64 = 4000;
const WORDS: usize = PAGE_SIZE / 8;
/// Numbers of contents that several write are below.
const COMMON: u64 = 1 << 30;

/// What a page holds: words that follow from a number (zeros from 0), and one that was written since.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    base: u64,
    patch: Option<(usize, u64)>,
}

impl Held {
    const fn of(base: u64) -> Self {
        Self { base, patch: None }
    }

    fn word(&self, index: usize) -> u64 {
        match self.patch {
            Some((at, value)) if at == index => value,
            // What several write gets smaller when it is compressed.
            _ if self.base < COMMON => self.base * (index as u64 / 64 + 1),
            _ => (self.base * (index as u64 + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    fn page(&self) -> Page {
        let mut page = [0; PAGE_SIZE];
        for (index, bytes) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *bytes = self.word(index).to_le_bytes();
        }
        page
    }
}

/// What all threads have.
struct World {
    pmap: Arc<Pmap>,
    spaces: Vec<Arc<AddressSpace>>,
    memories: Vec<GuestMemoryMmap>,
    /// What a disk reads: a frame for each of some contents.
    blocks: PinnedFrames,
    outside: File,
    end: AtomicBool,
    verified: AtomicU64,
    ballooned: AtomicU64,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        self.0 ^ (self.0 >> 31)
    }

    fn below(&mut self, below: u32) -> u32 {
        u32::try_from((self.next() >> 8) % u64::from(below)).unwrap()
    }
}

const fn block(index: u32) -> Held {
    Held::of(1_000_000 + index as u64)
}

/// A thread that has pages of a space to itself.
struct Vcpu<'a> {
    world: &'a World,
    space: &'a AddressSpace,
    memory: GuestMemoryMmap,
    /// What it writes comes from here: the kernel copies it, and says so where it may not.
    file: File,
    first: u32,
    held: Vec<Held>,
    random: Random,
    version: u64,
}

impl<'a> Vcpu<'a> {
    fn new(world: &'a World, vm: u32, index: u32) -> Self {
        let pages = (PAGES - 1) / VCPUS;
        Self {
            world,
            space: &world.spaces[vm as usize],
            memory: world.memories[vm as usize].clone(),
            file: tempfile::tempfile().unwrap(),
            first: 1 + index * pages,
            held: vec![Held::default(); pages as usize],
            random: Random(u64::from(vm * VCPUS + index) + 77),
            version: u64::from(vm * VCPUS + index + 1) << 32,
        }
    }

    fn run(&mut self, steps: u64) {
        for step in 1..=steps {
            self.step();
            if self.first == 1 {
                self.write(GuestAddress(0), &(step >> 6).to_le_bytes());
            }
        }
        self.verify(0, u32::try_from(self.held.len()).unwrap());
    }

    fn step(&mut self) {
        let all = u32::try_from(self.held.len()).unwrap();
        let start = self.random.below(all);
        let pages = (1 + self.random.below(8)).min(all - start);
        let turn = u64::from(self.random.below(4));
        match self.random.below(100) {
            0..40 => self.verify(start, pages),
            // The same as the others write at the same place.
            40..60 => {
                self.fill(start, pages, |page| {
                    Held::of((turn + 1) << 16 | u64::from(page))
                });
            }
            60..70 => {
                self.version += 1;
                let own = self.version << 8;
                self.fill(start, pages, |page| Held::of(own | u64::from(page % 256)));
            }
            70..76 => self.fill(start, pages, |_| Held::default()),
            76..88 => self.patch(start),
            88..92 => self.give_up(start, pages),
            _ => self.read_blocks(start, pages),
        }
    }

    /// Writes as a vCPU does.
    fn write(&mut self, at: GuestAddress, bytes: &[u8]) {
        self.file.write_all_at(bytes, 0).unwrap();
        loop {
            let inside = self.space.enter_guest();
            self.file.seek(SeekFrom::Start(0)).unwrap();
            let written = (self.memory).read_exact_volatile_from(at, &mut self.file, bytes.len());
            drop(inside);
            if written.is_ok() {
                return;
            }
            self.space.wait_for_fence();
        }
    }

    fn address(&self, page: u32) -> GuestAddress {
        GuestAddress(Ppn(self.first + page).address())
    }

    fn fill(&mut self, start: u32, pages: u32, content: impl Fn(u32) -> Held) {
        for page in start..start + pages {
            let held = content(page);
            self.held[page as usize] = held;
            self.write(self.address(page), &held.page());
        }
    }

    fn patch(&mut self, page: u32) {
        let (word, value) = (
            self.random.below(u32::try_from(WORDS).unwrap()) as usize,
            self.random.next(),
        );
        let held = self.held[page as usize];
        if let Some((before, _)) = held.patch {
            let whole = Held::of(held.base);
            let at = self.address(page).0 + before as u64 * 8;
            self.write(GuestAddress(at), &whole.word(before).to_le_bytes());
        }
        let patch = Some((word, value));
        self.held[page as usize] = Held { patch, ..held };
        let at = self.address(page).0 + word as u64 * 8;
        self.write(GuestAddress(at), &value.to_le_bytes());
    }

    /// Puts pages into the balloon, which may be taken out at once.
    fn give_up(&mut self, start: u32, pages: u32) {
        let run = PpnRun::new(Ppn(self.first + start), pages);
        let outcome = self.space.balloon(&[run]);
        assert_eq!(outcome.refused, 0);
        (self.world.ballooned).fetch_add(outcome.in_use, Ordering::Relaxed);
        if self.random.below(2) == 0 {
            self.space.unballoon(&[run]);
        }
        self.held[start as usize..(start + pages) as usize].fill(Held::default());
    }

    fn read_blocks(&mut self, start: u32, pages: u32) {
        let first = self.random.below(16);
        let frames = self.world.blocks.slice(first, pages);
        let mapped =
            self.space
                .access()
                .map_frames(Ppn(self.first + start), &frames, Mechanism::Disk);
        if mapped.is_ok() {
            for page in 0..pages {
                self.held[(start + page) as usize] = block(first + page);
            }
        }
    }

    fn verify(&mut self, start: u32, pages: u32) {
        for page in start..start + pages {
            let (ppn, expected) = (Ppn(self.first + page), self.held[page as usize].page());
            let mut found = [0; PAGE_SIZE];
            let outside = self.random.below(3) == 0;
            let address = self.space.host_address() + ppn.address();
            // From outside a page that is away can't be had.
            let read = outside
                && self
                    .world
                    .outside
                    .read_exact_at(&mut found, address)
                    .is_ok();
            if !read {
                self.space.with_page(ppn, |page| found = *page);
            }
            let wrong =
                (found.iter().zip(&expected)).position(|(found, expected)| found != expected);
            assert!(
                wrong.is_none(),
                "{:?} {ppn:?}, byte {}: {:?}, {:?}, read from outside: {read}",
                self.space.vm(),
                wrong.unwrap(),
                self.held[page as usize],
                self.space.state(ppn),
            );
            self.world.verified.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Reads every status page: its number only grows.
fn watch_status(world: &World) {
    let mut last = [0; SPACES as usize];
    while !world.end.load(Ordering::Relaxed) {
        for (space, last) in world.spaces.iter().zip(&mut last) {
            let access = space.access();
            let now: u64 = access
                .memory()
                .load(GuestAddress(0), Ordering::Acquire)
                .unwrap();
            drop(access);
            assert!(now >= *last, "{:?}: {last}, then {now}", space.vm());
            *last = now;
        }
        thread::yield_now();
    }
}

/// Touches pages of others: two who wait for one page are two messages.
fn touch(world: &World) {
    let mut random = Random(5);
    while !world.end.load(Ordering::Relaxed) {
        let space = &world.spaces[random.below(SPACES) as usize];
        space.with_page(Ppn(random.below(PAGES)), |page| {
            std::hint::black_box(page[0]);
        });
    }
}

fn swap(world: &World) {
    let mut random = Random(6);
    while !world.end.load(Ordering::Relaxed) {
        let space = &world.spaces[random.below(SPACES) as usize];
        space.settle();
        space.swap_out(1 + random.below(48), random.next()).unwrap();
    }
}

fn sample(world: &World) {
    let mut random = Random(7);
    while !world.end.load(Ordering::Relaxed) {
        let space = &world.spaces[random.below(SPACES) as usize];
        let watch = space.watch(40, random.next()).unwrap();
        thread::yield_now();
        let _ = space.end_watch(watch);
    }
}

fn share(world: &World) {
    let config = ScannerConfig {
        settle: 0,
        burden: None,
        ..ScannerConfig::default()
    };
    let mut scanner = Scanner::new(Arc::clone(&world.pmap), &config);
    while !world.end.load(Ordering::Relaxed) {
        scanner.pass();
    }
}

fn world(pmap: &Arc<Pmap>) -> World {
    let mut blocks = pmap.frames().allocate(32, GroupId(0)).unwrap();
    for (index, page) in (0..).zip(blocks.bytes_mut().as_chunks_mut::<PAGE_SIZE>().0) {
        *page = block(index).page();
    }
    let bytes = u64::from(PAGES) * PAGE_BYTES;
    let spaces: Vec<_> = (1..=SPACES)
        .map(|vm| pmap.create_space(VmId(vm), GroupId(0), bytes).unwrap())
        .collect();
    World {
        pmap: Arc::clone(pmap),
        memories: spaces
            .iter()
            .map(|space| space.access().memory().clone())
            .collect(),
        spaces,
        blocks: blocks.publish(),
        outside: File::open("/proc/self/mem").unwrap(),
        end: AtomicBool::new(false),
        verified: AtomicU64::new(0),
        ballooned: AtomicU64::new(0),
    }
}

#[test]
fn every_byte_stays_right_under_all_mechanisms_at_once() {
    let pmap = Pmap::new(&PmapConfig {
        frame_capacity: 1 << 28,
        ..PmapConfig::default()
    })
    .unwrap();
    let file = SwapFile::create(&std::env::temp_dir()).unwrap();
    // Half of what is away fits into the pool, if it is compressed.
    let limits = SwapLimits {
        capacity: PAGES * SPACES,
        pool: 200_000,
    };
    let pager = match Pager::start(&pmap, Box::new(file), limits, |lost| panic!("{lost:?}")) {
        Ok(pager) => pager,
        Err(error) => return eprintln!("not run: {error}"),
    };
    let longer = std::env::var("MIRRORBALL_STRESS").map_or(1, |times| times.parse().unwrap());
    let world = world(&pmap);
    thread::scope(|scope| {
        let others = [watch_status, touch, swap, sample, share];
        let others = others.map(|work| {
            let world = &world;
            scope.spawn(move || work(world))
        });
        let vcpus = (0..SPACES * VCPUS).map(|number| {
            let world = &world;
            scope
                .spawn(move || Vcpu::new(world, number / VCPUS, number % VCPUS).run(STEPS * longer))
        });
        let vcpus: Vec<_> = vcpus.collect();
        let ended: Vec<_> = vcpus.into_iter().map(|vcpu| vcpu.join()).collect();
        world.end.store(true, Ordering::Relaxed);
        assert!(
            others
                .map(thread::ScopedJoinHandle::join)
                .iter()
                .all(Result::is_ok)
        );
        assert!(ended.iter().all(Result::is_ok));
    });
    let (counts, broken) = (pager.counts(), pmap.totals().broken);
    let done = [counts.read, counts.unpacked, counts.written, broken];
    let ballooned = world.ballooned.load(Ordering::Relaxed);
    eprintln!(
        "{} pages verified; read back, of these from the pool, written, broken: {done:?}; ballooned {ballooned}",
        world.verified.load(Ordering::Relaxed)
    );
    assert!(done.iter().all(|&pages| pages > 100) && ballooned > 100);
}

/// Few pages, so that each is away most of the time, with a writer and two readers that wait for it together.
#[test]
fn a_page_that_is_hardly_ever_there_is_never_seen_empty() {
    let pmap = Pmap::new(&PmapConfig {
        frame_capacity: 1 << 28,
        ..PmapConfig::default()
    })
    .unwrap();
    let file = SwapFile::create(&std::env::temp_dir()).unwrap();
    let limits = SwapLimits::store(64);
    let pager = match Pager::start(&pmap, Box::new(file), limits, |lost| panic!("{lost:?}")) {
        Ok(pager) => pager,
        Err(error) => return eprintln!("not run: {error}"),
    };
    let longer: u64 = std::env::var("MIRRORBALL_STRESS").map_or(1, |times| times.parse().unwrap());
    let space = pmap
        .create_space(VmId(1), GroupId(0), 4 * PAGE_BYTES)
        .unwrap();
    let memory = space.access().memory().clone();
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        let read = || {
            let mut last = [0; 4];
            while !end.load(Ordering::Relaxed) {
                for (page, last) in (0..).zip(&mut last) {
                    let at = GuestAddress(Ppn(page).address());
                    let now: u64 = space.access().memory().load(at, Ordering::Acquire).unwrap();
                    assert!(now >= *last, "page {page}: {last}, then {now}");
                    *last = now;
                }
            }
        };
        let mut others = vec![scope.spawn(read), scope.spawn(read)];
        others.push(scope.spawn(|| {
            let mut seed = 0;
            while !end.load(Ordering::Relaxed) {
                seed += 1;
                let _ = space.take_written();
                space.swap_out(4, seed).unwrap();
            }
        }));
        others.push(scope.spawn(|| {
            let mut seed = 0;
            while !end.load(Ordering::Relaxed) {
                seed += 1;
                let watch = space.watch(3, seed).unwrap();
                let _ = space.end_watch(watch);
            }
        }));
        let (mut number, mut wrong) = (0, None);
        while wrong.is_none() && pager.counts().read < 300 * longer {
            number += 1;
            for page in 0..4 {
                let at = GuestAddress(Ppn(page).address());
                let found: u64 = memory.load(at, Ordering::Acquire).unwrap();
                if found != number - 1 {
                    wrong = Some(format!("page {page}: {found} in place of {}", number - 1));
                }
                memory.store(number, at, Ordering::Release).unwrap();
            }
        }
        end.store(true, Ordering::Relaxed);
        assert_eq!(wrong, None);
        assert!(
            others
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .all(|ended| ended.is_ok())
        );
    });
}
