//! Sharing, breaking and giving back, against the real kernel; the "guest" writes as a device does.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use common::check_kernel;
use mirrorball_pmap::*;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

fn machine(pages: u64, vms: u32) -> (Arc<Pmap>, Vec<Arc<AddressSpace>>) {
    let pmap = Pmap::new(&PmapConfig {
        frame_capacity: 1 << 30,
        ..PmapConfig::default()
    })
    .unwrap();
    let spaces = (0..vms)
        .map(|vm| {
            pmap.create_space(VmId(vm), GroupId(0), pages * PAGE_BYTES)
                .unwrap()
        })
        .collect();
    (pmap, spaces)
}

fn write(space: &AddressSpace, ppn: u32, byte: u8) {
    space
        .access()
        .memory()
        .write_slice(&[byte; PAGE_SIZE], GuestAddress(Ppn(ppn).address()))
        .unwrap();
}

fn read(space: &AddressSpace, ppn: u32) -> Vec<u8> {
    let mut bytes = vec![0; PAGE_SIZE];
    space
        .access()
        .memory()
        .read_slice(&mut bytes, GuestAddress(Ppn(ppn).address()))
        .unwrap();
    bytes
}

fn frames(pmap: &Pmap, bytes: &[u8]) -> PinnedFrames {
    let mut new = pmap
        .frames()
        .allocate(u32::try_from(bytes.len()).unwrap(), GroupId(0))
        .unwrap();
    for (page, &byte) in new.bytes_mut().chunks_exact_mut(PAGE_SIZE).zip(bytes) {
        page.fill(byte);
    }
    new.publish()
}

#[test]
fn equal_pages_share_and_a_write_breaks_only_the_writer() {
    let (pmap, spaces) = machine(64, 3);
    for space in &spaces {
        (8..24).for_each(|ppn| write(space, ppn, u8::try_from(ppn).unwrap()));
    }
    let contents: Vec<u8> = (8..24).collect();
    let pinned = frames(&pmap, &contents);
    for space in &spaces {
        let outcome = space.share(
            &[ShareCandidate {
                at: Ppn(8),
                frames: &pinned,
            }],
            Mechanism::Content,
        );
        assert_eq!(
            (outcome.shared, outcome.different, outcome.fences),
            (16, 0, 1)
        );
        assert_eq!(outcome.shared_runs, [PpnRun::new(Ppn(8), 16)]);
    }
    drop(pinned);
    let totals = pmap.totals();
    assert_eq!(
        (totals.frames, totals.shared, totals.reclaimed),
        (16, 48, 32)
    );
    assert_eq!(totals.by_mechanism, [0, 0, 32]);
    check_kernel(&pmap);

    write(&spaces[1], 10, 99);
    assert_eq!(read(&spaces[0], 10), [10; PAGE_SIZE]);
    assert_eq!(read(&spaces[1], 10), [99; PAGE_SIZE]);
    assert_eq!(
        spaces[1]
            .take_written()
            .iter()
            .find(|run| run.start <= Ppn(10) && Ppn(10) < run.end())
            .unwrap()
            .pages,
        1
    );
    let totals = pmap.totals();
    assert_eq!(
        (
            totals.frames,
            totals.shared,
            totals.reclaimed,
            totals.private,
            totals.broken
        ),
        (16, 47, 31, 1, 1)
    );
    check_kernel(&pmap);
}

#[test]
fn neighbouring_runs_of_a_guest_outside_are_shared_together() {
    let (pmap, spaces) = machine(64, 2);
    for space in &spaces {
        (8..24).for_each(|ppn| write(space, ppn, u8::try_from(ppn).unwrap()));
        write(space, 17, 99);
    }
    // Frames in another order than the pages.
    let runs = [16..24, 8..12, 12..16];
    let mut made = runs.map(|run: std::ops::Range<u8>| {
        let first = Ppn(u32::from(run.start));
        (first, frames(&pmap, &run.collect::<Vec<_>>()))
    });
    made.sort_by_key(|(at, _)| *at);
    let candidates: Vec<_> = made
        .iter()
        .map(|(at, frames)| ShareCandidate { at: *at, frames })
        .collect();
    let outside = spaces[0].share(&candidates, Mechanism::Content);
    let inside = {
        let _inside = spaces[1].enter_guest();
        spaces[1].share(&candidates, Mechanism::Content)
    };
    for outcome in [&outside, &inside] {
        assert_eq!((outcome.shared, outcome.different), (15, 1));
        let shared = [PpnRun::new(Ppn(8), 9), PpnRun::new(Ppn(18), 6)];
        assert_eq!(outcome.shared_runs, shared);
    }
    assert_eq!(outside.fences, 1);
    assert!(inside.fences > 1);
    for space in &spaces {
        for ppn in 8..24 {
            let content = if ppn == 17 {
                99
            } else {
                u8::try_from(ppn).unwrap()
            };
            assert_eq!(read(space, ppn), [content; PAGE_SIZE]);
        }
    }
    check_kernel(&pmap);
}

