//! Which room a packet gets, and what a guest's use of its room teaches the device.

use crate::driver::*;
use crate::net::frames_in_use;
use crate::station::{MERGEABLE, Station, pair};
use mirrorball_pmap::PageState;
use mirrorball_virtio::Transfer;

/// Where headers of packets go, and are.
const HEAD: u64 = 0x9000;
/// Pages of a message here.
const PAGES: u32 = 4;

/// Offers a room: a header's place, then pages.
fn post(station: &Station, first: u16, pages: u64) {
    station.post(first, &[(HEAD, 26), (pages, PAGES * 4096)]);
}

fn send(sender: &Station, receiver: &Station, pages: u64) {
    sender.guest.write(HEAD, &sender.ethernet(receiver.mac));
    sender.send(&[(HEAD, 14), (pages, PAGES * 4096)]);
    receiver.wake();
}

/// Writes a message's pages: each holds its number, and nothing else.
fn fill(sender: &Station, pages: u64, number: u8) {
    let bytes = vec![number; PAGES as usize * 4096];
    sender.guest.write(pages, &bytes);
}

#[test]
fn a_packet_finds_the_room_that_lies_over_its_pages_already() {
    let (machine, sender, receiver) = pair(MERGEABLE, Transfer::Always);
    let rooms = [DATA, DATA + 0x8000, DATA + 0x10_000];
    let messages = [DATA, DATA + 0x8000];
    for (number, room) in rooms.into_iter().enumerate() {
        post(&receiver, 2 * u16::try_from(number).unwrap(), room);
    }
    for (number, message) in (1..).zip(messages) {
        fill(&sender, message, number);
        send(&sender, &receiver, message);
    }
    let heads = || receiver.guest.used().into_iter().map(|(head, _)| head);
    assert_eq!(heads().collect::<Vec<_>>(), [0, 2]);
    let mappings = receiver.guest.space.totals().vmas;
    // The guest has read both, written to one of them, and offers them again in another order.
    receiver.guest.write(DATA + 4096, b"scribbled");
    post(&receiver, 2, rooms[1]);
    post(&receiver, 0, rooms[0]);
    send(&sender, &receiver, messages[0]);
    send(&sender, &receiver, messages[1]);
    assert_eq!(
        heads().collect::<Vec<_>>(),
        [0, 2, 0, 2],
        "not in their order"
    );
    for (number, room) in (1..=2).zip(rooms) {
        let bytes = receiver.guest.read(room, PAGES as usize * 4096);
        assert!(bytes.iter().all(|byte| *byte == number), "message {number}");
    }
    assert_eq!(receiver.guest.space.totals().vmas, mappings);
    assert_eq!(frames_in_use(&machine), 8);
    // A message that nobody had takes the next.
    fill(&sender, messages[0], 9);
    send(&sender, &receiver, messages[0]);
    assert_eq!(heads().next_back(), Some(4));
}

#[test]
fn by_cost_room_that_comes_back_is_filled_and_room_that_stays_is_mapped() {
    for (keeps, name) in [(false, "a stream"), (true, "a cache")] {
        let (_machine, sender, receiver) = pair(MERGEABLE, Transfer::Cost);
        let rooms = 100;
        for number in 0..rooms {
            let room = DATA + if keeps { number * 0x4000 } else { 0 };
            post(&receiver, 0, room);
            let byte = u8::try_from(number + 1).unwrap();
            fill(&sender, DATA, byte);
            send(&sender, &receiver, DATA);
            let bytes = receiver.guest.read(room, PAGES as usize * 4096);
            assert!(bytes.iter().all(|is| *is == byte), "{name}, {number}");
        }
        let (mapped, made) = (receiver.stats().mapped_pages, sender.stats().made_pages);
        let all = rooms * u64::from(PAGES);
        if keeps {
            assert_eq!((mapped, made), (all, all), "{name}");
        } else {
            assert!(
                mapped < all / 10 && made < all / 10,
                "{name}: {mapped} {made}"
            );
            assert_eq!(receiver.state(DATA), PageState::Private, "{name}");
        }
    }
}

#[test]
fn a_sender_that_writes_what_it_has_sent_keeps_its_own_pages() {
    for transfer in [Transfer::Always, Transfer::Cost] {
        let (_machine, sender, receiver) = pair(MERGEABLE, transfer);
        for number in 0..100 {
            post(&receiver, 0, DATA + u64::from(number) * 0x4000);
            fill(&sender, DATA, number);
            send(&sender, &receiver, DATA);
        }
        let shared = sender.stats().shared_pages;
        assert!(shared < 40, "{transfer}: {shared} of 400");
        // Where it leaves them alone they name the frames again, in the end.
        for number in 0..400 {
            post(&receiver, 0, DATA + number % 100 * 0x4000);
            send(&sender, &receiver, DATA);
        }
        let state = sender.state(DATA);
        assert!(
            matches!(state, PageState::Mapped(..)),
            "{transfer}: {state:?}"
        );
    }
}

#[test]
fn a_queue_that_was_taken_away_keeps_none_of_its_room() {
    let (_machine, sender, receiver) = pair(MERGEABLE, Transfer::Always);
    fill(&sender, DATA, 1);
    post(&receiver, 0, DATA);
    post(&receiver, 2, DATA + 0x8000);
    send(&sender, &receiver, DATA);
    assert_eq!(receiver.guest.used().len(), 1);
    // The driver takes the queue away and sets it up again, empty.
    receiver.guest.set(0x30, 0);
    receiver.guest.set(0x44, 0);
    for ring in [AVAIL, USED] {
        receiver.guest.set_word(ring + 2, 0);
    }
    receiver.guest.set(0x44, 1);
    send(&sender, &receiver, DATA);
    assert_eq!(receiver.guest.used(), []);
    assert_eq!(receiver.guest.read(DATA + 0x8000, 1), [0]);
    post(&receiver, 0, DATA + 0x10_000);
    assert_eq!(receiver.guest.read(DATA + 0x10_000, 1), [1]);
}
