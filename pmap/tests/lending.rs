//! Pages handed on as frames: what is copied, what is not, and that the content is right.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use mirrorball_pmap::*;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

fn machine() -> (Arc<Pmap>, Arc<AddressSpace>, Arc<AddressSpace>) {
    let pmap = Pmap::new(&PmapConfig {
        frame_capacity: 1 << 30,
        ..PmapConfig::default()
    })
    .unwrap();
    let space = |vm| {
        let space = pmap.create_space(VmId(vm), GroupId(0), 64 * PAGE_BYTES);
        let space = space.unwrap();
        space.expect_lending();
        space
    };
    let (sender, receiver) = (space(1), space(2));
    (pmap, sender, receiver)
}

fn write(space: &AddressSpace, ppn: u32, byte: u8) {
    let access = space.access();
    let address = GuestAddress(Ppn(ppn).address());
    access
        .memory()
        .write_slice(&[byte; PAGE_SIZE], address)
        .unwrap();
}

fn read(space: &AddressSpace, ppn: u32) -> u8 {
    let mut bytes = vec![0; PAGE_SIZE];
    let address = GuestAddress(Ppn(ppn).address());
    space
        .access()
        .memory()
        .read_slice(&mut bytes, address)
        .unwrap();
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a mixed page");
    bytes[0]
}

fn lend(space: &AddressSpace, start: u32, pages: u32) -> Vec<Lent> {
    let run = PpnRun::new(Ppn(start), pages);
    space.access().lend(run, |_| true).lent
}

fn map(space: &AddressSpace, at: u32, lent: &Lent) {
    let access = space.access();
    access
        .map_frames(Ppn(at), &lent.frames, Mechanism::Network)
        .unwrap();
}

#[test]
fn a_private_page_is_copied_once_and_its_frame_handed_on_until_it_is_written() {
    let (pmap, sender, receiver) = machine();
    (4..8).for_each(|ppn| write(&sender, ppn, u8::try_from(ppn).unwrap()));
    let first = lend(&sender, 4, 4);
    assert_eq!(first.len(), 1);
    assert_eq!((first[0].at, first[0].frames.pages()), (Ppn(4), 4));
    assert_eq!(first[0].origin, Origin::Copied);
    map(&receiver, 32, &first[0]);
    // The same again: not one more frame.
    let again = lend(&sender, 4, 4);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].origin, Origin::Twin);
    assert_eq!(again[0].frames.start(), first[0].frames.start());
    assert_eq!(pmap.totals().frames, 4);
    // What the sender writes afterwards is the sender's alone.
    write(&sender, 5, 99);
    (4..8).for_each(|ppn| assert_eq!(u32::from(read(&receiver, 28 + ppn)), ppn));
    let changed = lend(&sender, 4, 4);
    let origins: Vec<_> = changed
        .iter()
        .map(|lent| (lent.at.0, lent.origin))
        .collect();
    assert_eq!(
        origins,
        [(4, Origin::Twin), (5, Origin::Copied), (6, Origin::Twin)]
    );
    assert_eq!(changed[1].frames.page(0), &[99; PAGE_SIZE]);
}

#[test]
fn a_page_that_names_a_frame_is_handed_on_as_that_frame() {
    let (pmap, sender, receiver) = machine();
    (0..3).for_each(|ppn| write(&sender, ppn, 7 + u8::try_from(ppn).unwrap()));
    let lent = lend(&sender, 0, 3).remove(0);
    let candidate = ShareCandidate {
        at: Ppn(0),
        frames: &lent.frames,
    };
    assert_eq!(sender.share(&[candidate], Mechanism::Network).shared, 3);
    let start = lent.frames.start();
    drop(lent);
    let named = lend(&sender, 0, 3).remove(0);
    assert_eq!((named.origin, named.frames.start()), (Origin::Named, start));
    map(&receiver, 10, &named);
    drop(named);
    assert_eq!(pmap.totals().frames, 3);
    pmap.settle_all();
    let totals = pmap.totals();
    assert_eq!(totals.by_mechanism[Mechanism::Network.index()], 3);
    // A write of either side breaks its own page only, and is seen at once, settled or not.
    write(&sender, 1, 50);
    write(&receiver, 10, 60);
    assert_eq!((read(&receiver, 11), read(&sender, 0)), (8, 7));
    let parts = lend(&sender, 0, 3);
    let origins: Vec<_> = parts.iter().map(|lent| lent.origin).collect();
    assert_eq!(origins, [Origin::Named, Origin::Copied, Origin::Named]);
    assert_eq!(parts[1].frames.page(0), &[50; PAGE_SIZE]);
    assert_eq!(lend(&receiver, 10, 1)[0].frames.page(0), &[60; PAGE_SIZE]);
}

