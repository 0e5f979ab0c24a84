//! A guest that means harm: malformed queues and wild register writes.
//!
//! Each attack drives a device by hand, against the virtio specification. The monitor may refuse,
//! or stop this VM and name the cause; it and the other guests must go on. A guest that is still
//! there at the end has made all its attacks, which is all this workload claims.

mod packets;
mod ring;

use super::Job;
use crate::hash::Random;
use crate::port;
use crate::sched;
use crate::shared::{self, OPERATIONS};
use alloc::string::String;
use alloc::vec::Vec;
use ring::{Descriptor, INDIRECT, NEXT, QUEUE_SIZE, Registers, Ring, WRITE};

/// virtio device ids that are attacked: network, block and console.
const TARGETS: [u32; 3] = [1, 2, 3];

type Attack = fn(&Ring, Registers, &mut Random);

/// All attacks; a command's `params[1]` counts from 1 in this order.
const ATTACKS: [(&str, Attack); 21] = [
    ("address out of range", out_of_range),
    ("address that wraps", wrapping),
    ("chain that loops", looping),
    ("chain longer than the queue", overlong),
    ("indirect table inside of itself", nested_indirect),
    ("indirect table of odd size", odd_indirect),
    ("zero-length buffers", zero_length),
    ("huge buffers", huge),
    ("rings out of range", rings_out_of_range),
    ("available index far ahead", index_ahead),
    ("head beyond the table", head_beyond),
    ("directions reversed", reversed),
    ("sector beyond the disk", beyond_disk),
    ("rings over each other", overlapping),
    ("reset with a request under way", reset_midway),
    ("wild doorbells", doorbells),
    ("register writes in any order and size", registers),
    ("packets of any length", packets::lengths),
    ("packets in others' names", packets::forged),
    ("a flood of packets", packets::flood),
    ("packets with wild headers", packets::offloads),
];

pub(super) fn run(job: &Job) -> Result<(), String> {
    let count = job.param(0, 200);
    let ring = Ring::new().ok_or("no memory for a queue")?;
    let wanted = job.params[2];
    let devices: Vec<Registers> = TARGETS
        .iter()
        .filter(|id| wanted == 0 || u64::from(**id) == wanted)
        .filter_map(|id| shared::device(*id, 0))
        .map(Registers)
        .collect();
    let mut random = Random::new(job.seed ^ u64::from(job.vm));
    if devices.is_empty() {
        return Err("there is no such device to attack".into());
    }
    for (number, target) in (0..count).zip(devices.iter().cycle()) {
        if shared::stop_requested() {
            break;
        }
        let choice = match job.params[1] {
            0 => number / devices.len() as u64,
            one => one - 1,
        };
        let (name, attack) = ATTACKS[shared::usize_of(choice % ATTACKS.len() as u64)];
        super::say(format_args!("{name} at device {}", target.0.device_id));
        ring.clear();
        attack(&ring, *target, &mut random);
        settle();
        target.reset();
        OPERATIONS.increase(1);
    }
    super::say(format_args!(""));
    Ok(())
}

/// Lets the device work on what it was given.
fn settle() {
    sched::block_until_or(port::ticks() + shared::ticks_per_ms(), || false);
}

/// Brings the device up and rings for every queue it may have.
fn go(ring: &Ring, target: Registers) {
    for queue in 0..2 {
        target.bring_up(queue, u32::from(QUEUE_SIZE), ring.addresses());
        target.notify(queue);
        settle();
    }
}

/// Offers one request whose data buffer is as given, in both directions.
fn with_data(ring: &Ring, target: Registers, address: u64, length: u32) {
    for flags in [WRITE, 0] {
        ring.block_read(0, 512);
        ring.request(u32::from(flags == 0), 0);
        ring.describe(
            0,
            1,
            Descriptor {
                address,
                length,
                flags: NEXT | flags,
                next: 2,
            },
        );
        go(ring, target);
        // A console has no header: the bad buffer is the first.
        ring.describe(
            0,
            0,
            Descriptor {
                address,
                length,
                flags,
                next: 0,
            },
        );
        go(ring, target);
    }
}

