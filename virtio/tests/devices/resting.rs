//! Blocks that are copied first and mapped when the copies have rested. Time is the test's own.

use crate::driver::*;
use mirrorball_pmap::{Mechanism, PageState, Ppn};
use mirrorball_virtio::{BlockCache, Rest};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const REST: Rest = Rest {
    quiet: Duration::from_secs(100),
    most: Duration::from_secs(2000),
    again: Duration::from_secs(50_000),
    burden: None,
};

fn machine() -> Machine {
    Machine::of(|pmap| BlockCache::with_rest(pmap, REST))
}

/// A moment by which a guest that reads nothing from now on has been quiet for long enough.
fn when_quiet() -> Instant {
    Instant::now() + REST.quiet
}

fn ppn(address: u64) -> Ppn {
    Ppn(u32::try_from(address / PAGE).unwrap())
}

/// The frames of these pages, as far as they map any for their disk.
fn frames(guest: &Guest, address: u64, pages: u64) -> Vec<Option<u32>> {
    guest.space.settle();
    (0..pages)
        .map(|page| match guest.space.state(ppn(address + page * PAGE)) {
            PageState::Mapped(mpn, Mechanism::Disk) => Some(mpn.0),
            _ => None,
        })
        .collect()
}

#[test]
fn a_block_is_copied_at_once_and_mapped_when_its_guest_is_quiet() {
    let content = pattern(16 * 4096);
    let image = file(&content);
    let machine = machine();
    let image = open(image.path());
    let (first, first_disk) = machine.guest(1, &image);
    let (second, second_disk) = machine.guest(2, &image);
    for guest in [&first, &second] {
        assert_eq!(guest.request(IN, 0, &[(DATA, 16 * 4096)]).0, 0);
        assert!(guest.read(DATA, 16 * 4096) == content);
    }
    let counts = |stats: mirrorball_virtio::BlockStats| {
        (stats.image_reads, stats.mapped_pages, stats.copied_pages)
    };
    assert_eq!(counts(first_disk.stats()), (1, 0, 16));
    assert_eq!(counts(second_disk.stats()), (1, 0, 16));
    assert_eq!(machine.pmap.frames().counts().frames, 0, "none yet");
    machine.cache.map_rested(Instant::now());
    assert_eq!(frames(&first, DATA, 16), [None; 16], "too early");

    machine.cache.map_rested(when_quiet());
    let mapped = frames(&first, DATA, 16);
    assert!(mapped.iter().all(Option::is_some));
    assert_eq!(frames(&second, DATA, 16), mapped);
    assert_eq!(counts(first_disk.stats()), (1, 16, 0));
    assert_eq!(counts(second_disk.stats()), (1, 16, 0));
    assert_eq!(machine.pmap.totals().frames, 16);

    let (third, third_disk) = machine.guest(3, &image);
    assert_eq!(third.request(IN, 0, &[(DATA, 16 * 4096)]).0, 0);
    assert_eq!(
        counts(third_disk.stats()),
        (0, 0, 16),
        "copied from what others map"
    );
    for guest in [&first, &second, &third] {
        assert!(guest.read(DATA, 16 * 4096) == content);
    }
}

#[test]
fn a_guest_that_runs_is_left_alone_until_the_rest_is_over() {
    let image = file(&pattern(4 * 4096));
    let machine = machine();
    let (guest, _) = machine.guest(1, &open(image.path()));
    assert_eq!(guest.request(IN, 0, &[(DATA, 4 * 4096)]).0, 0);
    let space = Arc::clone(&guest.space);
    let running = space.enter_guest();
    machine.cache.map_rested(when_quiet());
    assert_eq!(frames(&guest, DATA, 4), [None; 4]);
    machine.cache.map_rested(Instant::now() + REST.most);
    assert!(frames(&guest, DATA, 4).iter().all(Option::is_some));
    drop(running);
}

#[test]
fn a_guest_that_goes_on_reading_is_not_quiet() {
    let image = file(&pattern(8 * 4096));
    let machine = machine();
    let (guest, _) = machine.guest(1, &open(image.path()));
    assert_eq!(guest.request(IN, 0, &[(DATA, 4096)]).0, 0);
    let since_the_first = when_quiet();
    thread::sleep(Duration::from_millis(1));
    assert_eq!(guest.request(IN, 8, &[(DATA + PAGE, 4096)]).0, 0);
    machine.cache.map_rested(since_the_first);
    assert_eq!(frames(&guest, DATA, 2), [None; 2]);
    machine.cache.map_rested(when_quiet());
    assert!(frames(&guest, DATA, 2).iter().all(Option::is_some));
}

#[test]
fn what_was_written_meanwhile_stays_the_guests_own() {
    let content = pattern(4 * 4096);
    let image = file(&content);
    let machine = machine();
    let (guest, disk) = machine.guest(1, &open(image.path()));
    assert_eq!(guest.request(IN, 0, &[(DATA, 4 * 4096)]).0, 0);
    guest.write(DATA + PAGE + 7, &[0xee]);
    machine.cache.map_rested(when_quiet());
    let mapped: Vec<_> = frames(&guest, DATA, 4)
        .iter()
        .map(Option::is_some)
        .collect();
    assert_eq!(mapped, [true, false, true, true]);
    let mut expected = content;
    expected[4096 + 7] = 0xee;
    assert!(guest.read(DATA, 4 * 4096) == expected);
    assert_eq!(
        (disk.stats().mapped_pages, disk.stats().copied_pages),
        (3, 1)
    );
}