#[test]
fn a_page_that_differs_is_left_alone() {
    let (pmap, spaces) = machine(16, 1);
    (0..8).for_each(|ppn| write(&spaces[0], ppn, 7));
    write(&spaces[0], 3, 8);
    let outcome = spaces[0].share(
        &[ShareCandidate {
            at: Ppn(0),
            frames: &frames(&pmap, &[7; 8]),
        }],
        Mechanism::Content,
    );
    assert_eq!((outcome.shared, outcome.different), (7, 1));
    assert_eq!(read(&spaces[0], 3), [8; PAGE_SIZE]);
    write(&spaces[0], 3, 9);
    assert_eq!(
        spaces[0].state(Ppn(2)),
        PageState::Mapped(Mpn(2), Mechanism::Content)
    );
    check_kernel(&pmap);
}

#[test]
fn frames_live_as_long_as_someone_counts_on_them() {
    let (pmap, spaces) = machine(16, 2);
    let pinned = frames(&pmap, &[5, 6]);
    let weak = pinned.weak_all();
    for space in &spaces {
        space
            .access()
            .map_frames(Ppn(4), &pinned, Mechanism::Disk)
            .unwrap();
    }
    drop(pinned);
    assert_eq!(pmap.frames().pin_run(&weak).unwrap().pages(), 2);
    pmap.remove_space(VmId(0));
    assert_eq!(read(&spaces[1], 5), [6; PAGE_SIZE]);
    write(&spaces[1], 4, 1);
    spaces[1].settle();
    assert!(
        pmap.frames().pin(weak[0]).is_none(),
        "its last page was broken"
    );
    assert_eq!(pmap.frames().pin(weak[1]).unwrap().page(0), &[6; PAGE_SIZE]);
    pmap.remove_space(VmId(1));
    let spare = FrameCounts {
        spare: 2,
        ..FrameCounts::default()
    };
    assert_eq!(pmap.frames().counts(), spare);
    assert!(pmap.frames().pin(weak[1]).is_none());
    assert_eq!(pmap.kernel_account().unwrap().frame_bytes, 0);
}

#[test]
fn freed_frames_are_zero_again_and_many_are_given_back() {
    let (pmap, _) = machine(16, 0);
    drop(frames(&pmap, &[7; 100]));
    assert_eq!(pmap.frames().counts().spare, 100);
    let mut again = pmap.frames().allocate(40, GroupId(1)).unwrap();
    assert!(
        again.bytes_mut().iter().all(|&byte| byte == 0),
        "another's bytes are seen"
    );
    drop(again);
    drop(frames(&pmap, &[7; 5000]));
    assert_eq!(pmap.frames().counts(), FrameCounts::default());
    assert_eq!(pmap.frames().resident_bytes().unwrap(), 0);
}

#[test]
fn a_broken_page_that_became_equal_again_needs_no_new_mapping() {
    let (pmap, spaces) = machine(64, 2);
    let pinned = frames(&pmap, &[1; 32]);
    for space in &spaces {
        space
            .access()
            .map_frames(Ppn(0), &pinned, Mechanism::Disk)
            .unwrap();
    }
    let vmas = pmap.totals().vmas;
    write(&spaces[0], 5, 2);
    assert_eq!(spaces[0].take_written(), [PpnRun::new(Ppn(5), 1)]);
    write(&spaces[0], 5, 1);
    let outcome = spaces[0].share(
        &[ShareCandidate {
            at: Ppn(5),
            frames: &pinned.slice(5, 1),
        }],
        Mechanism::Content,
    );
    assert_eq!(outcome.shared, 1);
    assert_eq!(pmap.totals().vmas, vmas);
    assert_eq!(pmap.totals().private, 0);
    check_kernel(&pmap);
}

