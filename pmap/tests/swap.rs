//! Pages on swap: guests find what they wrote, whatever happens meanwhile and whatever fails.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use common::check_kernel;
use mirrorball_pmap::*;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use vm_memory::{Bytes, GuestAddress};

const PAGES: u32 = 64;

/// A swap file in memory that fails when it is told to.
#[derive(Debug, Default)]
struct Faulty {
    pages: parking_lot::Mutex<std::collections::BTreeMap<u32, Page>>,
    no_writes: AtomicBool,
    no_reads: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct Store(Arc<Faulty>);

impl SwapStore for Store {
    fn write(&self, slot: u32, pages: &[u8]) -> io::Result<()> {
        if self.0.no_writes.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        for (slot, page) in (slot..).zip(pages.as_chunks::<PAGE_SIZE>().0) {
            self.0.pages.lock().insert(slot, *page);
        }
        Ok(())
    }

    fn read(&self, slot: u32, page: &mut Page) -> io::Result<()> {
        if self.0.no_reads.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *page = self.0.pages.lock()[&slot];
        Ok(())
    }
}

struct Bench {
    pmap: Arc<Pmap>,
    space: Arc<AddressSpace>,
    store: Store,
    pager: Pager,
    lost: mpsc::Receiver<Lost>,
}

/// A machine with swap and one VM; `None`, which is told, where the kernel has no paging for us.
fn bench(capacity: u32) -> Option<Bench> {
    bench_with(SwapLimits::store(capacity))
}

fn bench_with(limits: SwapLimits) -> Option<Bench> {
    bench_of(limits, None)
}

/// The same, whose guests' memory may consist of so many mappings.
fn bench_of(limits: SwapLimits, vma_budget: Option<usize>) -> Option<Bench> {
    let pmap = Pmap::new(&PmapConfig {
        frame_capacity: 1 << 28,
        vma_budget,
        ..PmapConfig::default()
    })
    .unwrap();
    let store = Store::default();
    let (send, lost) = mpsc::channel();
    let send = parking_lot::Mutex::new(send);
    let told = move |cause| send.lock().send(cause).unwrap();
    match Pager::start(&pmap, Box::new(store.clone()), limits, told) {
        Ok(pager) => {
            let bytes = u64::from(PAGES) * PAGE_BYTES;
            let space = pmap.create_space(VmId(1), GroupId(0), bytes).unwrap();
            Some(Bench {
                pmap,
                space,
                store,
                pager,
                lost,
            })
        }
        Err(error) => {
            eprintln!("not run: {error}");
            None
        }
    }
}

impl Bench {
    /// Each page of the run holds its number and `byte`.
    fn fill(&self, run: PpnRun, byte: u8) {
        for ppn in run.iter() {
            let mut page = [byte; PAGE_SIZE];
            page[..4].copy_from_slice(&ppn.0.to_le_bytes());
            let at = GuestAddress(ppn.address());
            self.space.access().memory().write_slice(&page, at).unwrap();
        }
    }

    fn holds(&self, ppn: Ppn, byte: u8) -> bool {
        self.space.with_page(ppn, |page| {
            page[..4] == ppn.0.to_le_bytes() && page[4..].iter().all(|&at| at == byte)
        })
    }

