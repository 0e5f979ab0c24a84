//! Disco's copy-on-write disk: what is mapped, what costs I/O, and how sharing ends.

use crate::driver::*;
use mirrorball_pmap::{GroupId, PageState, Ppn};
use mirrorball_virtio::{BlockDevice, Device, Disk, OverlayMode};
use std::sync::{Arc, Barrier};
use std::thread;

fn frame(guest: &Guest, address: u64) -> Option<u32> {
    let ppn = Ppn(u32::try_from(address / PAGE).unwrap());
    match guest.space.state(ppn) {
        PageState::Mapped(mpn, _) => Some(mpn.0),
        _ => None,
    }
}

#[test]
fn a_second_guest_maps_the_first_ones_frames_without_io() {
    let content = pattern(16 * 4096);
    let image = file(&content);
    let machine = Machine::new();
    let image = open(image.path());
    let (first, first_disk) = machine.guest(1, &image);
    let (second, second_disk) = machine.guest(2, &image);
    assert_eq!(first.request(IN, 0, &[(DATA, 16 * 4096)]).0, 0);
    let stats = first_disk.stats();
    assert_eq!(
        (stats.image_reads, stats.mapped_pages, stats.copied_pages),
        (1, 16, 0)
    );
    let frames: Vec<_> = (0..16)
        .map(|i| frame(&first, DATA + i * PAGE).unwrap())
        .collect();
    assert!(
        frames.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "one run: {frames:?}"
    );

    assert_eq!(
        second
            .request(
                IN,
                0,
                &[(DATA + PAGE, 5 * 4096), (DATA + 0x20_000, 11 * 4096)]
            )
            .0,
        0
    );
    let stats = second_disk.stats();
    assert_eq!(
        (stats.image_reads, stats.mapped_pages, stats.copied_pages),
        (0, 16, 0)
    );
    assert_eq!(frame(&second, DATA + PAGE), Some(frames[0]));
    assert_eq!(frame(&second, DATA + 0x20_000), Some(frames[5]));
    let got = [
        second.read(DATA + PAGE, 5 * 4096),
        second.read(DATA + 0x20_000, 11 * 4096),
    ]
    .concat();
    assert!(got == content);
    assert_eq!(machine.pmap.totals().frames, 16);
}

#[test]
fn a_hole_in_the_cache_costs_one_read_per_missing_run() {
    let content = pattern(12 * 4096);
    let image = file(&content);
    let machine = Machine::new();
    let image = open(image.path());
    let (first, _) = machine.guest(1, &image);
    assert_eq!(first.request(IN, 4 * 8, &[(DATA, 4096)]).0, 0);
    assert_eq!(first.request(IN, 6 * 8, &[(DATA + PAGE, 8192)]).0, 0);
    let (second, disk) = machine.guest(2, &image);
    assert_eq!(second.request(IN, 0, &[(DATA, 12 * 4096)]).0, 0);
    assert_eq!(
        (disk.stats().image_reads, disk.stats().mapped_pages),
        (3, 12)
    );
    assert!(second.read(DATA, 12 * 4096) == content);
}

#[test]
fn simultaneous_misses_read_once() {
    let content = pattern(64 * 4096);
    let image = file(&content);
    let machine = Machine::new();
    let image = open(image.path());
    let guests: Vec<_> = (0..8).map(|vm| machine.guest(vm, &image)).collect();
    let start = Barrier::new(guests.len());
    thread::scope(|scope| {
        for (guest, _) in &guests {
            let (start, content) = (&start, &content);
            scope.spawn(move || {
                start.wait();
                for block in 0..64 {
                    assert_eq!(
                        guest
                            .request(IN, block * 8, &[(DATA + block * PAGE, 4096)])
                            .0,
                        0
                    );
                }
                assert!(guest.read(DATA, 64 * 4096) == *content);
            });
        }
    });
    let reads: u64 = guests
        .iter()
        .map(|(_, disk)| disk.stats().image_reads)
        .sum();
    assert_eq!(reads, 64);
    assert_eq!(machine.pmap.totals().frames, 64);
}

#[test]
fn overlapping_misses_of_many_guests_never_mix_blocks() {
    let content = pattern(32 * 4096);
    let image = file(&content);
    for round in 0..40 {
        let machine = Machine::new();
        let image = open(image.path());
        let guests: Vec<_> = (0..4).map(|vm| machine.guest(vm, &image)).collect();
        let start = Barrier::new(guests.len());
        thread::scope(|scope| {
            for (i, (guest, _)) in (0..).zip(&guests) {
                let (start, content) = (&start, &content);
                scope.spawn(move || {
                    start.wait();
                    for step in 0..6_u64 {
                        let first = (i * 7 + step * 5 + round) % 24;
                        let blocks = 1 + (i + step * 3 + round) % 8;
                        let len = usize::try_from(blocks * PAGE).unwrap();
                        let data = [(DATA, u32::try_from(len).unwrap())];
                        assert_eq!(guest.request(IN, first * 8, &data).0, 0);
                        let from = usize::try_from(first * PAGE).unwrap();
                        assert!(guest.read(DATA, len) == content[from..from + len]);
                    }
                });
            }
        });
    }
}

