//! What scanners do to real address spaces: the test is the guest and writes
//! through the monitor's access, as a device would.
#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod guest;

use guest::{Machine, config, page};
use mirrorball_dedup::{Order, Scanner, ScannerConfig, oracle};
use mirrorball_pmap::{GroupId, Mechanism, PageState, PinnedFrames, Ppn, PpnRun};

#[test]
fn equal_pages_of_several_vms_are_shared_after_two_passes() {
    for vms in 2..=4_u32 {
        let machine = Machine::new(&vec![64; vms as usize]);
        for vm in 0..vms {
            machine.fill(vm, 0..50, |n| page(n.into()));
            machine.fill(vm, 50..60, |n| page(u64::from(n) << 32 | u64::from(vm)));
        }
        let mut scanner = Scanner::new(machine.pmap.clone(), &config());
        assert_eq!(scanner.pass().work.shared, 0, "written pages settle first");
        let report = scanner.pass();
        assert_eq!(report.work.shared, u64::from(50 * vms));
        assert_eq!(report.work.hashed, u64::from(60 * vms));
        machine.pmap.settle_all();
        let totals = machine.pmap.totals();
        assert_eq!(totals.shared, u64::from(50 * vms));
        assert_eq!(totals.frames, 50);
        assert_eq!(totals.reclaimed, u64::from(50 * vms) - 50);
        assert_eq!(totals.private, u64::from(10 * vms));
        machine.verify();
    }
}

#[test]
fn a_run_is_one_mapping_and_later_guests_join_it() {
    let machine = Machine::new(&[512, 512, 512]);
    for vm in 0..2 {
        machine.fill(vm, 100..400, |n| page(n.into()));
    }
    let before = machine.pmap.totals().vmas;
    let mut scanner = Scanner::new(machine.pmap.clone(), &config());
    scanner.pass();
    scanner.pass();
    assert_eq!(machine.pmap.totals().shared, 600);
    assert_eq!(
        machine.pmap.totals().vmas,
        before + 4,
        "a run and the rest behind it, in each VM"
    );
    // The third guest has the same run at another place.
    machine.fill(2, 7..307, |n| page(u64::from(n) + 93));
    scanner.pass();
    scanner.pass();
    assert_eq!(machine.pmap.totals().shared, 900);
    assert_eq!(machine.pmap.totals().frames, 300);
    assert_eq!(machine.pmap.totals().vmas, before + 6);
    machine.verify();
}

#[test]
fn duplicates_inside_one_vm_are_shared() {
    let machine = Machine::new(&[64]);
    machine.fill(0, 0..64, |n| page(u64::from(n % 4)));
    let mut scanner = Scanner::new(machine.pmap.clone(), &config());
    scanner.pass();
    scanner.pass();
    let totals = machine.pmap.totals();
    assert_eq!(
        (totals.shared, totals.frames, totals.reclaimed),
        (64, 4, 60)
    );
    machine.verify();
}

#[test]
fn what_guests_have_twice_does_not_cut_the_runs_that_they_share() {
    let machine = Machine::new(&[256, 256]);
    for vm in 0..2 {
        machine.fill(vm, 0..100, |n| page(n.into()));
        machine.fill(vm, 120..150, |n| page(u64::from(n * 7 % 100)));
    }
    let before = machine.pmap.totals().vmas;
    let mut scanner = Scanner::new(machine.pmap.clone(), &config());
    scanner.pass();
    scanner.pass();
    let totals = machine.pmap.totals();
    assert_eq!((totals.shared, totals.frames), (260, 100));
    // The run, the gap behind it, thirty single pages and the rest, in each VM.
    assert_eq!(totals.vmas, before + 2 * 32);
    machine.verify();
}

#[test]
fn zero_pages_are_given_back_and_read_as_zero() {
    let machine = Machine::new(&[64]);
    machine.fill(0, 0..40, |n| page(n.into()));
    let mut scanner = Scanner::new(machine.pmap.clone(), &config());
    machine.fill(0, 10..30, |_| [0; 4096]);
    scanner.pass();
    let report = scanner.pass();
    assert_eq!(report.work.zero_released, 20);
    let totals = machine.pmap.totals();
    assert_eq!(
        (totals.zero, totals.reclaimed, totals.private, totals.frames),
        (20, 20, 20, 0)
    );
    machine.verify();
}

