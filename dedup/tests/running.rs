//! Scanners that run beside guests: threads write while pages are shared, and
//! every byte is checked.
#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod guest;

use guest::{Machine, config, page};
use mirrorball_dedup::{Order, Scanner, ScannerConfig, ScannerStats, ScannerThread, oracle};
use mirrorball_pmap::{GroupId, Page, Ppn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vm_memory::{Bytes, GuestAddress};

/// Waits until `done`, for up to a minute; what holds then is asserted by the
/// caller, so that a slow machine fails no test.
fn eventually(done: impl Fn() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

fn duplicates(machine: &Machine, vms: u32, pages: u32) {
    for vm in 0..vms {
        machine.fill(vm, 0..pages, |n| page(n.into()));
    }
}

#[test]
fn a_thread_shares_and_stops() {
    let machine = Machine::new(&[64, 64]);
    duplicates(&machine, 2, 64);
    let thread = ScannerThread::start(Scanner::new(machine.pmap.clone(), &config())).unwrap();
    assert!(eventually(|| machine.pmap.totals().mapped == 128));
    let stats = thread.stop();
    assert!(stats.cpu_seconds > 0.0 && stats.passes >= 2 && stats.index_bytes > 0);
    // Nothing happens any more.
    duplicates(&machine, 2, 32);
    std::thread::sleep(Duration::from_millis(20));
    machine.pmap.settle_all();
    assert_eq!(machine.pmap.totals().mapped, 64);
    machine.verify();
}

#[test]
fn a_paused_scanner_stands_still() {
    let machine = Machine::new(&[64, 64]);
    let thread = ScannerThread::start(Scanner::new(machine.pmap.clone(), &config())).unwrap();
    thread.pause();
    let passes = thread.stats().passes;
    duplicates(&machine, 2, 64);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(
        (thread.stats().passes, machine.pmap.totals().mapped),
        (passes, 0)
    );
    thread.resume();
    assert!(eventually(|| machine.pmap.totals().mapped == 128));
    // Paused threads stop, too.
    thread.pause();
    assert!(thread.stop().shared >= 128);
}

#[test]
fn mechanisms_are_switched_while_it_runs() {
    let machine = Machine::new(&[64, 64]);
    let off = ScannerConfig {
        content: false,
        zero: false,
        ..config()
    };
    let thread = ScannerThread::start(Scanner::new(machine.pmap.clone(), &off)).unwrap();
    for vm in 0..2 {
        machine.fill(
            vm,
            0..64,
            |n| if n < 8 { [0; 4096] } else { page(n.into()) },
        );
    }
    assert!(eventually(|| thread.stats().hashed >= 128));
    assert_eq!(machine.pmap.totals().reclaimed, 0);
    thread.set_zero(true);
    assert!(eventually(|| machine.pmap.totals().zero == 16));
    assert_eq!(machine.pmap.totals().mapped, 0);
    thread.set_content(true);
    assert!(eventually(|| machine.pmap.totals().mapped == 112));
    machine.verify();
}

/// A pass that would take minutes at its rate is left at once: the test would
/// run into its harness's limit otherwise.
#[test]
fn a_slow_pass_is_left_when_told_to_stop() {
    for limit in [
        ScannerConfig {
            pages_per_second: Some(1),
            ..config()
        },
        ScannerConfig {
            cpu_percent: Some(0.0001),
            ..config()
        },
        ScannerConfig {
            interval: Duration::from_secs(100_000),
            ..config()
        },
        ScannerConfig {
            order: Order::EsxRandom,
            pages_per_second: Some(1),
            ..config()
        },
    ] {
        let machine = Machine::new(&[2048]);
        duplicates(&machine, 1, 2048);
        let thread = ScannerThread::start(Scanner::new(machine.pmap.clone(), &limit)).unwrap();
        assert!(thread.stop().hashed < 2048, "{limit:?}");
    }
}

/// What writer `vm` writes to its page number `ppn` in its `turn`: contents
/// that other guests write, too, zeros, and contents of its own.
fn scripted(vm: u32, ppn: u32, turn: u64) -> Page {
    match (turn + u64::from(ppn)) % 4 {
        0 => [0; 4096],
        1 => page(u64::from(vm) << 48 | u64::from(ppn) << 32 | turn),
        _ => page(u64::from(ppn) + turn % 3),
    }
}

/// One guest: writes and verifies its pages until told to end. In each turn it
/// touches some of them; the rest rests and is shared.
fn live(machine: &Machine, vm: u32, pages: u32, quit: &AtomicBool) -> u64 {
    let space = machine.space(vm);
    let mut turns = vec![0_u64; pages as usize];
    let mut verified = 0;
    let mut random = u64::from(vm) + 1;
    let mut turn = 0;
    let access = |ppn| GuestAddress(Ppn(ppn).address());
    while !quit.load(Ordering::Relaxed) {
        turn += 1;
        for _ in 0..pages / 8 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let ppn = u32::try_from(random >> 33).unwrap() % pages;
            turns[ppn as usize] = turn;
            space
                .access()
                .memory()
                .write_slice(&scripted(vm, ppn, turn), access(ppn))
                .unwrap();
        }
        for (ppn, turn) in (0..).zip(&turns) {
            let mut found = [0; 4096];
            space
                .access()
                .memory()
                .read_slice(&mut found, access(ppn))
                .unwrap();
            let expected = if *turn == 0 {
                [0; 4096]
            } else {
                scripted(vm, ppn, *turn)
            };
            assert!(found == expected, "vm {vm} page {ppn} turn {turn}");
            verified += 1;
        }
        std::thread::yield_now();
    }
    verified
}

fn torture(order: Order, threads: usize) {
    const PAGES: u32 = 192;
    let machine = Machine::new(&[u64::from(PAGES); 3]);
    let quit = AtomicBool::new(false);
    // No settling: pages are hashed while they are being written.
    let config = ScannerConfig {
        order,
        threads,
        settle: 0,
        ..config()
    };
    let thread = ScannerThread::start(Scanner::new(machine.pmap.clone(), &config)).unwrap();
    let verified: u64 = std::thread::scope(|scope| {
        let guests: Vec<_> = (0..3)
            .map(|vm| {
                scope.spawn({
                    let (machine, quit) = (&machine, &quit);
                    move || live(machine, vm, PAGES, quit)
                })
            })
            .collect();
        // A guest that comes and goes, and mechanisms that are switched.
        let enough = |stats: ScannerStats| stats.shared > 100 && stats.zero_released > 100;
        let end = Instant::now() + Duration::from_secs(60);
        for round in 0.. {
            if round >= 12 && enough(thread.stats()) || Instant::now() > end {
                break;
            }
            machine.add(100 + round, GroupId(0), 64);
            machine.fill(100 + round, 0..64, |n| page(n.into()));
            std::thread::sleep(Duration::from_millis(20));
            machine.verify();
            thread.set_zero(round % 2 == 0);
            thread.set_content(round % 3 != 0);
            machine.remove(100 + round);
        }
        quit.store(true, Ordering::Relaxed);
        guests.into_iter().map(|guest| guest.join().unwrap()).sum()
    });
    let stats = thread.stop();
    assert!(verified >= u64::from(PAGES) * 3, "{verified}");
    assert!(stats.shared > 100 && stats.zero_released > 100, "{stats:?}");
    machine.pmap.settle_all();
    let totals = machine.pmap.totals();
    assert_eq!(totals.touched, totals.private + totals.mapped + totals.zero);
    let account = machine.pmap.kernel_account().unwrap();
    assert_eq!(
        account.total(),
        totals.used() * 4096,
        "{totals:?} {account:?}"
    );
}

#[test]
fn nothing_is_mixed_up_under_writers_dirty_aware() {
    torture(Order::DirtyAware, 1);
}

#[test]
fn nothing_is_mixed_up_under_writers_with_hashing_threads() {
    torture(Order::DirtyAware, 3);
}

#[test]
fn nothing_is_mixed_up_under_writers_sequential() {
    torture(Order::Sequential, 1);
}

#[test]
fn nothing_is_mixed_up_under_writers_random() {
    torture(Order::EsxRandom, 1);
}

#[test]
fn hashing_in_parallel_finds_the_same() {
    let machine = Machine::new(&[4096, 4096]);
    for vm in 0..2_u32 {
        machine.fill(vm, 0..4000, |n| {
            page(if n % 7 == 0 {
                u64::from(n) << 20 | u64::from(vm)
            } else {
                n.into()
            })
        });
    }
    let mut scanner = Scanner::new(
        machine.pmap.clone(),
        &ScannerConfig {
            threads: 3,
            ..config()
        },
    );
    scanner.pass();
    let report = scanner.pass();
    assert_eq!(report.work.hashed, 8000);
    assert_eq!(
        machine.pmap.totals().reclaimed,
        oracle::count(&machine.pmap).reclaimable
    );
    machine.verify();
}

#[test]
fn a_pass_that_is_asked_for_waits_for_no_rate_and_no_pause() {
    let slow = ScannerConfig {
        pages_per_second: Some(1),
        interval: Duration::from_secs(3600),
        settle: 3,
        ..config()
    };
    let machine = Machine::new(&[64, 64]);
    let thread = ScannerThread::start(Scanner::new(machine.pmap.clone(), &slow)).unwrap();
    assert!(eventually(|| thread.stats().passes > 0));
    duplicates(&machine, 2, 64);
    let number = thread.hurry();
    assert!(eventually(|| thread.hurried() >= number));
    assert_eq!(
        machine.pmap.totals().mapped,
        128,
        "what was just written is looked at, and one pass is enough"
    );
    // By itself it is as slow as before.
    let passes = thread.stats().passes;
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(thread.stats().passes, passes);
    machine.verify();
}
