//! Output through the transmit queue.

use crate::driver::*;
use mirrorball_virtio::{Console, Device};
use std::sync::Arc;

#[test]
fn output_reaches_the_tail_and_the_buffers_come_back() {
    let machine = Machine::new();
    let console = Arc::new(Console::new(64));
    let guest = Guest::new(&machine.pmap, 1, Arc::clone(&console) as Arc<dyn Device>);
    guest.start(MODERN, 16);
    guest.write(DATA, b"hello, world\n");
    // Queue 1 is the transmit queue; its rings lie 4 pages on.
    let table = TABLE + 0x4000;
    guest.write(table, &Desc(DATA, 7, NEXT, 1).bytes());
    guest.write(table + 16, &Desc(DATA + 7, 6, 0, 0).bytes());
    guest.offer_in(1, 0);
    guest.transport.process(1).unwrap();
    assert_eq!(console.tail(), "hello, world\n");
    assert_eq!(guest.word(USED + 0x4000 + 2), 1);
    assert_eq!(guest.get(0x60), 1, "a used-buffer interrupt is pending");
}

#[test]
fn input_buffers_stay_with_the_device() {
    let machine = Machine::new();
    let guest = Guest::new(&machine.pmap, 1, Arc::new(Console::new(64)));
    guest.start(MODERN, 16);
    guest.describe(0, &[Desc(DATA, 64, WRITE, 0)]);
    guest.offer(0);
    guest.kick().unwrap();
    assert_eq!(guest.used(), []);
}

#[test]
fn endless_output_in_one_chain_is_a_fault() {
    let machine = Machine::new();
    let guest = Guest::new(&machine.pmap, 1, Arc::new(Console::new(64)));
    guest.start(MODERN, 16);
    let len = u32::try_from(MEMORY).unwrap();
    guest.write(TABLE + 0x4000, &Desc(0, len, 0, 0).bytes());
    guest.offer_in(1, 0);
    let fault = guest.transport.process(1).unwrap_err().to_string();
    assert!(
        fault.contains("virtio console, queue 1") && fault.contains("1 MiB"),
        "{fault}"
    );
}