fn out_of_range(ring: &Ring, target: Registers, random: &mut Random) {
    let end = shared::memory() as u64;
    for address in [
        end,
        end - 256,
        target.0.address,
        1 << 40,
        random.next() >> 8,
    ] {
        with_data(ring, target, address, 4096);
    }
}

fn wrapping(ring: &Ring, target: Registers, _random: &mut Random) {
    with_data(ring, target, u64::MAX - 100, 4096);
    with_data(ring, target, u64::MAX - 511, 512);
}

fn looping(ring: &Ring, target: Registers, _random: &mut Random) {
    ring.block_read(0, 512);
    ring.describe(
        0,
        2,
        Descriptor {
            address: ring.page(4),
            length: 512,
            flags: NEXT | WRITE,
            next: 1,
        },
    );
    go(ring, target);
    ring.describe(
        0,
        0,
        Descriptor {
            address: ring.page(4),
            length: 16,
            flags: NEXT,
            next: 0,
        },
    );
    go(ring, target);
}

fn overlong(ring: &Ring, target: Registers, _random: &mut Random) {
    ring.block_read(0, 512);
    for index in 1..256 {
        let next = index + 1;
        ring.describe(
            0,
            index,
            Descriptor {
                address: ring.page(4),
                length: 512,
                flags: NEXT | WRITE,
                next,
            },
        );
    }
    go(ring, target);
    // The same inside of an indirect table, whose length is not bound by the queue's.
    for index in 0..256 {
        let (flags, next) = if index == 0 {
            (NEXT, 1)
        } else {
            (NEXT | WRITE, index + 1)
        };
        ring.describe(
            5,
            index,
            Descriptor {
                address: ring.page(4),
                length: 16,
                flags,
                next,
            },
        );
    }
    ring.describe(
        0,
        0,
        Descriptor {
            address: ring.page(5),
            length: 4096,
            flags: INDIRECT,
            next: 0,
        },
    );
    go(ring, target);
}

fn nested_indirect(ring: &Ring, target: Registers, _random: &mut Random) {
    ring.offer(0, 0, 1);
    ring.describe(
        0,
        0,
        Descriptor {
            address: ring.page(5),
            length: 64,
            flags: INDIRECT,
            next: 0,
        },
    );
    ring.describe(
        5,
        0,
        Descriptor {
            address: ring.page(5),
            length: 64,
            flags: INDIRECT,
            next: 0,
        },
    );
    go(ring, target);
    ring.describe(
        0,
        0,
        Descriptor {
            address: ring.page(0),
            length: 256,
            flags: INDIRECT | NEXT,
            next: 0,
        },
    );
    go(ring, target);
}

fn odd_indirect(ring: &Ring, target: Registers, _random: &mut Random) {
    ring.offer(0, 0, 1);
    for length in [0, 1, 15, 17, u32::MAX, u32::MAX - 15] {
        ring.describe(
            0,
            0,
            Descriptor {
                address: ring.page(5),
                length,
                flags: INDIRECT,
                next: 0,
            },
        );
        go(ring, target);
    }
}

fn zero_length(ring: &Ring, target: Registers, _random: &mut Random) {
    with_data(ring, target, ring.page(4), 0);
    ring.block_read(0, 512);
    for index in 0..3 {
        ring.describe(
            0,
            index,
            Descriptor {
                address: 0,
                length: 0,
                flags: NEXT,
                next: index + 1,
            },
        );
    }
    go(ring, target);
}

fn huge(ring: &Ring, target: Registers, _random: &mut Random) {
    with_data(ring, target, ring.page(4), u32::MAX);
    with_data(
        ring,
        target,
        0,
        u32::try_from(shared::memory()).unwrap_or(u32::MAX),
    );
}

