//! Output through the transmit queue, input through the receive queue.

use crate::driver::*;
use mirrorball_virtio::console::MAX_INPUT;
use mirrorball_virtio::{Console, Device};
use std::sync::Arc;

/// Table and used ring of the transmit queue.
const OUT_TABLE: u64 = TABLE + 0x4000;
const OUT_USED: u64 = USED + 0x4000;

fn guest(console: Console, features: u64) -> (Guest, Arc<Console>) {
    let machine = Machine::new();
    let console = Arc::new(console);
    let guest = Guest::new(&machine.pmap, 1, Arc::clone(&console) as Arc<dyn Device>);
    guest.start(features, 16);
    while rang(&guest) {}
    (guest, console)
}

/// Whether the receive queue's doorbell rings.
fn rang(guest: &Guest) -> bool {
    guest.transport.doorbells()[0].read().is_ok()
}

fn print(guest: &Guest, text: &[u8]) {
    guest.write(DATA, text);
    let len = u32::try_from(text.len()).unwrap();
    guest.write(OUT_TABLE, &Desc(DATA, len, 0, 0).bytes());
    guest.offer_in(1, 0);
    guest.transport.process(1).unwrap();
}

#[test]
fn output_reaches_the_tail_and_the_buffers_come_back() {
    let (guest, console) = guest(Console::new(64), MODERN);
    guest.write(DATA, b"hello, world\n");
    guest.write(OUT_TABLE, &Desc(DATA, 7, NEXT, 1).bytes());
    guest.write(OUT_TABLE + 16, &Desc(DATA + 7, 6, 0, 0).bytes());
    guest.offer_in(1, 0);
    guest.transport.process(1).unwrap();
    assert_eq!(console.tail(), "hello, world\n");
    assert_eq!(guest.word(OUT_USED + 2), 1);
    assert_eq!(guest.get(0x60), 1, "a used-buffer interrupt is pending");
}

#[test]
fn a_control_channel_gives_whole_lines_once() {
    let (guest, console) = guest(Console::new(16).with_lines(), MODERN);
    print(&guest, b"mb ready 3.2\r\nmb be");
    assert_eq!(console.take_lines(), ["mb ready 3.2"]);
    print(&guest, b"gin 0 3.3\r\n");
    assert_eq!(console.take_lines(), ["mb begin 0 3.3"]);
    assert!(console.take_lines().is_empty());
    for _ in 0..3 {
        print(&guest, &[b'x'; 3000]);
    }
    print(&guest, b"\n");
    assert_eq!(console.take_lines()[0].len(), 4096);
    assert_eq!(console.damaged_lines(), 1);
    assert_eq!(console.tail(), "xxxxxxxxxxxxxxx\n");
    assert!(Console::new(9).take_lines().is_empty(), "only if asked for");
}

#[test]
fn input_buffers_stay_with_the_device_until_somebody_types() {
    for features in [MODERN, MODERN | EVENT_IDX] {
        let (guest, console) = guest(Console::new(64), features);
        guest.describe(0, &[Desc(DATA, 64, WRITE, 0)]);
        guest.offer(0);
        guest.kick().unwrap();
        assert_eq!(guest.used(), []);
        console.send(b"go\n").unwrap();
        assert!(rang(&guest), "the worker is called");
        guest.kick().unwrap();
        assert_eq!(guest.used(), [(0, 3)]);
        assert_eq!(guest.read(DATA, 4), b"go\n\0");
        assert_eq!(guest.get(0x60), 1);
        guest.kick().unwrap();
        assert_eq!(guest.used().len(), 1, "nothing is given twice");
    }
}

#[test]
fn input_waits_for_room_and_keeps_its_order() {
    for features in [MODERN, MODERN | EVENT_IDX] {
        let (guest, console) = guest(Console::new(64), features);
        console.send(b"0123456789").unwrap();
        guest.kick().unwrap();
        // The driver is told to ring for the buffers that it adds.
        if features & EVENT_IDX == 0 {
            assert_eq!(guest.word(USED), 0);
        } else {
            assert_eq!(guest.word(USED + 4 + 8 * 16), 0);
        }
        guest.describe(
            0,
            &[Desc(DATA, 3, WRITE | NEXT, 1), Desc(DATA + 16, 1, WRITE, 0)],
        );
        guest.describe(2, &[Desc(DATA + 32, 64, WRITE, 0)]);
        guest.offer(0);
        guest.kick().unwrap();
        assert_eq!(guest.used(), [(0, 4)]);
        if features & EVENT_IDX != 0 {
            assert_eq!(guest.word(USED + 4 + 8 * 16), 1);
        }
        guest.offer(2);
        guest.kick().unwrap();
        assert_eq!(guest.used(), [(0, 4), (2, 6)]);
        let got = [
            guest.read(DATA, 3),
            guest.read(DATA + 16, 1),
            guest.read(DATA + 32, 6),
        ];
        assert_eq!(got.concat(), b"0123456789");
    }
}

#[test]
fn input_for_a_driver_that_comes_late_is_not_lost() {
    let machine = Machine::new();
    let console = Arc::new(Console::new(64));
    let device = Arc::clone(&console) as Arc<dyn Device>;
    console.send(b"a").unwrap();
    let guest = Guest::new(&machine.pmap, 1, device);
    console.send(b"b").unwrap();
    guest.start(MODERN, 16);
    guest.set(0x70, 0);
    guest.start(MODERN, 16);
    guest.describe(0, &[Desc(DATA, 64, WRITE, 0)]);
    guest.offer(0);
    guest.kick().unwrap();
    assert_eq!(guest.used(), [(0, 2)]);
    assert_eq!(guest.read(DATA, 2), b"ab");
}

#[test]
fn a_guest_that_reads_nothing_or_offers_nonsense_costs_a_bounded_room() {
    let (guest, console) = guest(Console::new(64), MODERN);
    console.send(&vec![7; MAX_INPUT]).unwrap();
    assert_eq!(console.send(b"x").unwrap_err().waiting, MAX_INPUT);
    // Buffers to read from, empty ones, and all of memory at once.
    let all = u32::try_from(MEMORY - DATA).unwrap();
    guest.describe(0, &[Desc(DATA, 64, 0, 0), Desc(DATA, 0, WRITE, 0)]);
    guest.describe(2, &[Desc(DATA, all, WRITE, 0)]);
    (0..3).for_each(|head| guest.offer(head));
    guest.kick().unwrap();
    let whole = u32::try_from(MAX_INPUT).unwrap();
    assert_eq!(guest.used(), [(0, 0), (1, 0), (2, whole)]);
    console.send(b"x").unwrap();
}

#[test]
fn endless_output_in_one_chain_is_a_fault() {
    let (guest, _) = guest(Console::new(64), MODERN);
    let len = u32::try_from(MEMORY).unwrap();
    guest.write(OUT_TABLE, &Desc(0, len, 0, 0).bytes());
    guest.offer_in(1, 0);
    let fault = guest.transport.process(1).unwrap_err().to_string();
    assert!(
        fault.contains("virtio console, queue 1") && fault.contains("1 MiB"),
        "{fault}"
    );
}
