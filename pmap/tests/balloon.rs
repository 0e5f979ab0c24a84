//! Memory that guests give up leaves at once, whatever lies below it and whatever they say.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use common::check_kernel;
use mirrorball_pmap::*;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

const PAGES: u32 = 64;

fn pmap(vma_budget: Option<usize>) -> Arc<Pmap> {
    Pmap::new(&PmapConfig {
        frame_capacity: 1 << 28,
        vma_budget,
        tracking: true,
        guest_fault: None,
    })
    .unwrap()
}

fn space(pmap: &Arc<Pmap>, vm: u32) -> Arc<AddressSpace> {
    pmap.create_space(VmId(vm), GroupId(0), u64::from(PAGES) * PAGE_BYTES)
        .unwrap()
}

fn run(start: u32, pages: u32) -> PpnRun {
    PpnRun::new(Ppn(start), pages)
}

fn fill(space: &AddressSpace, run: PpnRun, byte: u8) {
    let bytes = vec![byte; run.pages as usize * PAGE_SIZE];
    space
        .access()
        .memory()
        .write_slice(&bytes, GuestAddress(run.start.address()))
        .unwrap();
}

fn all_are(space: &AddressSpace, run: PpnRun, byte: u8) -> bool {
    run.iter()
        .all(|ppn| space.with_page(ppn, |page| page.iter().all(|&b| b == byte)))
}

/// Pages `at..at + pages` of the space name new frames filled with `byte`.
fn map(pmap: &Pmap, space: &AddressSpace, at: u32, pages: u32, byte: u8) {
    let mut frames = pmap.frames().allocate(pages, GroupId(0)).unwrap();
    frames.bytes_mut().fill(byte);
    let frames = frames.publish();
    space
        .access()
        .map_frames(Ppn(at), &frames, Mechanism::Disk)
        .unwrap();
}

#[test]
fn memory_leaves_at_once_even_what_the_books_do_not_know_yet() {
    let pmap = pmap(None);
    let space = space(&pmap, 1);
    fill(&space, run(0, 32), 7);
    let outcome = space.balloon(&[run(8, 8), run(4, 2)]);
    assert_eq!((outcome.given, outcome.refused), (10, 0));
    assert_eq!(space.private_pages_now().unwrap(), 22);
    assert_eq!(space.totals().ballooned, 10);
    assert!(all_are(&space, run(8, 8), 0) && all_are(&space, run(4, 2), 0));
    assert!(all_are(&space, run(6, 2), 7) && all_are(&space, run(16, 16), 7));
    space.settle();
    assert_eq!(space.totals().ballooned, 10, "a read takes nothing back");

    let outcome = space.discard(&[run(0, 4)]);
    assert_eq!((outcome.given, outcome.in_use), (4, 4));
    assert_eq!(space.private_pages_now().unwrap(), 18);
    assert_eq!(space.state(Ppn(0)), PageState::Untouched);
}

#[test]
fn a_page_that_is_written_in_the_balloon_is_the_guests_again() {
    let pmap = pmap(None);
    let space = space(&pmap, 1);
    space.balloon(&[run(0, 4)]);
    fill(&space, run(1, 1), 9);
    space.settle();
    assert_eq!(space.state(Ppn(1)), PageState::Private);
    assert_eq!((space.totals().ballooned, space.totals().private), (3, 1));
    assert_eq!(space.unballoon(&[run(0, 4), run(0, 4)]), 3);
    assert!(all_are(&space, run(1, 1), 9), "taking out changes nothing");
    assert_eq!(space.totals().ballooned, 0);
}

#[test]
fn giving_up_an_overlays_pages_uncovers_no_frame_and_frees_it() {
    let pmap = pmap(None);
    let space = space(&pmap, 1);
    map(&pmap, &space, 0, 8, 5);
    // A broken page has the frame below it still.
    fill(&space, run(2, 1), 6);
    space.settle();
    assert_eq!(pmap.totals().frames, 7);
    let outcome = space.balloon(&[run(2, 4)]);
    assert_eq!((outcome.given, outcome.in_use), (4, 4));
    assert!(all_are(&space, run(2, 4), 0));
    assert!(all_are(&space, run(0, 2), 5) && all_are(&space, run(6, 2), 5));
    assert_eq!((pmap.totals().frames, space.totals().mapped), (4, 4));
    space.discard(&[run(0, 8)]);
    assert!(all_are(&space, run(0, 8), 0));
    assert_eq!((pmap.totals().frames, pmap.totals().vmas), (0, 1));
    let kernel = pmap.kernel_account().unwrap();
    assert_eq!((kernel.private_bytes, kernel.frame_bytes), (0, 0));
}

