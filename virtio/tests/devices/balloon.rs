//! The balloon as its driver and as the monitor see it: what leaves, what comes back, what is said.

use crate::driver::*;
use mirrorball_pmap::{Mechanism, PageState, Pmap, Ppn, PpnRun};
use mirrorball_virtio::{Balloon, Device};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const INFLATE: u64 = 0;
const DEFLATE: u64 = 1;
const STATISTICS: u64 = 2;
const HINTS: u64 = 3;
const REPORTING: u64 = 4;

/// First page that belongs to no ring.
const FREE: u32 = 0x40;
const PAGES: u32 = 512;
/// Where tests write page numbers and statistics.
const TEXT: u64 = 0x20_000;
const _: () = assert!(PAGES as u64 * PAGE == MEMORY && TEXT / PAGE < FREE as u64);

struct Ballooned {
    guest: Guest,
    balloon: Arc<Balloon>,
    pmap: Arc<Pmap>,
}

impl Ballooned {
    fn new() -> Self {
        let new = Self::unstarted();
        // All pages of the rings are there, so that only the balloon's doings change their number.
        new.guest.write(0, &vec![0; FREE as usize * 4096]);
        new.guest.start(MODERN, 16);
        new
    }

    fn unstarted() -> Self {
        let pmap = Machine::new().pmap;
        let space = pmap
            .create_space(
                mirrorball_pmap::VmId(1),
                mirrorball_pmap::GroupId(0),
                MEMORY,
            )
            .unwrap();
        let balloon = Arc::new(Balloon::new(&space));
        let guest = Guest::with_space(space, Arc::clone(&balloon) as Arc<dyn Device>);
        Self {
            guest,
            balloon,
            pmap,
        }
    }

    /// One chain of one buffer through a queue.
    fn chain(&self, queue: u64, descriptor: Desc) -> Result<(), String> {
        self.guest
            .write(TABLE + 0x4000 * queue, &descriptor.bytes());
        self.guest.offer_in(queue, 0);
        let queue = usize::try_from(queue).unwrap();
        let served = self.guest.transport.process(queue);
        served.map_err(|error| error.to_string())
    }

    fn tell(&self, queue: u64, numbers: &[u32]) {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.guest.write(TEXT, &bytes);
        let len = u32::try_from(bytes.len()).unwrap();
        self.chain(queue, Desc(TEXT, len, 0, 0)).unwrap();
    }

    fn used(&self, queue: u64) -> u16 {
        self.guest.word(USED + 0x4000 * queue + 2)
    }

    /// Pages of the guest's own, as the kernel has them.
    fn private(&self) -> u64 {
        self.guest.space.private_pages_now().unwrap()
    }

    fn fill(&self, first: u32, pages: u32) {
        let bytes = vec![0xab; pages as usize * 4096];
        self.guest.write(u64::from(first) * PAGE, &bytes);
    }

    fn ballooned(&self) -> u64 {
        self.guest.space.totals().ballooned
    }
}