#[test]
fn a_later_read_to_the_same_place_is_the_one_that_counts() {
    let content = pattern(9 * 4096);
    let image = file(&content);
    let machine = machine();
    let (guest, _) = machine.guest(1, &open(image.path()));
    assert_eq!(guest.request(IN, 0, &[(DATA, 4 * 4096)]).0, 0);
    assert_eq!(guest.request(IN, 4 * 8, &[(DATA, 5 * 4096)]).0, 0);
    machine.cache.map_rested(when_quiet());
    assert!(frames(&guest, DATA, 5).iter().all(Option::is_some));
    assert_eq!(
        machine.pmap.frames().counts().frames,
        5,
        "what was overwritten needs no frames"
    );
    assert!(guest.read(DATA, 5 * 4096) == content[4 * 4096..]);
}

#[test]
fn buffers_that_were_read_into_again_need_no_frames() {
    let content = pattern(8 * 4096);
    let image = file(&content);
    let machine = machine();
    let (guest, disk) = machine.guest(1, &open(image.path()));
    assert_eq!(guest.request(IN, 0, &[(DATA, 4 * 4096)]).0, 0);
    // To the same pages soon after: buffers, as the disk takes it.
    assert_eq!(guest.request(IN, 4 * 8, &[(DATA, 4 * 4096)]).0, 0);
    machine.cache.map_rested(Instant::now() + REST.most);
    assert_eq!(frames(&guest, DATA, 4), [None; 4]);
    assert_eq!(machine.pmap.frames().counts().frames, 0, "none was made");
    assert_eq!(
        disk.stats().image_reads,
        2,
        "nothing was read for the mapper"
    );
    assert!(guest.read(DATA, 4 * 4096) == content[4 * 4096..]);
}

#[test]
fn neighbours_that_were_read_one_by_one_become_one_mapping() {
    let content = pattern(16 * 4096);
    let image = file(&content);
    let machine = machine();
    let (guest, _) = machine.guest(1, &open(image.path()));
    for block in 0..16 {
        let data = [(DATA + block * PAGE, 4096)];
        assert_eq!(guest.request(IN, block * 8, &data).0, 0);
    }
    let before = guest.space.holds().len();
    machine.cache.map_rested(when_quiet());
    assert!(frames(&guest, DATA, 16).iter().all(Option::is_some));
    assert_eq!(guest.space.holds().len(), before + 1, "one fence");
    assert!(guest.read(DATA, 16 * 4096) == content);
}

#[test]
fn blocks_that_the_guest_reads_again_rest_longer_and_keep_no_frame() {
    let content = pattern(4 * 4096);
    let image = file(&content);
    let machine = machine();
    let (guest, disk) = machine.guest(1, &open(image.path()));
    let read = |address| assert_eq!(guest.request(IN, 0, &[(address, 4 * 4096)]).0, 0);
    read(DATA);
    guest.write(DATA, &vec![1; 4 * 4096]);
    machine.cache.map_rested(when_quiet());
    assert_eq!(machine.pmap.frames().counts().frames, 0);

    read(DATA + 0x8000);
    assert_eq!(machine.pmap.frames().counts().frames, 0);
    machine.cache.map_rested(Instant::now() + REST.most);
    assert_eq!(frames(&guest, DATA + 0x8000, 4), [None; 4]);
    assert_eq!(disk.stats().copied_pages, 8);

    machine.cache.map_rested(Instant::now() + REST.again);
    assert!(frames(&guest, DATA + 0x8000, 4).iter().all(Option::is_some));
    assert!(guest.read(DATA + 0x8000, 4 * 4096) == content);
}

#[test]
fn everything_can_be_mapped_at_once_and_goes_with_its_guest() {
    let image = file(&pattern(8 * 4096));
    let machine = machine();
    let image = open(image.path());
    let (first, _) = machine.guest(1, &image);
    let (second, _) = machine.guest(2, &image);
    assert_eq!(first.request(IN, 0, &[(DATA, 4 * 4096)]).0, 0);
    assert_eq!(second.request(IN, 4 * 8, &[(DATA, 4 * 4096)]).0, 0);
    machine.pmap.remove_space(second.space.vm());
    machine.cache.map_all();
    assert!(frames(&first, DATA, 4).iter().all(Option::is_some));
    assert_eq!(machine.pmap.frames().counts().frames, 4);
    machine.pmap.remove_space(first.space.vm());
    assert_eq!(machine.pmap.frames().counts().frames, 0);
}

#[test]
fn a_thread_maps_what_has_rested_until_it_is_told_to_end() {
    let soon = Duration::from_millis(2);
    let rest = Rest {
        quiet: soon,
        most: soon,
        again: soon,
        burden: None,
    };
    let machine = Machine::of(|pmap| BlockCache::with_rest(pmap, rest));
    let image = file(&pattern(4 * 4096));
    let (guest, _) = machine.guest(1, &open(image.path()));
    thread::scope(|scope| {
        scope.spawn(|| machine.cache.run());
        for read in 0..2 {
            let at = DATA + read * 0x8000;
            assert_eq!(guest.request(IN, 0, &[(at, 4 * 4096)]).0, 0);
            while !frames(&guest, at, 4).iter().all(Option::is_some) {
                thread::sleep(Duration::from_millis(1));
            }
        }
        machine.cache.close();
    });
}