#[test]
fn groups_never_share() {
    let machine = Machine::new(&[]);
    for vm in 0..4 {
        machine.add(vm, GroupId(vm % 2), 32);
        machine.fill(vm, 0..32, |n| page(n.into()));
    }
    let mut scanner = Scanner::new(machine.pmap.clone(), &config());
    scanner.pass();
    scanner.pass();
    let totals = machine.pmap.totals();
    assert_eq!(
        (totals.shared, totals.frames),
        (128, 64),
        "two copies: one per group"
    );
    for ppn in 0..32 {
        let frame = |vm| match machine.space(vm).state(Ppn(ppn)) {
            PageState::Mapped(mpn, _) => mpn,
            other => panic!("{other:?}"),
        };
        assert_eq!(frame(0), frame(2));
        assert_ne!(frame(0), frame(1));
    }
}

#[test]
fn a_hint_whose_page_was_written_is_dropped() {
    let machine = Machine::new(&[16, 16]);
    machine.fill(0, 0..8, |n| page(n.into()));
    let mut scanner = Scanner::new(machine.pmap.clone(), &config());
    scanner.pass();
    scanner.pass();
    machine.fill(0, 0..3, |n| page(1000 + u64::from(n)));
    machine.fill(1, 0..8, |n| page(n.into()));
    scanner.pass();
    assert_eq!(scanner.stats().stale_hints, 3);
    let report = scanner.pass();
    assert_eq!(report.work.shared, 10, "five pages of each");
    assert_eq!(scanner.stats().false_hints, 0, "tracking saw all of them");
    machine.verify();
}

#[test]
fn without_tracking_a_changed_hint_is_found_at_the_match() {
    for order in [Order::EsxRandom, Order::Sequential] {
        let machine = Machine::new(&[16, 16]);
        machine.fill(0, 0..8, |n| page(n.into()));
        let config = ScannerConfig {
            order,
            settle: 0,
            ..config()
        };
        let mut scanner = Scanner::new(machine.pmap.clone(), &config);
        for _ in 0..12 {
            scanner.pass();
        }
        machine.fill(1, 0..8, |n| page(n.into()));
        machine.fill(0, 0..8, |n| page(1000 + u64::from(n)));
        for _ in 0..12 {
            scanner.pass();
        }
        machine.fill(0, 0..8, |n| page(n.into()));
        for _ in 0..40 {
            scanner.pass();
        }
        assert_eq!(machine.pmap.totals().shared, 16, "{order:?}");
        machine.verify();
    }
}

#[test]
fn a_broken_page_is_shared_again_when_its_content_returns() {
    let machine = Machine::new(&[64, 64]);
    for vm in 0..2 {
        machine.fill(vm, 0..64, |n| page(n.into()));
    }
    let mut scanner = Scanner::new(machine.pmap.clone(), &config());
    scanner.pass();
    scanner.pass();
    let vmas = machine.pmap.totals().vmas;
    machine.fill(1, 20..30, |_| page(99));
    scanner.pass();
    assert_eq!(machine.pmap.totals().broken, 10);
    assert_eq!(machine.pmap.totals().reclaimed, 54);
    machine.fill(1, 20..30, |n| page(n.into()));
    scanner.pass();
    scanner.pass();
    let totals = machine.pmap.totals();
    assert_eq!(
        (totals.reclaimed, totals.frames, totals.vmas),
        (64, 64, vmas)
    );
    machine.verify();
}

#[test]
fn all_orders_reach_the_same_state() {
    let mut states = Vec::new();
    for order in [Order::DirtyAware, Order::Sequential, Order::EsxRandom] {
        let machine = Machine::new(&[128, 128, 128]);
        for vm in 0..3_u32 {
            machine.fill(vm, 0..100, |n| match n % 5 {
                0 => [0; 4096],
                1 => page(u64::from(n) << 8 | u64::from(vm)),
                2 => page(7),
                _ => page(n.into()),
            });
        }
        let mut scanner = Scanner::new(machine.pmap.clone(), &ScannerConfig { order, ..config() });
        let passes = if order == Order::EsxRandom { 30 } else { 3 };
        for _ in 0..passes {
            scanner.pass();
        }
        let totals = machine.pmap.totals();
        states.push((
            totals.shared,
            totals.reclaimed,
            totals.private,
            totals.frames,
            totals.zero,
        ));
        assert_eq!(totals.reclaimed, oracle::count(&machine.pmap).reclaimable);
        machine.verify();
    }
    assert_eq!(states[0], (60 + 60 + 120, 60 + 59 + 80, 60, 41, 60));
    assert_eq!(states[1], states[0]);
    assert_eq!(states[2], states[0]);
}

#[test]
fn a_new_scanner_finds_what_another_has_taken_note_of() {
    let machine = Machine::new(&[32, 32]);
    for vm in 0..2 {
        machine.fill(vm, 0..32, |n| page(n.into()));
        let _taken = machine.space(vm).take_written();
    }
    let mut scanner = Scanner::new(machine.pmap.clone(), &config());
    scanner.pass();
    scanner.pass();
    assert_eq!(machine.pmap.totals().shared, 64);
}

