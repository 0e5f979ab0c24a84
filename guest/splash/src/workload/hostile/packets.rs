//! Attacks on a network: packets that no driver would send, and more of them than anybody wants.
//!
//! At devices that are no network's they are requests like others, as bad.

use super::go;
use super::ring::{Descriptor, NEXT, QUEUE_SIZE, Registers, Ring};
use crate::hash::Random;
use crate::shared::usize_of;
use mirrorball_abi::layout::{IMAGE_BASE, PAGE_SIZE};

/// Bytes of the device's header and of Ethernet's.
const HEADERS: usize = 12 + 14;
/// For local experiments (IEEE 802): what other thin guests listen to.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
/// Where the configuration begins in the register window (virtio 1.2, clause 4.2.2).
const CONFIGURATION: u64 = 0x100;
/// Bursts of a flood.
const BURSTS: usize = 64;
/// Bytes of each packet of a flood.
const FLOOD_BYTES: u32 = 64 << 10;

/// Puts the headers of a packet into the request's page.
fn headers(ring: &Ring, device: [u8; 12], to: [u8; 6], from: [u8; 6]) {
    let mut bytes = [0; HEADERS];
    bytes[..12].copy_from_slice(&device);
    bytes[12..18].copy_from_slice(&to);
    bytes[18..24].copy_from_slice(&from);
    bytes[24..].copy_from_slice(&ETHERTYPE);
    ring.poke(3 * PAGE_SIZE, &bytes);
}

/// The address that the device gave this guest.
fn own(target: Registers) -> [u8; 6] {
    let [low, high] = [0, 4].map(|at| target.read(CONFIGURATION + at).to_le_bytes());
    [low[0], low[1], low[2], low[3], high[0], high[1]]
}

/// A chain of parts of `length` bytes of the guest's own image behind the first, which is `first` bytes
/// of the headers.
fn chain(ring: &Ring, first: u32, parts: u16, length: u32) {
    let last = |index: u16| index == parts;
    for index in 0..=parts {
        let (address, length) = if index == 0 {
            (ring.page(3), first)
        } else {
            (IMAGE_BASE, length)
        };
        ring.describe(
            0,
            index,
            Descriptor {
                address,
                length,
                flags: if last(index) { 0 } else { NEXT },
                next: index + 1,
            },
        );
    }
    ring.offer(0, 0, 1);
}

/// Longer than a packet may be, and shorter.
pub(super) fn lengths(ring: &Ring, target: Registers, _random: &mut Random) {
    headers(ring, [0; 12], [0xff; 6], own(target));
    for (parts, length) in [(15, 1 << 20), (1, 1 << 20), (2, (1 << 19) + 1), (15, 1)] {
        chain(ring, 26, parts, length);
        go(ring, target);
    }
    // The last of them are shorter than the device's own header.
    for first in [25, 13, 12, 11, 1, 0] {
        chain(ring, first, 0, 0);
        go(ring, target);
    }
}

/// Packets in others' names.
pub(super) fn forged(ring: &Ring, target: Registers, random: &mut Random) {
    for number in 0..32 {
        let from = match number {
            0 => [0xff; 6],
            1 => [0; 6],
            2 => [0x01, 0, 0x5e, 0, 0, 1],
            _ => [0x02, 0x4d, 0, 0, 0, number],
        };
        let to = if random.chance(50) {
            [0xff; 6]
        } else {
            [0x02, 0x4d, 0, 0, 0, 1 + (number & 7)]
        };
        headers(ring, [0; 12], to, from);
        chain(ring, 26, 1, 4096);
        go(ring, target);
    }
}

/// As many large packets to everybody as there is time for.
pub(super) fn flood(ring: &Ring, target: Registers, random: &mut Random) {
    headers(ring, [0; 12], [0xff; 6], own(target));
    for _ in 0..BURSTS {
        // What is heard may look like any message.
        ring.poke(3 * PAGE_SIZE + HEADERS, &random.next().to_le_bytes());
        chain(ring, 64, 1, FLOOD_BYTES);
        for entry in 0..QUEUE_SIZE {
            ring.offer(entry, 0, QUEUE_SIZE);
        }
        target.bring_up(1, u32::from(QUEUE_SIZE), ring.addresses());
        target.notify(1);
        crate::sched::yield_now();
    }
    super::settle();
}

/// Headers that ask for work that can't be done.
pub(super) fn offloads(ring: &Ring, target: Registers, random: &mut Random) {
    for round in 0..32 {
        let noise = random.next().to_le_bytes();
        let mut device = [0; 12];
        device[..8].copy_from_slice(&noise);
        device[8..].copy_from_slice(&noise[2..6]);
        // Half of them ask for nothing but a checksum, somewhere.
        if round % 2 == 0 {
            device[0] = 1;
            device[1] = 0;
        }
        headers(ring, device, [0xff; 6], own(target));
        let bytes = [1, 60, 1500, 4096, 60_000][usize_of(random.next() % 5)];
        chain(ring, 26, 1, bytes);
        go(ring, target);
    }
}
