//! What a guest's devices do with a page that can't be brought back from swap: nobody sees zeros in
//! its place.

use crate::driver::*;
use crate::station::{MERGEABLE, pair};
use mirrorball_pmap::{Page, Pager, SwapLimits, SwapStore};
use mirrorball_virtio::{OverlayMode, Transfer};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::{io, thread};

/// A swap file in memory that fails when it is told to.
#[derive(Clone, Debug, Default)]
struct Store {
    pages: Arc<parking_lot::Mutex<std::collections::BTreeMap<u32, Page>>>,
    broken: Arc<AtomicBool>,
}

impl SwapStore for Store {
    fn write(&self, slot: u32, pages: &[u8]) -> io::Result<()> {
        for (slot, page) in (slot..).zip(pages.as_chunks().0) {
            self.pages.lock().insert(slot, *page);
        }
        Ok(())
    }

    fn read(&self, slot: u32, page: &mut Page) -> io::Result<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *page = self.pages.lock()[&slot];
        Ok(())
    }
}

#[test]
fn a_page_that_is_lost_does_not_leave_by_the_network_as_zeros() {
    for (transfer, pages) in [
        (Transfer::Always, 1),
        (Transfer::Never, 1),
        (Transfer::Cost, 3),
    ] {
        let (machine, sender, receiver) = pair(MERGEABLE, transfer);
        let (store, (send, lost)) = (Store::default(), mpsc::channel());
        let told = move |cause| send.send(cause).unwrap();
        let _pager = match Pager::start(
            &machine.pmap,
            Box::new(store.clone()),
            SwapLimits::store(4096),
            told,
        ) {
            Ok(pager) => pager,
            Err(error) => return eprintln!("not run: {error}"),
        };
        sender.guest.write(0xb000, &sender.ethernet(receiver.mac));
        sender.guest.write(DATA, &pattern(pages * 4096));
        receiver.post(0, &[(0xb000, 26), (DATA, 16 * 4096)]);
        // What the device needs is there; the message is on swap, and can't be read.
        sender.guest.space.settle();
        sender.guest.space.swap_out(4096, 1).unwrap();
        for page in (0..DATA / PAGE).map(|page| page * PAGE) {
            sender.guest.read(page, 1);
        }
        store.broken.store(true, Ordering::Relaxed);
        let len = u32::try_from(pages * 4096).unwrap();
        let device = thread::spawn(move || {
            sender.send(&[(0xb000, 14), (DATA, len)]);
            sender
        });
        lost.recv().unwrap();
        let space = machine.pmap.space(mirrorball_pmap::VmId(1)).unwrap();
        space.abandon();
        let sender = device.join().unwrap();
        assert_eq!(sender.stats().port.sent, 0, "{transfer}");
        let doorbell = receiver.guest.transport.doorbells()[0].read();
        let rang = doorbell.is_ok();
        receiver.guest.transport.process(0).unwrap();
        assert_eq!(receiver.guest.used(), [], "{transfer}, {rang}");
    }
}

/// Where the guest writes: its disk's second block.
const SECTOR: u64 = 8;
/// Where the second half of a header that is cut in two is.
const ELSEWHERE: u64 = 0xb000;
/// VIRTIO_BLK_S_IOERR.
const IOERR: u8 = 1;

/// Has a guest write 3 blocks over what it wrote there before, in a request cut into `chain`, while all
/// pages but those of its rings are lost; what its persistent disk holds afterwards, by another guest.
fn overwritten_while_lost(kept: &[u64], chain: &[Desc]) -> Option<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let overlay = OverlayMode::Persistent(directory.path().join("overlay"));
    let base = file(&pattern(16 * 4096));
    let image = open(base.path());
    let machine = Machine::new();
    let (store, (send, lost)) = (Store::default(), mpsc::channel());
    let told = move |cause| send.send(cause).unwrap();
    let _pager = match Pager::start(
        &machine.pmap,
        Box::new(store.clone()),
        SwapLimits::store(4096),
        told,
    ) {
        Ok(pager) => pager,
        Err(error) => {
            eprintln!("not run: {error}");
            return None;
        }
    };
    let (guest, _) = machine.guest_of(1, machine.disk(&image, overlay.clone(), 0));
    guest.write(DATA, &[0x11; 2 * 4096]);
    assert_eq!(guest.request(OUT, SECTOR, &[(DATA, 8192)]).0, 0);
    assert_eq!(guest.request(FLUSH, 0, &[]).0, 0);
    guest.write(DATA, &[0x22; 3 * 4096]);
    let header = [&OUT.to_le_bytes()[..], &[0; 4], &SECTOR.to_le_bytes()].concat();
    guest.write(HEADERS, &header);
    guest.write(ELSEWHERE, &header[8..]);
    guest.write(STATUSES, &[0xee]);
    guest.describe(0, chain);
    guest.offer(0);
    guest.space.settle();
    guest.space.swap_out(4096, 1).unwrap();
    for page in [TABLE, AVAIL, USED, STATUSES].iter().chain(kept) {
        guest.read(*page, 1);
    }
    store.broken.store(true, Ordering::Relaxed);
    let device = thread::spawn(move || {
        guest.kick().unwrap();
        guest
    });
    lost.recv().unwrap();
    let space = machine.pmap.space(mirrorball_pmap::VmId(1)).unwrap();
    space.abandon();
    let guest = device.join().unwrap();
    assert_eq!(guest.read(STATUSES, 1), [IOERR], "{chain:?}");
    // An orderly end flushes what is there.
    drop(guest);
    drop(space);
    machine.pmap.remove_space(mirrorball_pmap::VmId(1));
    let (reader, _) = machine.guest_of(2, machine.disk(&image, overlay, 0));
    assert_eq!(reader.request(IN, 0, &[(DATA, 16 * 4096)]).0, 0);
    Some(reader.read(DATA, 16 * 4096))
}

#[test]
fn a_write_of_a_page_that_is_lost_fails_and_leaves_the_disk_as_it_was() {
    let header = Desc(HEADERS, 16, NEXT, 1);
    let status = Desc(STATUSES, 1, WRITE, 0);
    // All is lost; some of what is to be written; where to write it.
    let whole = [header, Desc(DATA, 3 * 4096, NEXT, 2), status];
    let split = [
        Desc(HEADERS, 8, NEXT, 1),
        Desc(ELSEWHERE, 8, NEXT, 2),
        Desc(DATA, 4096, NEXT, 3),
        status,
    ];
    let mut expected = pattern(16 * 4096);
    expected[4096..3 * 4096].fill(0x11);
    for (kept, chain) in [
        (vec![HEADERS], &whole[..]),
        (vec![HEADERS, DATA, DATA + 2 * PAGE], &whole),
        (vec![HEADERS, DATA], &split),
    ] {
        let Some(found) = overwritten_while_lost(&kept, chain) else {
            return;
        };
        for (block, (found, expected)) in found.chunks(4096).zip(expected.chunks(4096)).enumerate()
        {
            assert!(
                found == expected,
                "{kept:?}: block {block}: {:?}",
                &found[..8]
            );
        }
    }
}