#[test]
fn zero_pages_cost_nothing_and_stay_zero() {
    let (pmap, spaces) = machine(64, 1);
    let space = &spaces[0];
    let pinned = frames(&pmap, &[1; 8]);
    space
        .access()
        .map_frames(Ppn(0), &pinned, Mechanism::Disk)
        .unwrap();
    (0..32).for_each(|ppn| write(space, ppn, 0));
    write(space, 20, 3);
    space.settle();
    let outcome = space.release_zero(&[PpnRun::new(Ppn(0), 32)]);
    assert_eq!((outcome.released, outcome.different), (31, 1));
    for ppn in 0..32 {
        assert_eq!(read(space, ppn), [if ppn == 20 { 3 } else { 0 }; PAGE_SIZE]);
    }
    let totals = pmap.totals();
    assert_eq!(
        (totals.zero, totals.private, totals.shared, totals.reclaimed),
        (31, 1, 31, 31)
    );
    check_kernel(&pmap);
    write(space, 2, 4);
    check_kernel(&pmap);
    assert_eq!((pmap.totals().zero, pmap.totals().private), (30, 2));
}

#[test]
fn groups_never_share() {
    let (pmap, spaces) = machine(16, 1);
    let other = pmap
        .create_space(VmId(9), GroupId(1), 16 * PAGE_BYTES)
        .unwrap();
    write(&other, 0, 7);
    let pinned = frames(&pmap, &[7]);
    assert_eq!(
        other
            .share(
                &[ShareCandidate {
                    at: Ppn(0),
                    frames: &pinned
                }],
                Mechanism::Content
            )
            .refused,
        1
    );
    let refused = other.access().map_frames(Ppn(0), &pinned, Mechanism::Disk);
    assert_eq!(
        refused,
        Err(MapRefused::OtherGroup {
            frames: GroupId(0),
            vm: GroupId(1)
        })
    );
    assert_eq!(
        spaces[0]
            .access()
            .map_frames(Ppn(16), &pinned, Mechanism::Disk),
        Err(MapRefused::OutOfRange)
    );
}

#[test]
fn without_mappings_left_sharing_is_refused_and_nothing_breaks() {
    let pmap = Pmap::new(&PmapConfig {
        frame_capacity: 1 << 28,
        vma_budget: Some(10),
        ..PmapConfig::default()
    })
    .unwrap();
    let space = pmap
        .create_space(VmId(0), GroupId(0), 64 * PAGE_BYTES)
        .unwrap();
    let pinned = frames(&pmap, &[9]);
    let answers: Vec<_> = (0..16)
        .map(|n| {
            space
                .access()
                .map_frames(Ppn(n * 3), &pinned, Mechanism::Disk)
        })
        .collect();
    assert!(answers[0].is_ok());
    assert_eq!(answers[15], Err(MapRefused::NoBudget));
    write(&space, 0, 9);
    assert_eq!(
        space
            .share(
                &[ShareCandidate {
                    at: Ppn(0),
                    frames: &pinned
                }],
                Mechanism::Content
            )
            .refused,
        1
    );
    check_kernel(&pmap);
}

#[test]
fn writes_are_reported_once_and_again_when_they_happen_again() {
    let (pmap, spaces) = machine(1024, 1);
    if !pmap.tracking() {
        println!(
            "not run: 1 test of write tracking (needs Linux 6.7 and the right to use userfaultfd)"
        );
        return;
    }
    (100..200).for_each(|ppn| write(&spaces[0], ppn, 1));
    assert_eq!(spaces[0].take_written(), [PpnRun::new(Ppn(100), 100)]);
    assert_eq!(spaces[0].take_written(), []);
    write(&spaces[0], 150, 2);
    spaces[0].settle();
    assert_eq!(spaces[0].take_written(), [PpnRun::new(Ppn(150), 1)]);
    assert_eq!(spaces[0].take_written(), []);
}
