//! Large pages below guests' memory: used where they are asked for, broken where memory is wanted, and
//! counted as the kernel counts them.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use common::check_kernel;
use mirrorball_pmap::*;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

/// Pages of a large page.
const LARGE: u32 = 512;

/// A VM of some large pages; `None`, and said so, where the kernel has none to give.
fn machine(test: &str, blocks: u32) -> Option<(Arc<Pmap>, Arc<AddressSpace>)> {
    let pmap = Pmap::new(&PmapConfig {
        frame_capacity: 1 << 30,
        ..PmapConfig::default()
    })
    .unwrap();
    let bytes = u64::from(blocks * LARGE) * PAGE_BYTES;
    let space = pmap.create_space(VmId(1), GroupId(0), bytes).unwrap();
    if let Err(error) = space.allow_large_pages() {
        eprintln!("NOT RUN (1): {test}: no large pages here: {error}");
        return None;
    }
    write(&space, 0, 1);
    if large_bytes(&space) == 0 {
        eprintln!("NOT RUN (1): {test}: the kernel had no large page to give");
        return None;
    }
    Some((pmap, space))
}

fn write(space: &AddressSpace, ppn: u32, byte: u8) {
    let at = GuestAddress(Ppn(ppn).address());
    let access = space.access();
    access.memory().write_slice(&[byte; PAGE_SIZE], at).unwrap();
}

fn byte(space: &AddressSpace, ppn: u32) -> u8 {
    space.with_page(Ppn(ppn), |page| page[77])
}

/// Bytes of the space that are in mappings of 2 MiB.
fn large_bytes(space: &AddressSpace) -> u64 {
    let inside = space.host_address()..space.host_address() + space.bytes();
    let (mut here, mut sum) = (false, 0);
    for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some((start, _)) = first.split_once('-') {
            here = u64::from_str_radix(start, 16).is_ok_and(|start| inside.contains(&start));
        } else if here && first == "AnonHugePages:" {
            sum += words.next().unwrap().parse::<u64>().unwrap() << 10;
        }
    }
    sum
}

/// Whether the page is a part of a larger one, if one may ask (root).
fn is_part_of_large(space: &AddressSpace, ppn: u32) -> Option<bool> {
    use std::os::unix::fs::FileExt;
    const HEAD_OR_TAIL: u64 = 1 << 15 | 1 << 16;
    let number = |path, at| {
        let mut entry = [0; 8];
        let file = std::fs::File::open(path).ok()?;
        file.read_exact_at(&mut entry, at * 8).ok()?;
        Some(u64::from_ne_bytes(entry))
    };
    let address = space.host_address() + Ppn(ppn).address();
    let frame = number("/proc/self/pagemap", address / PAGE_BYTES)? & ((1 << 55) - 1);
    let flags = number("/proc/kpageflags", frame).filter(|_| frame != 0)?;
    Some(flags & HEAD_OR_TAIL != 0)
}

#[test]
fn the_first_touch_takes_all_of_a_large_page_and_the_books_say_so() {
    let Some((pmap, space)) = machine("first touch", 3) else {
        return;
    };
    check_kernel(&pmap);
    assert_eq!(space.totals().private, u64::from(LARGE));
    // Who only reads gets the kernel's large page of zeros, which is nobody's.
    assert_eq!(byte(&space, LARGE + 5), 0);
    check_kernel(&pmap);
    assert_eq!(space.totals().private, u64::from(LARGE));
    let _ = space.take_written();
    check_kernel(&pmap);
    write(&space, LARGE + 5, 9);
    check_kernel(&pmap);
    assert!(matches!(space.state(Ppn(LARGE + 5)), PageState::Private));
    assert_eq!((byte(&space, LARGE + 5), byte(&space, LARGE + 6)), (9, 0));
}

#[test]
fn sharing_a_page_breaks_its_large_page_and_no_other() {
    let Some((pmap, space)) = machine("sharing", 2) else {
        return;
    };
    let content = |ppn: u32| u8::try_from(ppn % 250 + 1).unwrap();
    (0..2 * LARGE).for_each(|ppn| write(&space, ppn, content(ppn)));
    let mut new = pmap.frames().allocate(2, GroupId(0)).unwrap();
    new.bytes_mut()[..PAGE_SIZE].fill(content(7));
    new.bytes_mut()[PAGE_SIZE..].fill(content(8));
    let frames = &new.publish();
    let at = Ppn(7);
    let outcome = space.share(&[ShareCandidate { at, frames }], Mechanism::Content);
    assert_eq!(outcome.shared, 2);
    check_kernel(&pmap);
    assert_eq!(space.totals().private, u64::from(2 * LARGE - 2));
    assert!((0..2 * LARGE).all(|ppn| byte(&space, ppn) == content(ppn)));
    // The memory of the two went back to the kernel with it, and does not wait in the large page.
    if let Some(part) = is_part_of_large(&space, 9) {
        assert!(!part, "the first large page is still one");
        assert_eq!(is_part_of_large(&space, LARGE), Some(true));
    }
}