#[test]
fn vms_come_and_go() {
    let machine = Machine::new(&[64, 64]);
    machine.fill(0, 0..64, |n| page(n.into()));
    let mut scanner = Scanner::new(machine.pmap.clone(), &config());
    scanner.pass();
    scanner.pass();
    // The hints name a VM that is gone; what matches them becomes the hint.
    machine.remove(0);
    machine.fill(1, 0..64, |n| page(n.into()));
    scanner.pass();
    scanner.pass();
    assert_eq!(machine.pmap.totals().shared, 0);
    machine.add(2, GroupId(0), 64);
    machine.fill(2, 0..64, |n| page(n.into()));
    scanner.pass();
    scanner.pass();
    assert_eq!(machine.pmap.totals().reclaimed, 64);
    // The frames die with their guests; their entries are replaced.
    machine.remove(1);
    machine.remove(2);
    assert_eq!(machine.pmap.totals().frames, 0);
    for vm in 3..5 {
        machine.add(vm, GroupId(0), 64);
        machine.fill(vm, 0..64, |n| page(n.into()));
        scanner.pass();
        scanner.pass();
    }
    assert_eq!(machine.pmap.totals().reclaimed, 64);
    machine.verify();
}

#[test]
fn switched_off_mechanisms_catch_up_when_switched_on() {
    let machine = Machine::new(&[64, 64]);
    for vm in 0..2 {
        machine.fill(
            vm,
            0..64,
            |n| if n < 10 { [0; 4096] } else { page(n.into()) },
        );
    }
    let off = ScannerConfig {
        zero: false,
        content: false,
        ..config()
    };
    let mut scanner = Scanner::new(machine.pmap.clone(), &off);
    scanner.pass();
    scanner.pass();
    assert_eq!(machine.pmap.totals().reclaimed, 0);
    scanner.set_zero(true);
    scanner.pass();
    assert_eq!(machine.pmap.totals().reclaimed, 20);
    scanner.set_content(true);
    scanner.pass();
    assert_eq!(machine.pmap.totals().reclaimed, 20 + 54);
    machine.verify();
}

#[test]
fn without_hints_every_page_gets_a_frame_and_equal_ones_the_same() {
    let machine = Machine::new(&[64, 64]);
    for vm in 0..2 {
        machine.fill(vm, 0..60, |n| page(u64::from(n / 2)));
    }
    let mut scanner = Scanner::new(
        machine.pmap.clone(),
        &ScannerConfig {
            hints: false,
            ..config()
        },
    );
    scanner.pass();
    scanner.pass();
    let totals = machine.pmap.totals();
    assert_eq!((totals.shared, totals.frames, totals.private), (120, 30, 0));
    machine.verify();
}

#[test]
fn used_up_mappings_are_no_error_and_tried_again() {
    let machine = Machine::with_budget(&[256; 4], 40);
    let scatter = |vm: u32| {
        // Every other page is a duplicate: each takes two mappings.
        machine.fill(vm, 0..256, |n| {
            page(if n % 2 == 0 {
                n.into()
            } else {
                u64::from(n) << 8 | u64::from(vm)
            })
        });
    };
    let mut scanner = Scanner::new(machine.pmap.clone(), &config());
    for vm in 0..4 {
        scatter(vm);
        scanner.pass();
        scanner.pass();
    }
    assert!(scanner.stats().refused > 200);
    assert!(machine.pmap.totals().vmas <= 40);
    assert_eq!(machine.space(3).totals().mapped, 0);
    machine.verify();
    // Room comes back.
    machine.remove(0);
    machine.remove(1);
    for _ in 0..64 {
        scanner.pass();
    }
    assert!(machine.space(3).totals().mapped > 0);
    assert!(machine.pmap.totals().vmas <= 40);
    machine.verify();
}

#[test]
fn a_quiet_machine_is_not_looked_at() {
    let machine = Machine::new(&[512; 4]);
    for vm in 0..4 {
        machine.fill(vm, 0..512, |n| page(n.into()));
    }
    let mut scanner = Scanner::new(machine.pmap.clone(), &config());
    for _ in 0..3 {
        scanner.pass();
    }
    let report = scanner.pass();
    assert!(report.complete);
    assert_eq!(
        (report.work.seen, report.work.hashed, report.work.compared),
        (0, 0, 0)
    );
}