#[test]
fn a_devices_write_breaks_the_sharing_and_leaves_frame_and_neighbour_alone() {
    let content = pattern(4 * 4096);
    let image = file(&content);
    let machine = Machine::new();
    let image = open(image.path());
    let (first, _) = machine.guest(1, &image);
    let (second, disk) = machine.guest(2, &image);
    for guest in [&first, &second] {
        assert_eq!(guest.request(IN, 0, &[(DATA, 4 * 4096)]).0, 0);
    }
    // An unaligned read into the middle of mapped pages is a copy: a DMA write to both.
    assert_eq!(first.request(IN, 0, &[(DATA + PAGE + 100, 4096)]).0, 0);
    let mut expected = content.clone();
    expected[4096 + 100..2 * 4096 + 100].copy_from_slice(&content[..4096]);
    assert!(first.read(DATA, 4 * 4096) == expected);
    assert!(second.read(DATA, 4 * 4096) == content);
    first.space.settle();
    assert_eq!(frame(&first, DATA + PAGE), None);
    assert!(frame(&first, DATA).is_some() && frame(&second, DATA + PAGE).is_some());
    let before = disk.stats().image_reads;
    assert_eq!(second.request(IN, 0, &[(DATA + 0x8000, 4 * 4096)]).0, 0);
    assert_eq!(disk.stats().image_reads, before);
    assert!(second.read(DATA + 0x8000, 4 * 4096) == content);
}

#[test]
fn sharing_can_be_switched_at_any_time() {
    let content = pattern(4 * 4096);
    let image = file(&content);
    let machine = Machine::new();
    let (guest, disk) = machine.guest(1, &open(image.path()));
    disk.set_sharing(false);
    assert_eq!(guest.request(IN, 0, &[(DATA, 4 * 4096)]).0, 0);
    assert!(guest.read(DATA, 4 * 4096) == content);
    let stats = disk.stats();
    assert_eq!(
        (stats.mapped_pages, stats.copied_pages, stats.image_reads),
        (0, 4, 1)
    );
    disk.set_sharing(true);
    assert_eq!(guest.request(IN, 0, &[(DATA, 4 * 4096)]).0, 0);
    assert_eq!(disk.stats().mapped_pages, 4);
    assert!(guest.read(DATA, 4 * 4096) == content);
}

#[test]
fn what_a_guest_wrote_is_its_own() {
    let content = pattern(4 * 4096);
    let image = file(&content);
    let machine = Machine::new();
    let image = open(image.path());
    let (writer, disk) = machine.guest(1, &image);
    let (reader, _) = machine.guest(2, &image);
    writer.write(DATA, &[3; 4096]);
    assert_eq!(writer.request(OUT, 8, &[(DATA, 4096)]).0, 0);
    for guest in [&writer, &reader] {
        assert_eq!(guest.request(IN, 0, &[(DATA, 4 * 4096)]).0, 0);
    }
    assert_eq!(
        (disk.stats().mapped_pages, disk.stats().copied_pages),
        (3, 1)
    );
    assert!(reader.read(DATA, 4 * 4096) == content);
    assert!(writer.read(DATA + PAGE, 4096) == [3; 4096]);
    assert!(writer.read(DATA + 2 * PAGE, 4096) == content[2 * 4096..3 * 4096]);
}

#[test]
fn groups_share_no_frames() {
    let image = file(&pattern(2 * 4096));
    let machine = Machine::new();
    let image = open(image.path());
    let (_first, disk) = machine.guest(1, &image);
    assert_eq!(_first.request(IN, 0, &[(DATA, 2 * 4096)]).0, 0);
    let cache = Arc::clone(&machine.cache);
    let foreign = Disk::new(image, cache, GroupId(7), OverlayMode::Nonpersistent, 0).unwrap();
    let foreign = Arc::new(BlockDevice::new(foreign, ""));
    // A guest of group 0 with a disk of group 7: the pmap refuses the frames, so they are copied.
    let guest = Guest::new(&machine.pmap, 2, Arc::clone(&foreign) as Arc<dyn Device>);
    guest.start(MODERN, 16);
    assert_eq!(guest.request(IN, 0, &[(DATA, 2 * 4096)]).0, 0);
    let stats = foreign.stats();
    assert_eq!(
        (stats.mapped_pages, stats.copied_pages, stats.image_reads),
        (0, 2, 1)
    );
    assert!(guest.read(DATA, 2 * 4096) == pattern(2 * 4096));
    assert_eq!(disk.stats().image_reads, 1);
}

#[test]
fn frames_that_nobody_maps_are_read_again() {
    let content = pattern(2 * 4096);
    let image = file(&content);
    let machine = Machine::new();
    let image = open(image.path());
    let (first, _) = machine.guest(1, &image);
    assert_eq!(first.request(IN, 0, &[(DATA, 2 * 4096)]).0, 0);
    machine.pmap.remove_space(first.space.vm());
    assert_eq!(machine.pmap.frames().counts().frames, 0);
    let (second, disk) = machine.guest(2, &image);
    assert_eq!(second.request(IN, 0, &[(DATA, 2 * 4096)]).0, 0);
    assert_eq!(disk.stats().image_reads, 1);
    assert!(second.read(DATA, 2 * 4096) == content);
}