#[test]
fn what_was_never_touched_goes_back_when_a_large_page_is_broken() {
    let Some((pmap, space)) = machine("never touched", 2) else {
        return;
    };
    (0..9).for_each(|ppn| write(&space, LARGE + ppn, 7));
    let _ = space.take_written();
    assert_eq!(space.totals().private, u64::from(2 * LARGE));
    let mut new = pmap.frames().allocate(4, GroupId(0)).unwrap();
    new.bytes_mut().fill(7);
    let frames = &new.publish();
    let at = Ppn(LARGE);
    let outcome = space.share(&[ShareCandidate { at, frames }], Mechanism::Content);
    assert_eq!(outcome.shared, 4);
    // Whether the kernel takes them back at once or not: the books are right.
    check_kernel(&pmap);
    write(&space, LARGE + 100, 3);
    write(&space, LARGE + 8, 3);
    check_kernel(&pmap);
    let written: Vec<_> = space.take_written();
    assert!(
        written
            .iter()
            .any(|run| run.iter().any(|ppn| ppn == Ppn(LARGE + 8)))
    );
    assert_eq!((byte(&space, LARGE + 7), byte(&space, LARGE + 99)), (7, 0));
}

#[test]
fn zero_pages_of_a_large_page_go_back() {
    let Some((pmap, space)) = machine("zero pages", 1) else {
        return;
    };
    write(&space, 100, 3);
    pmap.settle_all();
    let outcome = space.release_zero(&[PpnRun::new(Ppn(0), LARGE)]);
    assert_eq!(
        (outcome.released, outcome.different),
        (u64::from(LARGE) - 2, 2)
    );
    check_kernel(&pmap);
    assert_eq!(space.totals().private, 2);
    assert_ne!(is_part_of_large(&space, 100), Some(true));
    assert_eq!(
        (byte(&space, 0), byte(&space, 99), byte(&space, 100)),
        (1, 0, 3)
    );
    // What was given back is small pages from then on.
    write(&space, 99, 4);
    check_kernel(&pmap);
    assert_eq!(space.totals().private, 3);
}

#[test]
fn a_write_is_noticed_by_the_page_once_writes_are_tracked() {
    let Some((pmap, space)) = machine("tracking", 2) else {
        return;
    };
    write(&space, LARGE, 1);
    let first: u64 = space
        .take_written()
        .iter()
        .map(|run| u64::from(run.pages))
        .sum();
    assert_eq!(first, u64::from(2 * LARGE), "all of both was new");
    assert!(large_bytes(&space) > 0, "looking broke nothing");
    assert!(space.take_written().is_empty());
    write(&space, 3, 2);
    assert_eq!(space.take_written(), [PpnRun::new(Ppn(3), 1)]);
    check_kernel(&pmap);
}

#[test]
fn a_guest_gives_back_parts_and_wholes() {
    let Some((pmap, space)) = machine("balloon", 3) else {
        return;
    };
    (0..3 * LARGE).for_each(|ppn| write(&space, ppn, 5));
    pmap.settle_all();
    let given = space.balloon(&[PpnRun::new(Ppn(10), 1)]);
    assert_eq!(given.given, 1);
    assert_ne!(is_part_of_large(&space, 11), Some(true));
    // A page of the first large page, all of the second, most of the third.
    let _ = space.discard(&[PpnRun::new(Ppn(LARGE - 1), 2 * LARGE - 9)]);
    check_kernel(&pmap);
    assert_eq!(space.totals().private, u64::from(LARGE - 2 + 10));
    assert_ne!(is_part_of_large(&space, 3 * LARGE - 1), Some(true));
    assert_eq!(byte(&space, 3 * LARGE - 1), 5);
    let last = space.unballoon(&[PpnRun::new(Ppn(10), 1)]);
    assert_eq!(last, 1);
    write(&space, 10, 6);
    check_kernel(&pmap);
}