#[test]
fn who_asks_for_no_copies_gets_none() {
    let (pmap, sender, _) = machine();
    (0..8).for_each(|ppn| write(&sender, ppn, 3));
    let ask = |start, pages, copy: &dyn Fn(u32) -> bool| {
        let run = PpnRun::new(Ppn(start), pages);
        sender.access().lend(run, copy).lent.len()
    };
    assert_eq!(ask(0, 8, &|pages| pages > 8), 0);
    assert_eq!(ask(0, 8, &|pages| pages == 8), 1);
    assert_eq!(ask(60, 8, &|_| true), 0);
    assert_eq!(ask(u32::MAX, 1, &|_| true), 0);
    assert_eq!(pmap.totals().frames, 0, "frames that nobody maps are gone");
}

#[test]
fn a_device_that_filled_pages_from_frames_may_say_so() {
    let (pmap, sender, _) = machine();
    let mut new = pmap.frames().allocate(2, GroupId(0)).unwrap();
    new.bytes_mut().fill(9);
    let frames = new.publish();
    (20..22).for_each(|ppn| write(&sender, ppn, 9));
    sender.access().note_twin(Ppn(20), &frames);
    let lent = lend(&sender, 20, 2).remove(0);
    assert_eq!(
        (lent.origin, lent.frames.start()),
        (Origin::Twin, frames.start())
    );
    // Of another group it would be a channel between the two.
    let other = pmap.frames().allocate(1, GroupId(1)).unwrap().publish();
    sender.access().note_twin(Ppn(30), &other);
    assert_eq!(lend(&sender, 30, 1)[0].origin, Origin::Copied);
}

#[test]
fn a_second_transfer_to_the_same_place_changes_no_mapping_and_drops_what_was_written_there() {
    let (pmap, sender, receiver) = machine();
    (0..4).for_each(|ppn| write(&sender, ppn, 20 + u8::try_from(ppn).unwrap()));
    let lent = lend(&sender, 0, 4).remove(0);
    map(&receiver, 8, &lent);
    write(&receiver, 9, 99);
    write(&receiver, 10, 98);
    receiver.settle();
    assert_eq!(receiver.state(Ppn(9)), PageState::Private);
    let before = receiver.totals();
    assert_eq!((before.mapped, before.broken), (2, 2));
    // Settled or not, all four show the frames again.
    map(&receiver, 8, &lent);
    write(&receiver, 11, 97);
    map(&receiver, 8, &lent);
    (0..4).for_each(|ppn| assert_eq!(u32::from(read(&receiver, 8 + ppn)), 20 + ppn));
    receiver.settle();
    let after = receiver.totals();
    assert_eq!(
        (after.mapped, after.private, after.vmas),
        (4, 0, before.vmas)
    );
    drop(lent);
    pmap.remove_space(VmId(2));
    pmap.settle_all();
    assert_eq!(pmap.totals().frames, 0, "each reference is counted once");
}

#[test]
fn lending_tells_how_many_pages_were_written_since_the_last_time() {
    let (_, sender, _) = machine();
    let run = PpnRun::new(Ppn(0), 8);
    run.iter().for_each(|ppn| write(&sender, ppn.0, 5));
    let lend = || {
        let loan = sender.access().lend(run, |_| true);
        (loan.unchanged, loan.rewritten, loan.lent)
    };
    let (unchanged, rewritten, lent) = lend();
    assert_eq!((unchanged, rewritten), (0, 0), "never lent before");
    write(&sender, 3, 6);
    let (unchanged, rewritten, changed) = lend();
    assert_eq!((unchanged, rewritten), (7, 1));
    let candidate = ShareCandidate {
        at: Ppn(0),
        frames: &lent[0].frames,
    };
    assert_eq!(sender.share(&[candidate], Mechanism::Network).shared, 7);
    write(&sender, 1, 7);
    write(&sender, 2, 7);
    let (unchanged, rewritten, _) = lend();
    assert_eq!((unchanged, rewritten), (6, 2));
    drop((lent, changed));
}

/// What was written over a frame and equals it again is dropped, and the frame shows: to the kernel there is
/// a mark of the write tracking then where the page was, and no page.
#[test]
fn a_page_whose_frame_shows_again_is_lent_as_that_frame_and_keeps_it() {
    let (pmap, sender, _) = machine();
    if !pmap.tracking() {
        return eprintln!("not run: writes are not tracked");
    }
    let mut frames = pmap.frames().allocate(2, GroupId(0)).unwrap();
    frames.bytes_mut().fill(7);
    let frames = frames.publish();
    let at = Ppn(3);
    let mapped = sender.access().map_frames(at, &frames, Mechanism::Network);
    mapped.unwrap();
    for byte in [9, 7] {
        write(&sender, 3, byte);
        assert_eq!(sender.take_written(), [PpnRun::new(at, 1)]);
    }
    let candidate = ShareCandidate {
        at,
        frames: &frames.slice(0, 1),
    };
    let outcome = sender.share(&[candidate], Mechanism::Network);
    assert_eq!(outcome.shared, 1);
    let lent = lend(&sender, 3, 1);
    assert_eq!(lent[0].origin, Origin::Named);
    drop((lent, frames));
    assert_eq!(pmap.totals().frames, 2, "both are referred to");
    assert_eq!(read(&sender, 3), 7);
}