    fn swap_out(&self, pages: u32) -> Result<SwapOutcome, SwapError> {
        self.space.settle();
        self.space.swap_out(pages, 7)
    }
}

const ALL: PpnRun = PpnRun::new(Ppn(0), PAGES);

#[test]
fn swapped_pages_take_no_memory_and_come_back_as_they_were() {
    let Some(bench) = bench(1000) else { return };
    bench.fill(ALL, 3);
    let outcome = bench.swap_out(40).unwrap();
    assert_eq!((outcome.swapped, outcome.zero), (40, 0));
    check_kernel(&bench.pmap);
    let totals = bench.pmap.totals();
    assert_eq!((totals.private, totals.swapped), (24, 40));
    for ppn in ALL.iter() {
        assert!(bench.holds(ppn, 3), "{ppn:?}");
    }
    check_kernel(&bench.pmap);
    let totals = bench.pmap.totals();
    assert_eq!((totals.private, totals.swapped), (64, 0));
    let counts = bench.pager.counts();
    assert_eq!((counts.written, counts.read, counts.used), (40, 40, 0));
    assert_eq!(counts.latency.len(), 40);
}

#[test]
fn a_write_to_a_swapped_page_finds_the_rest_of_it() {
    let Some(bench) = bench(1000) else { return };
    bench.fill(ALL, 3);
    bench.swap_out(PAGES).unwrap();
    for ppn in ALL.iter() {
        let at = GuestAddress(ppn.address() + 4);
        (bench.space.access().memory())
            .write_slice(&[3; 8], at)
            .unwrap();
        assert!(bench.holds(ppn, 3), "{ppn:?}");
    }
}

#[test]
fn untouched_and_zero_pages_stay_zero_and_write_nothing() {
    let Some(bench) = bench(1000) else { return };
    bench.fill(PpnRun::new(Ppn(5), 3), 9);
    let zeros = GuestAddress(Ppn(20).address());
    (bench.space.access().memory())
        .write_slice(&[0; 2 * PAGE_SIZE], zeros)
        .unwrap();
    let outcome = bench.swap_out(PAGES).unwrap();
    assert_eq!((outcome.swapped, outcome.zero), (3, 2));
    for ppn in ALL.iter().filter(|ppn| !(5..8).contains(&ppn.0)) {
        assert!(bench.space.with_page(ppn, is_zero), "{ppn:?}");
    }
    check_kernel(&bench.pmap);
    assert_eq!(bench.pmap.totals().swapped, 3);
}

#[test]
fn pages_written_over_frames_are_swapped_too() {
    let Some(bench) = bench(1000) else { return };
    let mut frames = bench.pmap.frames().allocate(PAGES, GroupId(0)).unwrap();
    frames.bytes_mut().fill(1);
    let frames = frames.publish();
    (bench.space.access())
        .map_frames(Ppn(0), &frames, Mechanism::Disk)
        .unwrap();
    let written = PpnRun::new(Ppn(10), 20);
    bench.fill(written, 4);
    assert_eq!(bench.swap_out(PAGES).unwrap().swapped, 20);
    check_kernel(&bench.pmap);
    for ppn in written.iter() {
        assert!(bench.holds(ppn, 4), "{ppn:?}");
    }
    let frame = |page: &Page| page.iter().all(|&byte| byte == 1);
    assert!(bench.space.with_page(Ppn(9), frame));
    assert!(bench.space.with_page(Ppn(30), frame));
    check_kernel(&bench.pmap);
}

#[test]
fn what_is_laid_over_a_swapped_page_counts() {
    let Some(bench) = bench(1000) else { return };
    bench.fill(ALL, 5);
    bench.swap_out(PAGES).unwrap();
    let mut frames = bench.pmap.frames().allocate(4, GroupId(0)).unwrap();
    frames.bytes_mut().fill(8);
    let frames = frames.publish();
    (bench.space.access())
        .map_frames(Ppn(0), &frames, Mechanism::Disk)
        .unwrap();
    bench.space.balloon(&[PpnRun::new(Ppn(10), 4)]);
    bench.space.discard(&[PpnRun::new(Ppn(20), 4)]);
    assert_eq!(bench.pager.counts().used, 64 - 12, "slots are given back");
    let is = |ppn, byte| {
        let all = |page: &Page| page.iter().all(|&at| at == byte);
        bench.space.with_page(Ppn(ppn), all)
    };
    assert!((0..4).all(|ppn| is(ppn, 8)));
    assert!((10..14).chain(20..24).all(|ppn| is(ppn, 0)));
    assert!(bench.holds(Ppn(30), 5));
    check_kernel(&bench.pmap);
}

#[test]
fn a_full_file_and_a_failing_one_leave_pages_where_they_are() {
    let Some(bench) = bench(8) else { return };
    bench.fill(ALL, 6);
    let full = bench.swap_out(PAGES).unwrap_err();
    assert!(full.to_string().contains("all 8 pages"), "{full}");
    bench.swap_out(8).unwrap();
    bench.store.0.no_writes.store(true, Ordering::Relaxed);
    bench.holds(Ppn(0), 6);
    for ppn in ALL.iter() {
        assert!(bench.holds(ppn, 6), "{ppn:?}");
    }
    let refused = bench.swap_out(4).unwrap_err();
    assert!(matches!(refused, SwapError::Write(_)), "{refused}");
    assert_eq!(bench.pager.counts().write_errors, 1);
    for ppn in ALL.iter() {
        assert!(bench.holds(ppn, 6), "{ppn:?}");
    }
    check_kernel(&bench.pmap);
    assert_eq!(bench.pmap.totals().swapped, 0);
}

/// Mappings of the process that lie in a space.
fn mappings(space: &AddressSpace) -> u64 {
    let (start, end) = (space.host_address(), space.host_address() + space.bytes());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let starts = maps.lines().filter_map(|line| {
        let (start, _) = line.split_once('-')?;
        u64::from_str_radix(start, 16).ok()
    });
    starts.filter(|at| (start..end).contains(at)).count() as u64
}

#[test]
fn mappings_are_not_used_up_by_pages_that_are_shared_broken_and_swapped_for_ever() {
    let Some(bench) = bench(1000) else { return };
    for round in 0..200 {
        let first = Ppn(round * 7 % 48);
        let mut frames = bench.pmap.frames().allocate(16, GroupId(0)).unwrap();
        frames.bytes_mut().fill(1);
        let frames = frames.publish();
        bench
            .space
            .access()
            .map_frames(first, &frames, Mechanism::Disk)
            .unwrap();
        bench.fill(PpnRun::new(first.plus(round % 5), 9), 2);
        bench.swap_out(20).unwrap();
        bench.space.settle();
        let (books, kernel) = (bench.pmap.totals().vmas, mappings(&bench.space));
        assert!(
            (kernel..=u64::from(PAGES) + 1).contains(&books),
            "round {round}: {books} by the books, {kernel} by the kernel"
        );
        if round % 20 == 0 {
            check_kernel(&bench.pmap);
        }
    }
}

/// Sharing page by page takes every mapping; then the guest writes all that it shares, or one page of
/// each mapping.
#[test]
fn memory_can_be_taken_when_sharing_has_used_all_mappings_up() {
    for (together, budget) in [(1, 20), (4, 10)] {
        let limits = SwapLimits::store(1000);
        let Some(bench) = bench_of(limits, Some(budget)) else {
            return;
        };
        let (mut frames, mut gaps) = (Vec::new(), Vec::new());
        for at in (0..PAGES).step_by(together as usize) {
            // No mapping is to join the one before.
            let mut gap = bench.pmap.frames().allocate(1, GroupId(0)).unwrap();
            gap.bytes_mut().fill(2);
            gaps.push(gap);
            let mut made = bench.pmap.frames().allocate(together, GroupId(0)).unwrap();
            made.bytes_mut().fill(1);
            let made = made.publish();
            frames.push((Ppn(at), made));
        }
        let map = |at, made| {
            let access = bench.space.access();
            access.map_frames(at, made, Mechanism::Disk).is_ok()
        };
        let mapped: Vec<_> = (frames.iter())
            .filter(|(at, made)| map(*at, made))
            .map(|(at, _)| *at)
            .collect();
        assert!(mapped.len() < frames.len(), "the budget is used up");
        assert!(mapped.len() >= budget / 2, "{}", mapped.len());
        for at in &mapped {
            bench.fill(PpnRun::new(*at, 1), 4);
        }
        let most = u32::try_from(mapped.len()).unwrap();
        let outcome = bench.swap_out(most).unwrap();
        assert!(outcome.swapped >= u64::from(most), "{outcome:?} of {most}");
        for at in &mapped {
            assert!(bench.holds(*at, 4), "{at:?}");
        }
        check_kernel(&bench.pmap);
    }
}

#[test]
fn pages_are_compressed_while_there_is_room_and_written_when_there_is_none() {
    // A page of one byte compresses to some 30 bytes.
    let limits = SwapLimits {
        capacity: 1000,
        pool: 1000,
    };
    let Some(bench) = bench_with(limits) else {
        return;
    };
    bench.fill(ALL, 3);
    let outcome = bench.swap_out(PAGES).unwrap();
    assert_eq!(outcome.swapped, u64::from(PAGES));
    let counts = bench.pager.counts();
    assert!(counts.packed > 4 && counts.written > 4, "{counts:?}");
    assert_eq!(counts.packed + counts.written, u64::from(PAGES));
    assert_eq!(counts.used, counts.written);
    assert!(counts.pool_bytes > 0 && counts.pool_bytes <= 1000);
    for ppn in ALL.iter() {
        assert!(bench.holds(ppn, 3), "{ppn:?}");
    }
    check_kernel(&bench.pmap);
    let after = bench.pager.counts();
    assert_eq!((after.pool_bytes, after.used), (0, 0));
    assert_eq!(
        (after.read, after.unpacked),
        (u64::from(PAGES), counts.packed)
    );
    assert_eq!(after.pool_most, counts.pool_bytes);
}

#[test]
fn compressed_pages_outlive_a_broken_file_and_end_with_their_vm() {
    let limits = SwapLimits {
        capacity: 0,
        pool: 1 << 20,
    };
    let Some(bench) = bench_with(limits) else {
        return;
    };
    bench.store.0.no_writes.store(true, Ordering::Relaxed);
    bench.store.0.no_reads.store(true, Ordering::Relaxed);
    bench.fill(ALL, 5);
    assert_eq!(bench.swap_out(40).unwrap().swapped, 40);
    assert_eq!(bench.pager.counts().packed, 40);
    // What is overwritten as a whole, as by a device, gives its room back as well.
    bench.space.balloon(&[PpnRun::new(Ppn(0), PAGES / 2)]);
    assert!(bench.pager.counts().pool_bytes > 0);
    for ppn in ALL.iter().skip(PAGES as usize / 2) {
        assert!(bench.holds(ppn, 5), "{ppn:?}");
    }
    assert_eq!(bench.pager.counts().pool_bytes, 0);
    bench.fill(ALL, 6);
    assert!(bench.swap_out(10).unwrap().swapped > 0);
    bench.pmap.remove_space(VmId(1));
    assert_eq!(bench.pager.counts().pool_bytes, 0);
}

#[test]
fn a_page_that_can_not_be_read_is_told_of_and_never_made_up() {
    let Some(bench) = bench(1000) else { return };
    bench.fill(ALL, 2);
    bench.swap_out(PAGES).unwrap();
    bench.store.0.no_reads.store(true, Ordering::Relaxed);
    let space = Arc::clone(&bench.space);
    let (send, seen) = mpsc::channel();
    let toucher = thread::spawn(move || {
        send.send(space.with_page(Ppn(3), |page| page[4])).unwrap();
    });
    let lost = bench.lost.recv().unwrap();
    assert_eq!(lost.vm, VmId(1));
    assert!(
        lost.reason.contains("read back from swap"),
        "{}",
        lost.reason
    );
    let nothing = seen.recv_timeout(Duration::from_millis(50));
    assert!(nothing.is_err(), "who waits sees nothing: {nothing:?}");
    // The VM's vCPUs have left; what is left of its devices goes on.
    bench.space.abandon();
    assert_eq!(seen.recv().unwrap(), 0);
    toucher.join().unwrap();
    assert_eq!(bench.pager.counts().read_errors, 1);
    // Another VM is none the worse.
    bench.store.0.no_reads.store(false, Ordering::Relaxed);
    let bytes = u64::from(PAGES) * PAGE_BYTES;
    let other = bench.pmap.create_space(VmId(2), GroupId(0), bytes).unwrap();
    (other.access().memory())
        .write_slice(&[7; PAGE_SIZE], GuestAddress(0))
        .unwrap();
    other.settle();
    assert_eq!(other.swap_out(1, 1).unwrap().swapped, 1);
    assert_eq!(other.with_page(Ppn(0), |page| page[100]), 7);
}

#[test]
fn under_constant_swapping_no_write_is_lost() {
    let Some(bench) = bench(1000) else { return };
    let end = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicU32::new(0));
    let writers: Vec<_> = (0..2u32)
        .map(|writer| {
            let (space, end) = (Arc::clone(&bench.space), Arc::clone(&end));
            let rounds = Arc::clone(&rounds);
            thread::spawn(move || {
                // Each has its own pages, and adds one to a number in each of them, again and again.
                let pages = writer * 32..(writer + 1) * 32;
                let mut expected = 0u64;
                while !end.load(Ordering::Relaxed) {
                    for page in pages.clone() {
                        let at = GuestAddress(Ppn(page).address() + 8 * u64::from(page));
                        let access = space.access();
                        let memory = access.memory();
                        let found: u64 = memory.read_obj(at).unwrap();
                        assert_eq!(found, expected, "page {page}");
                        memory.write_obj(expected + 1, at).unwrap();
                    }
                    expected += 1;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut swapped = 0;
    while rounds.load(Ordering::Relaxed) < 60 || swapped < 500 {
        bench.space.settle();
        swapped += bench
            .space
            .swap_out(16, u64::from(rounds.load(Ordering::Relaxed)))
            .unwrap()
            .swapped;
        assert!(
            !writers.iter().any(thread::JoinHandle::is_finished),
            "a write was lost"
        );
    }
    end.store(true, Ordering::Relaxed);
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    check_kernel(&bench.pmap);
}

#[test]
fn touches_of_watched_pages_are_counted_once_reads_as_well_as_writes() {
    let Some(bench) = bench(1000) else { return };
    bench.fill(PpnRun::new(Ppn(0), 32), 3);
    bench.space.settle();
    // All pages are watched: private ones, and ones that were never touched.
    let watch = bench.space.watch(PAGES, 1).unwrap();
    let pages = watch.pages();
    assert!(pages > u64::from(PAGES) / 2);
    assert_eq!(bench.space.touched(&watch), 0);
    for ppn in ALL.iter() {
        let expected = if ppn.0 < 32 { 3 } else { 0 };
        let byte = bench.space.with_page(ppn, |page| page[50]);
        assert_eq!(byte, expected, "{ppn:?}");
    }
    assert_eq!(bench.space.end_watch(watch), pages);
    let watch = bench.space.watch(PAGES, 2).unwrap();
    assert_eq!(bench.space.end_watch(watch), 0, "nobody touched any");
    assert!((0..32).all(|ppn| bench.holds(Ppn(ppn), 3)));
    check_kernel(&bench.pmap);
}

#[test]
fn touches_of_frames_are_seen_page_by_page() {
    let Some(bench) = bench(1000) else { return };
    let mut frames = bench.pmap.frames().allocate(PAGES, GroupId(0)).unwrap();
    frames.bytes_mut().fill(1);
    let frames = frames.publish();
    (bench.space.access())
        .map_frames(Ppn(0), &frames, Mechanism::Disk)
        .unwrap();
    bench.fill(PpnRun::new(Ppn(60), 2), 4);
    bench.space.settle();
    let watch = bench.space.watch(PAGES, 3).unwrap();
    let pages = watch.pages();
    assert_eq!(bench.space.touched(&watch), 0);
    for ppn in 0..PAGES / 2 {
        assert_eq!(bench.space.with_page(Ppn(ppn), |page| page[9]), 1);
    }
    let touched = bench.space.end_watch(watch);
    assert!(
        (pages / 4..=pages * 3 / 4).contains(&touched),
        "{touched} of {pages}"
    );
    assert!(bench.holds(Ppn(60), 4) && bench.holds(Ppn(61), 4));
    check_kernel(&bench.pmap);
}
