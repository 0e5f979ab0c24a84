//! A table of malformed rings: each is named, none panics, and no other VM notices.

use crate::driver::*;

/// What a hostile driver writes, and what its VM is stopped for.
type Case = (&'static str, fn(&Guest), &'static str);

fn head(guest: &Guest, descriptor: Desc) {
    guest.describe(
        0,
        &[
            Desc(HEADERS, 16, NEXT, 1),
            descriptor,
            Desc(STATUSES, 1, WRITE, 0),
        ],
    );
    guest.offer(0);
}

fn indirect(guest: &Guest, table: &[Desc], len: u32) {
    for (index, descriptor) in (0..).zip(table) {
        guest.write(DATA + 16 * index, &descriptor.bytes());
    }
    guest.describe(0, &[Desc(DATA, len, INDIRECT, 0)]);
    guest.offer(0);
}

const CASES: [Case; 19] = [
    (
        "buffer past the end",
        |g| head(g, Desc(MEMORY - 4, 512, NEXT | WRITE, 2)),
        "outside guest memory",
    ),
    (
        "buffer that wraps",
        |g| head(g, Desc(u64::MAX - 3, 512, NEXT | WRITE, 2)),
        "outside guest memory",
    ),
    (
        "buffer in the device window",
        |g| head(g, Desc(0xd000_0000, 4, NEXT, 2)),
        "outside guest memory",
    ),
    (
        "huge buffer",
        |g| head(g, Desc(0, u32::MAX, NEXT | WRITE, 2)),
        "longer than 4 GiB",
    ),
    (
        "successor out of the table",
        |g| head(g, Desc(DATA, 512, NEXT | WRITE, 16)),
        "descriptor 16 of a table of 16",
    ),
    (
        "successor far out of the table",
        |g| head(g, Desc(DATA, 512, NEXT, 0xffff)),
        "descriptor 65535",
    ),
    (
        "successor is itself",
        |g| head(g, Desc(DATA, 512, NEXT, 1)),
        "never ends",
    ),
    (
        "successor is the head",
        |g| head(g, Desc(DATA, 0, NEXT, 0)),
        "never ends",
    ),
    (
        "readable after writable",
        |g| {
            g.describe(
                0,
                &[Desc(DATA, 1, WRITE | NEXT, 1), Desc(HEADERS, 16, 0, 0)],
            );
            g.offer(0);
        },
        "readable buffer follows",
    ),
    (
        "head out of the table",
        |g| g.offer(16),
        "descriptor 16 of a table of 16",
    ),
    (
        "available index far ahead",
        |g| g.set_word(AVAIL + 2, 17),
        "available ring index",
    ),
    (
        "no header",
        |g| {
            g.describe(0, &[Desc(STATUSES, 1, WRITE, 0)]);
            g.offer(0);
        },
        "no whole header",
    ),
    (
        "header to write only",
        |g| {
            g.describe(
                0,
                &[
                    Desc(HEADERS, 16, WRITE | NEXT, 1),
                    Desc(STATUSES, 1, WRITE, 0),
                ],
            );
            g.offer(0);
        },
        "no whole header",
    ),
    (
        "no status byte",
        |g| {
            g.describe(
                0,
                &[Desc(HEADERS, 16, NEXT, 1), Desc(STATUSES, 0, WRITE, 0)],
            );
            g.offer(0);
        },
        "no room for the status byte",
    ),
    (
        "indirect table in itself",
        |g| indirect(g, &[Desc(DATA, 16, INDIRECT, 0)], 16),
        "inside an indirect table",
    ),
    (
        "indirect table with a successor",
        |g| {
            g.describe(0, &[Desc(DATA, 16, INDIRECT | NEXT, 1)]);
            g.offer(0);
        },
        "with a successor",
    ),
    (
        "indirect table of 17 bytes",
        |g| indirect(g, &[], 17),
        "indirect table of 17 bytes",
    ),
    (
        "empty indirect table",
        |g| indirect(g, &[], 0),
        "indirect table of 0 bytes",
    ),
    (
        "loop in an indirect table",
        |g| indirect(g, &[Desc(DATA, 1, NEXT, 1), Desc(DATA, 1, NEXT, 0)], 32),
        "never ends",
    ),
];