fn rings_out_of_range(ring: &Ring, target: Registers, random: &mut Random) {
    let good = ring.addresses();
    for bad in [
        shared::memory() as u64,
        u64::MAX - 15,
        0,
        target.0.address,
        random.next(),
    ] {
        for place in 0..3 {
            let mut addresses = good;
            addresses[place] = bad;
            target.bring_up(0, u32::from(QUEUE_SIZE), addresses);
            target.notify(0);
            settle();
        }
    }
    for size in [0, 3, 0x8000, u32::MAX] {
        target.bring_up(0, size, good);
        target.notify(0);
        settle();
    }
}

fn index_ahead(ring: &Ring, target: Registers, _random: &mut Random) {
    ring.block_read(0, 512);
    for index in [QUEUE_SIZE + 1, 0x8000, u16::MAX] {
        ring.offer(0, 0, index);
        go(ring, target);
    }
}

fn head_beyond(ring: &Ring, target: Registers, _random: &mut Random) {
    for head in [QUEUE_SIZE, 255, u16::MAX] {
        ring.block_read(0, 512);
        ring.offer(0, head, 1);
        go(ring, target);
        ring.offer(0, 0, 1);
        ring.describe(
            0,
            0,
            Descriptor {
                address: ring.page(3),
                length: 16,
                flags: NEXT,
                next: head,
            },
        );
        go(ring, target);
    }
}

fn reversed(ring: &Ring, target: Registers, _random: &mut Random) {
    ring.block_read(0, 512);
    ring.describe(
        0,
        0,
        Descriptor {
            address: ring.page(3),
            length: 16,
            flags: NEXT | WRITE,
            next: 1,
        },
    );
    go(ring, target);
    ring.block_read(0, 512);
    ring.describe(
        0,
        2,
        Descriptor {
            address: ring.page(3),
            length: 1,
            flags: 0,
            next: 0,
        },
    );
    go(ring, target);
}

fn beyond_disk(ring: &Ring, target: Registers, random: &mut Random) {
    for sector in [1 << 40, u64::MAX, u64::MAX / 512, random.next()] {
        ring.block_read(sector, 512);
        go(ring, target);
    }
    for kind in [4, 8, 77, u32::MAX] {
        ring.block_read(0, 513);
        ring.request(kind, 0);
        go(ring, target);
    }
}

fn overlapping(ring: &Ring, target: Registers, random: &mut Random) {
    ring.block_read(0, 4096);
    // The device's own writes go over the descriptors and rings that it reads.
    for page in 0..3 {
        ring.describe(
            0,
            1,
            Descriptor {
                address: ring.page(page),
                length: 4096,
                flags: NEXT | WRITE,
                next: 2,
            },
        );
        go(ring, target);
        ring.block_read(0, 4096);
    }
    target.bring_up(0, u32::from(QUEUE_SIZE), [ring.page(0); 3]);
    target.notify(0);
    settle();
    ring.noise(random);
    go(ring, target);
}

fn reset_midway(ring: &Ring, target: Registers, _random: &mut Random) {
    for _ in 0..20 {
        ring.block_read(0, 4096);
        target.bring_up(0, u32::from(QUEUE_SIZE), ring.addresses());
        target.notify(0);
        target.reset();
        target.notify(0);
    }
}

fn doorbells(_ring: &Ring, target: Registers, random: &mut Random) {
    for _ in 0..200 {
        let value = random.next();
        target.notify(u32::try_from(value >> 33).unwrap_or(0) >> (value % 32));
    }
}

fn registers(ring: &Ring, target: Registers, random: &mut Random) {
    ring.noise(random);
    for _ in 0..500 {
        let offset = if random.chance(80) {
            random.next() % 0x108
        } else {
            random.next()
        };
        let value = match random.below(4) {
            0 => random.next() % 16,
            1 => ring.page(random.below(6)),
            2 => u64::MAX,
            _ => random.next(),
        };
        target.write(offset, 1 << random.below(4), value);
        if random.chance(10) {
            target.read(random.next());
        }
    }
}
