//! The register file: negotiation, interrupts, resets, and registers in any order.

use crate::driver::*;
use mirrorball_virtio::Console;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vmm_sys_util::eventfd::EventFd;

const STATUS: u64 = 0x70;

fn console() -> Guest {
    Guest::new(&Machine::new().pmap, 1, Arc::new(Console::new(64)))
}

fn rang(doorbell: &EventFd) -> bool {
    doorbell.read().is_ok()
}

#[test]
fn the_fixed_registers_are_the_specifications() {
    let guest = console();
    assert_eq!(guest.get(0), 0x7472_6976);
    assert_eq!(guest.get(4), 2);
    assert_eq!(guest.get(8), 3);
    assert_eq!((guest.get(0xb0), guest.get(0xbc)), (u32::MAX, u32::MAX));
    guest.set(0x30, 1);
    assert_eq!(guest.get(0x34), 64);
    guest.set(0x30, 2);
    assert_eq!(guest.get(0x34), 0, "there is no third queue");
    let mut byte = [7; 1];
    guest.transport.read(0, &mut byte);
    assert_eq!(byte, [0], "registers are 32 bits wide");
    let mut wide = [7; 8];
    guest.transport.read(0, &mut wide);
    assert_eq!(wide, [0; 8]);
    assert_eq!(guest.get(2), 0);
    assert_eq!(guest.get(u64::MAX - 3), 0);
}

#[test]
fn features_are_only_agreed_if_all_were_offered_and_the_modern_one_is_there() {
    for (features, agreed) in [
        (MODERN, true),
        (MODERN | EVENT_IDX, true),
        (EVENT_IDX, false),
        (MODERN | 1 << 34, false),
        (MODERN | 1 << 63, false),
    ] {
        let guest = console();
        guest.start(features, 16);
        assert_eq!(guest.get(STATUS) == 15, agreed, "{features:#x}");
        guest.set(0x14, 1);
        assert_eq!(guest.get(0x10) & 1, 1, "VERSION_1 is offered");
        guest.set(0x14, 2);
        assert_eq!(guest.get(0x10), 0);
    }
}

#[test]
fn nothing_is_served_before_the_driver_is_ready_and_early_doorbells_count() {
    let image = file(&pattern(4096));
    let machine = Machine::new();
    let (guest, _) = machine.guest(1, &open(image.path()));
    guest.set(STATUS, 0);
    guest.start(MODERN, 16);
    guest.set(STATUS, 0);
    guest.set(STATUS, 11);
    guest.describe(0, &[Desc(DATA, 16, 0, 0)]);
    guest.offer(0);
    guest.kick().unwrap();
    assert_eq!(guest.used(), []);
    while rang(&guest.transport.doorbells()[0]) {}
    guest.start(MODERN, 16);
    assert!(rang(&guest.transport.doorbells()[0]));
}

#[test]
fn a_reset_forgets_everything() {
    let image = file(&pattern(4096));
    let machine = Machine::new();
    let (guest, _) = machine.guest(1, &open(image.path()));
    assert_eq!(guest.request(IN, 0, &[(DATA, 512)]).0, 0);
    assert_eq!(guest.get(0x60), 1);
    guest.set(STATUS, 0);
    assert_eq!(
        (guest.get(STATUS), guest.get(0x60), guest.get(0x44)),
        (0, 0, 0)
    );
    guest.offer(0);
    guest.kick().unwrap();
    assert_eq!(guest.used().len(), 1, "a reset device uses nothing");
}

#[test]
fn acknowledging_clears_only_what_is_named() {
    let image = file(&pattern(4096));
    let machine = Machine::new();
    let (guest, _) = machine.guest(1, &open(image.path()));
    assert_eq!(guest.request(IN, 0, &[(DATA, 512)]).0, 0);
    assert_eq!(guest.interrupts.load(Ordering::SeqCst), 1);
    guest.set(0x64, 2);
    assert_eq!(guest.get(0x60), 1);
    guest.set(0x64, 1);
    assert_eq!(guest.get(0x60), 0);
}