#[test]
fn each_malformed_ring_is_named_and_nothing_else_happens() {
    let content = pattern(4 * 4096);
    let image = file(&content);
    let machine = Machine::new();
    let image = open(image.path());
    let (bystander, _) = machine.guest(1000, &image);
    for (vm, (name, attack, reason)) in (0..).zip(CASES) {
        let (guest, _) = machine.guest(vm, &image);
        attack(&guest);
        let fault = guest.kick().unwrap_err().to_string();
        assert!(
            fault.starts_with("virtio block, queue 0: "),
            "{name}: {fault}"
        );
        assert!(fault.contains(reason), "{name}: {fault}");
        assert_ne!(guest.get(0x70) & 64, 0, "{name}: DEVICE_NEEDS_RESET");
        assert_eq!(guest.get(0x60) & 2, 2, "{name}: configuration interrupt");
        guest.kick().unwrap();
        assert_eq!(guest.used(), [], "{name}: a dead queue uses nothing");
        assert_eq!(
            bystander.request(IN, 0, &[(DATA, 4096)]),
            (0, 4097),
            "{name}"
        );
        // A reset brings the device back.
        guest.write(AVAIL, &[0; 64]);
        guest.write(USED, &[0; 256]);
        guest.start(MODERN, 16);
        assert_eq!(guest.request(IN, 0, &[(DATA, 4096)]), (0, 4097), "{name}");
        machine.pmap.remove_space(guest.space.vm());
    }
}

#[test]
fn queues_that_can_not_be_are_named() {
    let image = file(&pattern(4096));
    let machine = Machine::new();
    let image = open(image.path());
    let attacks: [(u64, u32, &str); 8] = [
        (0x38, 0, "queue size 0"),
        (0x38, 3, "queue size 3"),
        (0x38, 0x1_0010, "queue size 65552"),
        (0x38, 512, "queue size 512 (a power of two up to 256"),
        (0x80, 0x1001, "descriptor table at 0x1001 is not aligned"),
        (0x84, 1, "descriptor table (256 bytes at 0x100001000)"),
        (0x90, 0, "available ring (38 bytes at 0x0)"),
        (
            0xa4,
            u32::MAX,
            "used ring (134 bytes at 0xffffffff00003000)",
        ),
    ];
    for (vm, (register, value, reason)) in (0..).zip(attacks) {
        let (guest, _) = machine.guest(vm, &image);
        guest.set(0x44, 0);
        guest.set(register, value);
        guest.set(0x44, 1);
        let fault = guest.kick().unwrap_err().to_string();
        assert!(fault.contains(reason), "{fault}");
    }
}

#[test]
fn empty_buffers_in_a_chain_are_harmless() {
    let content = pattern(4096);
    let image = file(&content);
    let machine = Machine::new();
    let (guest, _) = machine.guest(1, &open(image.path()));
    let nothing = (u64::MAX, 0);
    assert_eq!(
        guest.request(IN, 0, &[nothing, (DATA, 4096), nothing]),
        (0, 4097)
    );
    assert!(guest.read(DATA, 4096) == content);
}

#[test]
fn data_over_the_rings_and_over_its_own_status_is_the_guests_own_problem() {
    let image = file(&[0xff; 8 * 4096]);
    let machine = Machine::new();
    let (guest, _) = machine.guest(1, &open(image.path()));
    // The image's bytes replace the header's page and the status byte's page, then the status
    // byte is written over them.
    let all = [(HEADERS, 4096), (STATUSES & !4095, 4096)];
    assert_eq!(guest.request(IN, 0, &all), (0, 8193));
    assert_eq!(guest.read(HEADERS, 16), [0xff; 16]);
    // The same for the rings: what is read there next is malformed, and said so.
    let (guest, _) = machine.guest(2, &open(image.path()));
    let outcome = guest.try_request(IN, 0, &[(TABLE, 3 * 4096)]);
    assert!(outcome.is_err());
}