/// Frames that a device mapped, as a disk cache does.
fn disk(machine: &Machine, contents: impl IntoIterator<Item = u64>) -> PinnedFrames {
    let contents: Vec<_> = contents.into_iter().map(page).collect();
    let pages = u32::try_from(contents.len()).unwrap();
    let mut frames = machine.pmap.frames().allocate(pages, GroupId(0)).unwrap();
    frames.bytes_mut().copy_from_slice(contents.as_flattened());
    frames.publish()
}

#[test]
fn private_copies_of_what_a_disk_mapped_share_its_frames() {
    for private_first in [false, true] {
        let machine = Machine::new(&[128, 128]);
        let mut scanner = Scanner::new(machine.pmap.clone(), &config());
        let copy = || machine.fill(1, 30..70, |n| page(n.into()));
        if private_first {
            copy();
            scanner.pass();
            scanner.pass();
        }
        let frames = disk(&machine, 10..110);
        machine
            .space(0)
            .access()
            .map_frames(Ppn(0), &frames, Mechanism::Disk)
            .unwrap();
        drop(frames);
        if !private_first {
            copy();
        }
        scanner.pass();
        scanner.pass();
        let totals = machine.pmap.totals();
        assert_eq!(
            (totals.frames, totals.private, totals.reclaimed),
            (100, 0, 40),
            "{private_first}"
        );
        assert!(totals.vmas <= 6, "runs stay runs: {}", totals.vmas);
        machine.verify();
        assert_eq!(scanner.pass().work.seen, 0);
    }
}

#[test]
fn equal_frames_of_a_disk_become_one() {
    let machine = Machine::new(&[128, 128]);
    let (first, second) = (disk(&machine, 0..50), disk(&machine, 0..50));
    machine
        .space(0)
        .access()
        .map_frames(Ppn(0), &first, Mechanism::Disk)
        .unwrap();
    machine
        .space(1)
        .access()
        .map_frames(Ppn(50), &second, Mechanism::Disk)
        .unwrap();
    drop((first, second));
    let mut scanner = Scanner::new(machine.pmap.clone(), &config());
    scanner.pass();
    let totals = machine.pmap.totals();
    assert_eq!(
        (totals.frames, totals.shared, totals.reclaimed),
        (50, 100, 50)
    );
    for ppn in 0..50 {
        assert!(
            machine
                .space(1)
                .with_page(Ppn(50 + ppn), |found| *found == page(ppn.into()))
        );
    }
}

#[test]
fn pages_that_keep_being_written_are_left_alone() {
    for settle in 1..=3_u32 {
        let machine = Machine::new(&[64, 64]);
        let hot = |turn: u64| {
            for vm in 0..2 {
                machine.fill(vm, 0..32, |n| page(u64::from(n) + turn));
            }
        };
        for vm in 0..2 {
            machine.fill(vm, 32..64, |n| page(n.into()));
        }
        let mut scanner = Scanner::new(machine.pmap.clone(), &ScannerConfig { settle, ..config() });
        for turn in 0..6 {
            hot(turn);
            scanner.pass();
            let quiet = if turn >= u64::from(settle) { 64 } else { 0 };
            assert_eq!(
                scanner.stats().hashed,
                quiet,
                "settle {settle}, turn {turn}"
            );
        }
        // Cooled down, they settle like all others.
        for _ in 0..settle {
            assert_eq!(machine.pmap.totals().shared, 64);
            scanner.pass();
        }
        assert_eq!(machine.pmap.totals().shared, 128);
        machine.verify();
    }
}

#[test]
fn what_a_network_copied_is_shared_first_and_buffers_that_come_back_are_not() {
    for network_hints in [true, false] {
        let machine = Machine::new(&[64, 64]);
        let config = ScannerConfig {
            network_hints,
            ..config()
        };
        let mut scanner = Scanner::new(machine.pmap.clone(), &config);
        let arrive = |pages: std::ops::Range<u32>, content: u64| {
            for vm in 0..2 {
                machine.fill(vm, pages.clone(), |n| page(u64::from(n) + content));
                let run = PpnRun::new(Ppn(pages.start), pages.end - pages.start);
                machine.space(vm).access().note_carried(run);
            }
        };
        machine.fill(0, 40..50, |n| page(n.into()));
        machine.fill(1, 40..50, |n| page(n.into()));
        arrive(0..16, 1000);
        let first = scanner.pass().work;
        let expected = if network_hints { 32 } else { 0 };
        assert_eq!((first.shared, first.network_hints), (expected, expected));
        arrive(0..16, 2000);
        let second = scanner.pass().work;
        assert_eq!((second.shared, second.network_hints), (20, 0));
        scanner.pass();
        assert_eq!(machine.pmap.totals().shared, 52, "found like any other");
        machine.verify();
    }
}