#[test]
fn pages_that_are_not_the_guests_to_give_are_refused() {
    let pmap = pmap(None);
    let space = space(&pmap, 1);
    fill(&space, run(0, PAGES), 3);
    let wild = [
        run(PAGES, 1),
        run(PAGES - 1, 2),
        run(u32::MAX, 1),
        run(u32::MAX, u32::MAX),
        run(0, 0),
    ];
    for wild in wild {
        assert_eq!(space.balloon(&[wild]).refused, u64::from(wild.pages));
        assert_eq!(space.discard(&[wild]).given, 0);
        assert_eq!(space.unballoon(&[wild]), 0);
    }
    assert!(all_are(&space, run(0, PAGES), 3));
    pmap.remove_space(VmId(1));
    assert_eq!(space.balloon(&[run(0, 4)]).refused, 4);
    assert_eq!(space.totals().ballooned, 0);
}

#[test]
fn without_mappings_to_spare_only_what_needs_more_of_them_stays() {
    // One for the space, two for the overlay in its middle, and no more.
    let pmap = pmap(Some(3));
    let space = space(&pmap, 1);
    fill(&space, run(0, PAGES), 3);
    map(&pmap, &space, 8, 8, 5);
    let outcome = space.balloon(&[run(4, 6)]);
    assert_eq!(
        (outcome.given, outcome.refused),
        (6, 0),
        "an edge costs none"
    );
    let outcome = space.balloon(&[run(12, 1), run(30, 2)]);
    assert_eq!((outcome.given, outcome.refused), (2, 1));
    assert!(
        all_are(&space, run(12, 1), 5),
        "a refused page is as it was"
    );
    let outcome = space.balloon(&[run(0, PAGES)]);
    assert_eq!((outcome.given, outcome.refused), (u64::from(PAGES), 0));
    assert_eq!(pmap.totals().vmas, 1);
}

#[test]
fn scanners_leave_the_balloon_alone() {
    let pmap = pmap(None);
    let space = space(&pmap, 1);
    space.balloon(&[run(0, 8)]);
    space.release_zero(&[run(0, PAGES)]);
    let totals = pmap.totals();
    assert_eq!((totals.ballooned, totals.zero), (8, u64::from(PAGES) - 8));
    assert!(space.take_written().is_empty());
}

/// A few numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(limit)).unwrap()
    }
}

/// Writes to all pages; those of the lower half must read as they were written last.
fn guest(space: &AddressSpace, rounds: u32) {
    let (mut numbers, mut last) = (Numbers(7), [0_u8; PAGES as usize / 2]);
    for _ in 0..rounds {
        let page = numbers.below(PAGES);
        let byte = u8::try_from(numbers.below(3)).unwrap();
        fill(space, run(page, 1), byte);
        if let Some(last) = last.get_mut(page as usize) {
            *last = byte;
        }
    }
    for (page, &byte) in (0..).zip(&last) {
        assert!(all_are(space, run(page, 1), byte), "page {page}");
    }
}

/// Gives up runs of the upper half, and takes them back.
fn giver(space: &AddressSpace, rounds: u32) {
    let mut numbers = Numbers(11);
    for round in 0..rounds {
        let half = PAGES / 2;
        let start = numbers.below(half);
        let some = run(half + start, 1 + numbers.below(half - start));
        match round % 3 {
            0 => space.balloon(&[some]).given,
            1 => space.discard(&[some]).given,
            _ => space.unballoon(&[some]),
        };
    }
}

/// Shares, gives zeros back and settles, as a scanner does.
fn scanner(pmap: &Pmap, space: &AddressSpace, rounds: u32) {
    let mut numbers = Numbers(13);
    for _ in 0..rounds {
        let mut frames = pmap.frames().allocate(4, GroupId(0)).unwrap();
        frames.bytes_mut().fill(1);
        let frames = frames.publish();
        let at = Ppn(numbers.below(PAGES - 3));
        let candidate = ShareCandidate {
            at,
            frames: &frames,
        };
        space.share(&[candidate], Mechanism::Content);
        space.release_zero(&[run(numbers.below(PAGES), 1)]);
        drop(space.take_written());
    }
}

#[test]
fn writing_giving_and_sharing_at_once_lose_no_byte_and_no_page() {
    const ROUNDS: u32 = 3000;
    let pmap = pmap(None);
    let space = space(&pmap, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| guest(&space, 4 * ROUNDS));
        scope.spawn(|| giver(&space, ROUNDS));
        scope.spawn(|| scanner(&pmap, &space, ROUNDS / 4));
    });
    check_kernel(&pmap);
    let states = space.states(run(0, PAGES));
    let ballooned = states
        .iter()
        .filter(|state| **state == PageState::Ballooned);
    assert_eq!(pmap.totals().ballooned, ballooned.count() as u64);
    assert!(
        states[..PAGES as usize / 2]
            .iter()
            .all(|state| *state != PageState::Ballooned)
    );
}