fn statistic(tag: u16, value: u64) -> Vec<u8> {
    [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat()
}

#[test]
fn inflated_pages_leave_at_once_and_come_back_as_zeros() {
    let b = Ballooned::new();
    b.fill(FREE, 100);
    let before = b.private();
    // Backwards, as Linux's free lists give them, and one twice.
    let mut numbers: Vec<u32> = (FREE..FREE + 60).rev().collect();
    numbers.push(FREE);
    b.tell(INFLATE, &numbers);
    assert_eq!(b.private(), before - 60);
    assert_eq!((b.ballooned(), b.used(INFLATE)), (60, 1));
    assert_eq!(b.guest.get(0x60), 1, "the driver waits for the interrupt");
    let gone = b.guest.read(u64::from(FREE) * PAGE, 60 * 4096);
    assert!(gone.iter().all(|&byte| byte == 0));
    assert_eq!(b.guest.read(u64::from(FREE + 60) * PAGE, 1), [0xab]);

    b.tell(DEFLATE, &numbers);
    assert_eq!((b.ballooned(), b.used(DEFLATE)), (0, 1));
    b.fill(FREE, 60);
    assert_eq!(b.private(), before);
    let counts = b.balloon.counts();
    assert_eq!((counts.inflated, counts.deflated), (60, 60));
    assert_eq!((counts.outside, counts.refused), (0, 0));
}

#[test]
fn numbers_of_nobodys_pages_are_passed_over() {
    let b = Ballooned::new();
    b.fill(FREE, 4);
    b.tell(INFLATE, &[PAGES, FREE, u32::MAX, PAGES + 1, FREE, 1 << 20]);
    assert_eq!((b.ballooned(), b.balloon.counts().outside), (1, 4));
    b.tell(DEFLATE, &[u32::MAX, FREE + 1, FREE + 1]);
    assert_eq!((b.ballooned(), b.balloon.counts().outside), (1, 5));
    assert_eq!(b.guest.get(0x70), 15, "the device goes on");
}

#[test]
fn pages_that_map_frames_and_pages_that_broke_go_alike() {
    let b = Ballooned::new();
    let mut frames = b
        .pmap
        .frames()
        .allocate(8, mirrorball_pmap::GroupId(0))
        .unwrap();
    frames.bytes_mut().fill(5);
    let frames = frames.publish();
    b.guest
        .space
        .access()
        .map_frames(Ppn(FREE), &frames, Mechanism::Disk)
        .unwrap();
    drop(frames);
    b.guest.write(u64::from(FREE + 1) * PAGE, &[6; 4096]);
    b.tell(INFLATE, &[FREE + 1, FREE + 2]);
    let seen = b.guest.read(u64::from(FREE) * PAGE, 4 * 4096);
    let pages: Vec<u8> = seen.chunks(4096).map(|page| page[0]).collect();
    assert_eq!(pages, [5, 0, 0, 5]);
    assert_eq!(b.pmap.totals().frames, 6);
}

#[test]
fn a_guest_that_gives_its_rings_away_harms_itself_alone() {
    let b = Ballooned::new();
    let rings: Vec<u8> = (0..FREE).flat_map(u32::to_le_bytes).collect();
    b.guest.write(TEXT, &rings);
    let len = u32::try_from(rings.len()).unwrap();
    let fault = b.chain(INFLATE, Desc(TEXT, len, 0, 0)).unwrap_err();
    assert!(fault.contains("available ring index"), "{fault}");
    // The used entry was written after its ring had gone: that page is the guest's again.
    assert_eq!(b.used(INFLATE), 1);
    b.guest.space.settle();
    let used = Ppn(u32::try_from(USED / PAGE).unwrap());
    assert_eq!(b.guest.space.state(used), PageState::Private);
    assert_eq!(b.ballooned(), u64::from(FREE) - 1);
}

#[test]
fn page_numbers_that_are_none_are_a_fault() {
    for (len, reason) in [(6, "not whole"), ((1 << 20) + 4, "1 MiB")] {
        let b = Ballooned::new();
        let fault = b.chain(INFLATE, Desc(0, len, 0, 0)).unwrap_err();
        assert!(fault.starts_with("virtio balloon, queue 0: "), "{fault}");
        assert!(fault.contains(reason), "{fault}");
        assert_eq!(b.ballooned(), 0);
    }
    let b = Ballooned::new();
    b.chain(INFLATE, Desc(TEXT, 64, WRITE, 0)).unwrap();
    assert_eq!(b.ballooned(), 0, "a buffer to write to names nothing");
}

#[test]
fn reported_pages_leave_whole_pages_at_a_time() {
    let b = Ballooned::new();
    b.fill(FREE, 100);
    let before = b.private();
    let start = u64::from(FREE) * PAGE;
    b.chain(REPORTING, Desc(start, 32 * 4096, WRITE, 0))
        .unwrap();
    assert_eq!(b.private(), before - 32);
    b.chain(REPORTING, Desc(start + 40 * PAGE - 1, 8192, WRITE, 0))
        .unwrap();
    assert_eq!(b.private(), before - 33);
    assert_eq!(b.guest.read(start + 40 * PAGE - 1, 2), [0xab, 0]);
    assert_eq!(b.guest.read(start + 41 * PAGE, 1), [0xab]);
    // What the device may not write to is no free page.
    b.chain(REPORTING, Desc(start + 50 * PAGE, 4096, 0, 0))
        .unwrap();
    assert_eq!(b.private(), before - 33);
    assert_eq!((b.used(REPORTING), b.ballooned()), (3, 0));
    assert_eq!(b.balloon.counts().reported, 33);
}

#[test]
fn a_guest_that_looks_for_poison_finds_it() {
    let b = Ballooned::new();
    b.fill(FREE, 8);
    let start = u64::from(FREE) * PAGE;
    b.guest.set(0x10c, 0xabab_abab);
    b.chain(REPORTING, Desc(start, 8 * 4096, WRITE, 0)).unwrap();
    assert_eq!(b.guest.read(start, 1), [0xab]);
    assert_eq!(b.balloon.counts().refused, 8);
    b.guest.set(0x10c, 0);
    b.chain(REPORTING, Desc(start, 8 * 4096, WRITE, 0)).unwrap();
    assert_eq!(b.guest.read(start, 1), [0]);
}

#[test]
fn hints_are_never_asked_for_and_go_back() {
    let b = Ballooned::new();
    b.fill(FREE, 1);
    assert_eq!(b.guest.get(0x108), 0, "the command is to stop");
    b.chain(HINTS, Desc(u64::from(FREE) * PAGE, 4096, WRITE, 0))
        .unwrap();
    assert_eq!(b.used(HINTS), 1);
    assert_eq!(b.guest.read(u64::from(FREE) * PAGE, 1), [0xab]);
}

#[test]
fn a_new_target_is_announced() {
    let b = Ballooned::new();
    let interrupts = || b.guest.interrupts.load(Ordering::SeqCst);
    assert_eq!((b.guest.get(0x100), b.guest.get(0xfc)), (0, 0));
    b.balloon.set_target(100);
    assert_eq!(interrupts(), 1);
    assert_eq!(b.guest.get(0x60), 2, "a configuration interrupt");
    assert_eq!((b.guest.get(0x100), b.guest.get(0xfc)), (100, 1));
    b.guest.set(0x64, 2);
    assert_eq!(b.guest.get(0x60), 0);
    b.balloon.set_target(100);
    assert_eq!(interrupts(), 1, "nothing has changed");
    b.balloon.set_target(u32::MAX);
    assert_eq!((b.guest.get(0x100), b.balloon.target()), (PAGES, PAGES));
    b.guest.set(0x104, 77);
    assert_eq!(b.balloon.actual(), 77);
    b.guest.set(0x100, 1);
    assert_eq!(b.balloon.target(), PAGES, "the target is not the guest's");
}

#[test]
fn a_target_set_before_the_driver_is_ready_is_announced_when_it_is() {
    let b = Ballooned::unstarted();
    b.balloon.set_target(9);
    assert_eq!(b.guest.interrupts.load(Ordering::SeqCst), 0);
    assert_eq!((b.guest.get(0x100), b.guest.get(0x60)), (9, 0));
    // A start begins with a reset: the driver reads everything anew, and nothing is pending.
    b.guest.start(MODERN, 16);
    assert_eq!(b.guest.get(0x60), 0);
    b.guest.set(0x70, 0);
    b.guest.set(0x70, 3);
    b.balloon.set_target(10);
    assert_eq!(b.guest.get(0x60), 0);
    b.guest.set(0x24, 1);
    b.guest.set(0x20, 1);
    b.guest.set(0x70, 11);
    b.guest.set(0x70, 15);
    assert_eq!((b.guest.get(0x60), b.guest.get(0x100)), (2, 10));
}

#[test]
fn statistics_come_when_asked_for_and_the_last_are_kept() {
    let b = Ballooned::new();
    b.balloon.request_statistics();
    assert_eq!(b.balloon.statistics(), None);
    // The driver gives its buffer at the start; as new ones are wanted it comes right back.
    b.guest
        .write(TEXT, &[statistic(4, 1000), statistic(5, 9000)].concat());
    b.chain(STATISTICS, Desc(TEXT, 20, 0, 0)).unwrap();
    let first = b.balloon.statistics().unwrap();
    assert_eq!((first.free, first.total), (Some(1000), Some(9000)));
    assert_eq!(b.used(STATISTICS), 1);

    b.guest
        .write(TEXT, &[statistic(4, 500), statistic(7, 3)].concat());
    b.chain(STATISTICS, Desc(TEXT, 20, 0, 0)).unwrap();
    assert_eq!(b.used(STATISTICS), 1, "the device keeps the buffer");
    let second = b.balloon.statistics().unwrap();
    assert_eq!((second.free, second.caches), (Some(500), Some(3)));
    assert_eq!(second.total, None);
    assert!(second.at >= first.at);

    let doorbell = &b.guest.transport.doorbells()[2];
    while doorbell.read().is_ok() {}
    b.balloon.request_statistics();
    assert!(doorbell.read().is_ok(), "the worker is called");
    b.guest.transport.process(2).unwrap();
    assert_eq!(b.used(STATISTICS), 2);
    b.guest.transport.process(2).unwrap();
    assert_eq!(b.used(STATISTICS), 2);
}

#[test]
fn several_buffers_of_statistics_do_not_pile_up() {
    let b = Ballooned::new();
    for _ in 0..40 {
        b.chain(STATISTICS, Desc(0, 1 << 20, 0, 0)).unwrap();
    }
    assert_eq!(b.used(STATISTICS), 39);
}

#[test]
fn a_reset_empties_the_balloon_and_keeps_the_target() {
    let b = Ballooned::new();
    b.fill(FREE, 8);
    b.balloon.set_target(8);
    b.tell(INFLATE, &[FREE, FREE + 1]);
    b.guest.set(0x104, 2);
    b.guest.set(0x10c, 7);
    b.chain(STATISTICS, Desc(TEXT, 20, 0, 0)).unwrap();
    b.guest.set(0x70, 0);
    assert_eq!((b.ballooned(), b.balloon.actual()), (0, 0));
    assert_eq!((b.balloon.target(), b.guest.get(0x10c)), (8, 0));
    assert_eq!(b.balloon.statistics(), None);
    // The buffer that was held is forgotten: it is no longer the device's to give back.
    b.balloon.request_statistics();
    b.guest.write(0x1000, &vec![0; 0x13000]);
    b.guest.start(MODERN, 16);
    b.guest.transport.process(2).unwrap();
    assert_eq!(b.used(STATISTICS), 0);
}

#[test]
fn every_driver_finds_the_queues_where_it_looks() {
    let b = Ballooned::new();
    assert_eq!(b.guest.get(8), 5);
    b.guest.set(0x14, 0);
    assert_eq!(b.guest.get(0x10) & 0x3f, 0x3f);
    for queue in 0..5 {
        b.guest.set(0x30, queue);
        assert!(b.guest.get(0x34) >= 32);
    }
    assert_eq!(b.guest.transport.doorbells().len(), 5);
}

#[derive(Clone, Debug)]
enum Step {
    Tell(u64, Vec<u32>),
    Report(Vec<(u64, u32)>),
    Write(u32),
    Target(u32),
    Wild(u64, Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = prop_oneof![8 => FREE..PAGES + 4, 1 => any::<u32>()];
    let buffer = (u64::from(FREE) * PAGE..MEMORY, 0..0x9000_u32);
    let step = prop_oneof![
        4 => (0..2_u64, prop::collection::vec(number, 0..40)).prop_map(|(q, n)| Step::Tell(q, n)),
        2 => prop::collection::vec(buffer, 1..8).prop_map(Step::Report),
        3 => (FREE..PAGES).prop_map(Step::Write),
        1 => any::<u32>().prop_map(Step::Target),
        1 => (0x100..0x118_u64, prop::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(at, data)| Step::Wild(at, data)),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is said in whatever order: the guest finds what it wrote or zeros, and the books
    /// are the kernel's.
    #[test]
    fn the_books_stay_the_kernels(steps in steps()) {
        let b = Ballooned::new();
        for step in steps {
            match step {
                Step::Tell(queue, numbers) => b.tell(queue, &numbers),
                Step::Report(buffers) => for (at, len) in buffers {
                    let len = len.min(u32::try_from(MEMORY - at).unwrap());
                    b.chain(REPORTING, Desc(at, len, WRITE, 0)).unwrap();
                },
                Step::Write(page) => b.fill(page, 1),
                Step::Target(pages) => b.balloon.set_target(pages),
                Step::Wild(at, data) => b.guest.transport.write(at, &data),
            }
        }
        b.pmap.settle_all();
        let totals = b.pmap.totals();
        prop_assert_eq!(totals.private, b.private());
        let mut ballooned = 0;
        for ppn in PpnRun::new(Ppn(FREE), PAGES - FREE).iter() {
            let state = b.guest.space.state(ppn);
            ballooned += u64::from(state == PageState::Ballooned);
            let bytes = b.guest.read(ppn.address(), 4096);
            let filled = bytes.iter().filter(|&&byte| byte == 0xab).count();
            let zeros = bytes.iter().filter(|&&byte| byte == 0).count();
            prop_assert_eq!(filled + zeros, 4096);
            // A report that cuts a page leaves it alone, so a page is one or the other.
            prop_assert!(filled == 0 || zeros == 0);
            prop_assert!(state == PageState::Private || filled == 0);
        }
        prop_assert_eq!(totals.ballooned, ballooned);
    }
}