#[test]
fn a_driver_that_wants_no_interrupt_gets_none() {
    let image = file(&pattern(4096));
    let machine = Machine::new();
    let (guest, _) = machine.guest(1, &open(image.path()));
    guest.set_word(AVAIL, 1);
    assert_eq!(guest.request(IN, 0, &[(DATA, 512)]).0, 0);
    assert_eq!(guest.interrupts.load(Ordering::SeqCst), 0);

    let (guest, _) = machine.guest(2, &open(image.path()));
    guest.start(MODERN | EVENT_IDX, 16);
    // used_event: interrupt once the third chain is used.
    guest.set_word(AVAIL + 4 + 2 * 16, 2);
    for (done, expected) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
        assert_eq!(guest.request(IN, 0, &[(DATA, 512)]).0, 0);
        let seen = guest.interrupts.load(Ordering::SeqCst);
        assert_eq!(seen, expected, "after {done} requests");
    }
    // avail_event follows what was taken, so the driver knows when to ring.
    assert_eq!(guest.word(USED + 4 + 8 * 16), 4);
}

#[test]
fn a_round_is_bounded_and_rings_again_for_the_rest() {
    let image = file(&pattern(4096));
    let machine = Machine::new();
    let (guest, block) = machine.guest(1, &open(image.path()));
    // Sixteen requests of 16 MiB each, refused by the small disk, are more than one round's bytes.
    let len = u32::try_from(MEMORY).unwrap();
    guest.write(HEADERS, &[0; 16]);
    let mut chain = vec![Desc(HEADERS, 16, NEXT, 1)];
    chain.extend((2..10).map(|next| Desc(0, len, WRITE | NEXT, next)));
    chain.push(Desc(STATUSES, 1, WRITE, 0));
    guest.describe(0, &chain);
    (0..16).for_each(|_| guest.offer(0));
    while rang(&guest.transport.doorbells()[0]) {}
    let mut rounds = 0;
    loop {
        guest.kick().unwrap();
        rounds += 1;
        if !rang(&guest.transport.doorbells()[0]) {
            break;
        }
    }
    assert_eq!(block.stats().errors, 16);
    assert!((8..=9).contains(&rounds), "{rounds} rounds");
}

#[test]
fn wild_doorbells_are_silent() {
    let guest = console();
    for queue in [2, 3, 0xffff, u32::MAX] {
        guest.set(0x50, queue);
        guest.transport.process(queue as usize).unwrap();
    }
    assert!(
        guest
            .transport
            .doorbells()
            .iter()
            .all(|doorbell| !rang(doorbell))
    );
    guest.set(0x50, 1);
    assert!(rang(&guest.transport.doorbells()[1]) && !rang(&guest.transport.doorbells()[0]));
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64, usize),
    Write(u64, Vec<u8>),
    Process(usize),
    Memory(u64, Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let offset = prop_oneof![
        8 => (0..0x40_u64).prop_map(|register| register * 4),
        1 => 0..0x200_u64,
        1 => any::<u64>(),
    ];
    let word = prop_oneof![
        0..20_u32,
        Just(0x1000),
        Just(0x2000),
        Just(0x3000),
        any::<u32>()
    ];
    prop_oneof![
        2 => (offset.clone(), 0..9_usize).prop_map(|(offset, len)| Step::Read(offset, len)),
        1 => (offset.clone(), prop::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(offset, data)| Step::Write(offset, data)),
        8 => (offset, word).prop_map(|(at, value)| Step::Write(at, value.to_le_bytes().to_vec())),
        2 => (0..4_usize).prop_map(Step::Process),
        2 => (0x1000..0x4000_u64, prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, data)| Step::Memory(at, data)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Registers in any order, size and value: no panic, and a reset always brings it back.
    #[test]
    fn any_order_of_accesses_ends_in_a_working_device(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let image = file(&pattern(4096));
        let machine = Machine::new();
        let (guest, _) = machine.guest(1, &open(image.path()));
        for step in steps {
            match step {
                Step::Read(offset, len) => guest.transport.read(offset, &mut vec![0; len]),
                Step::Write(offset, data) => guest.transport.write(offset, &data),
                Step::Process(queue) => drop(guest.transport.process(queue)),
                Step::Memory(at, data) => guest.write(at, &data),
            }
        }
        guest.write(0x1000, &[0; 0x3000]);
        guest.start(MODERN, 16);
        prop_assert_eq!(guest.get(STATUS), 15);
        prop_assert_eq!(guest.request(IN, 0, &[(DATA, 512)]), (0, 513));
    }
}
