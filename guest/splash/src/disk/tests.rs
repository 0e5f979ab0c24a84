//! A disk on the host, whose device is a vector of bytes.

use super::*;
use crate::fake::{Chain, Fake, INDIRECT_DESC, VERSION_1, load_page, store};
use crate::memory::Region;
use core::sync::atomic::Ordering;
use std::thread;
use virtio_drivers::transport::DeviceType;

const BLOCKS: u64 = 64;
/// Types and status of block requests (virtio 1.2, clause 5.2.6).
const IN: u32 = 0;
const OUT: u32 = 1;
const IOERR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// One page in flight on each of so many threads; more than any queue has room for.
const THREADS: u64 = 20;

fn device(features: u64, largest_queue: u32) -> Fake {
    let sectors = BLOCKS * SECTORS_PER_BLOCK as u64;
    let mut config = sectors.to_le_bytes().to_vec();
    config.resize(64, 0);
    Fake::new(
        DeviceType::Block,
        VERSION_1 | features,
        &config,
        largest_queue,
    )
}

fn up(fake: &Fake) -> Disk<Fake> {
    Disk::new(fake.clone()).unwrap()
}

/// A request's type and first byte on the disk.
fn header(chain: &Chain) -> (u32, usize) {
    let word = |at: usize| u32::from_le_bytes(*chain.readable[at..].first_chunk().unwrap());
    let sector = u64::from(word(8)) | u64::from(word(12)) << 32;
    (word(0), usize_of(sector) * SECTOR_SIZE)
}

/// Serves a request from or into `content` and answers how many bytes the driver gets.
fn serve(chain: &Chain, content: &mut [u8]) -> usize {
    let (kind, mut at) = header(chain);
    let (status, buffers) = chain.writable.split_last().unwrap();
    assert_eq!(status.1, 1, "the status is one byte");
    let data = &chain.readable[16..];
    match kind {
        IN => {
            assert!(data.is_empty());
            for (address, len) in buffers {
                store(*address, &content[at..at + len]);
                at += len;
            }
        }
        OUT => {
            assert!(buffers.is_empty());
            content[at..at + data.len()].copy_from_slice(data);
        }
        _ => panic!("a request of type {kind}"),
    }
    store(status.0, &[0]);
    buffers.iter().map(|(_, len)| len).sum::<usize>() + 1
}

fn fill(region: &Region, value: u64) {
    for (index, word) in (0..).zip(region.words()) {
        word.store(value << 32 | index, Ordering::Relaxed);
    }
}

fn filled(region: &Region, value: u64) -> bool {
    let mut words = (0..).zip(region.words());
    words.all(|(index, word)| word.load(Ordering::Relaxed) == value << 32 | index)
}

fn write(disk: &Disk<Fake>, block: u64, region: &Region) -> Result<(), DiskError> {
    // SAFETY: the region is the calling test's, which waits.
    unsafe { disk.write(block, region.address(), region.pages()) }
}

fn read(disk: &Disk<Fake>, block: u64, region: &Region) -> Result<(), DiskError> {
    // SAFETY: the region is the calling test's, which waits.
    unsafe { disk.read(block, region.address(), region.pages()) }
}

#[test]
fn what_is_written_is_on_the_disk_and_is_read_again() {
    for features in [0, INDIRECT_DESC] {
        let fake = device(features, 128);
        let disk = up(&fake);
        assert!(fake.is_live());
        assert_eq!(fake.accepted(), VERSION_1 | features);
        assert_eq!(disk.blocks(), BLOCKS);
        let mut content = vec![0; usize_of(BLOCKS) * PAGE_SIZE];
        let (from, to) = (Region::new(3).unwrap(), Region::new(3).unwrap());
        fill(&from, 5);
        fill(&to, 6);
        thread::scope(|scope| {
            let guest = scope.spawn(|| {
                write(&disk, 61, &from).unwrap();
                read(&disk, 61, &to).unwrap();
            });
            for kind in [OUT, IN] {
                let chain = fake.wait(0);
                assert_eq!(header(&chain), (kind, 61 * PAGE_SIZE));
                assert!(!guest.is_finished());
                let written = serve(&chain, &mut content);
                fake.finish(0, &chain, written);
            }
        });
        assert!(filled(&to, 5));
        assert!(content[..61 * PAGE_SIZE].iter().all(|byte| *byte == 0));
        assert_eq!(content[61 * PAGE_SIZE..][..8], (5_u64 << 32).to_le_bytes());
        assert_eq!(fake.notified(0), 2);
    }
}

#[test]
fn blocks_past_the_end_are_refused_without_a_request() {
    let fake = device(0, 16);
    let disk = up(&fake);
    let (one, two) = (Region::new(1).unwrap(), Region::new(2).unwrap());
    for (block, region) in [(BLOCKS, &one), (BLOCKS - 1, &two), (u64::MAX, &one)] {
        for outcome in [read(&disk, block, region), write(&disk, block, region)] {
            let said = outcome.unwrap_err().0;
            assert!(said.contains("are not on a disk of 64"), "{said}");
        }
    }
    assert!(fake.take(0).is_none());
    assert_eq!(fake.notified(0), 0);
}

#[test]
fn a_devices_error_is_the_callers_and_the_disk_goes_on() {
    let fake = device(INDIRECT_DESC, 16);
    let disk = up(&fake);
    let region = Region::new(1).unwrap();
    thread::scope(|scope| {
        let guest = scope.spawn(|| {
            let failed = [read(&disk, 0, &region), write(&disk, 0, &region)];
            (failed, read(&disk, 1, &region))
        });
        for status in [IOERR, UNSUPPORTED] {
            let chain = fake.wait(0);
            store(chain.writable.last().unwrap().0, &[status]);
            fake.finish(0, &chain, 1);
        }
        let chain = fake.wait(0);
        let written = serve(&chain, &mut vec![9; 2 * PAGE_SIZE]);
        fake.finish(0, &chain, written);
        let (failed, good) = guest.join().unwrap();
        for outcome in failed {
            let said = outcome.unwrap_err().0;
            assert!(said.starts_with("disk request failed: "), "{said}");
        }
        assert_eq!(good, Ok(()));
    });
    let nines = u64::from_ne_bytes([9; 8]);
    assert!(
        region
            .words()
            .iter()
            .all(|w| w.load(Ordering::Relaxed) == nines)
    );
}

/// The device completes what it has in the reverse order, with more requests waiting than its queue
/// has room for: each thread must get its own pages, and none may wait for ever.
#[test]
fn requests_of_many_threads_are_told_apart_in_any_order() {
    // A request takes three descriptors of the queue's 16, or one that names three.
    for (features, room) in [(0, 5), (INDIRECT_DESC, 16)] {
        let fake = device(features, 16);
        let disk = up(&fake);
        let mut content = vec![0; usize_of(BLOCKS) * PAGE_SIZE];
        thread::scope(|scope| {
            let guests: Vec<_> = (0..THREADS)
                .map(|number| {
                    let disk = &disk;
                    scope.spawn(move || {
                        let region = Region::new(1).unwrap();
                        fill(&region, number + 1);
                        write(disk, number * 2, &region).unwrap();
                        fill(&region, 0);
                        read(disk, number * 2, &region).unwrap();
                        filled(&region, number + 1)
                    })
                })
                .collect();
            let mut batch: Vec<_> = (0..room).map(|_| fake.wait(0)).collect();
            assert!(fake.take(0).is_none(), "the queue is full");
            while !guests.iter().all(thread::ScopedJoinHandle::is_finished) {
                while let Some(chain) = batch.pop() {
                    let written = serve(&chain, &mut content);
                    fake.finish(0, &chain, written);
                }
                batch.extend(std::iter::from_fn(|| fake.take(0)));
                thread::yield_now();
            }
            assert!(guests.into_iter().all(|guest| guest.join().unwrap()));
        });
    }
}

/// What the pages of a queue hold.
fn pages_of(fake: &Fake) -> Vec<u8> {
    let [table, used] = fake.pages(0);
    [load_page(table), load_page(used)].concat()
}

#[test]
fn a_queue_at_rest_holds_nothing_of_its_requests() {
    let fake = device(INDIRECT_DESC, 16);
    let disk = up(&fake);
    let new = pages_of(&fake);
    let mut content = vec![0; usize_of(BLOCKS) * PAGE_SIZE];
    let region = Region::new(1).unwrap();
    thread::scope(|scope| {
        let (first, second) = (Region::new(1).unwrap(), Region::new(1).unwrap());
        let disk = &disk;
        let one = scope.spawn(move || read(disk, 1, &first));
        let chain = fake.wait(0);
        let other = scope.spawn(move || read(disk, 2, &second));
        let later = fake.wait(0);
        disk.renew(|| panic!("two requests are under way"));
        for chain in [later, chain] {
            let written = serve(&chain, &mut content);
            fake.finish(0, &chain, written);
        }
        assert!(one.join().unwrap().is_ok() && other.join().unwrap().is_ok());
    });
    assert!(pages_of(&fake) != new, "the requests left nothing to see");
    disk.renew(|| Some(fake.clone()));
    assert!(fake.is_live() && pages_of(&fake) == new);
    thread::scope(|scope| {
        let guest = scope.spawn(|| read(&disk, 3, &region));
        let chain = fake.wait(0);
        let written = serve(&chain, &mut content);
        fake.finish(0, &chain, written);
        assert_eq!(guest.join().unwrap(), Ok(()));
    });
    // What does not come up again is told, and keeps nobody waiting.
    disk.renew(|| None);
    let said = read(&disk, 3, &region).unwrap_err().0;
    assert!(said.starts_with("disk request refused"), "{said}");
}

#[test]
fn a_device_whose_queue_is_too_small_does_not_come_up() {
    let fake = device(0, 8);
    assert_eq!(Disk::new(fake.clone()).err(), Some(Error::InvalidParam));
    assert!(!fake.is_live());
}
