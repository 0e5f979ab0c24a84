//! What a guest's devices do with a page that can't be brought back from swap: nobody sees zeros in
//! its place.

use crate::driver::*;
use crate::station::{MERGEABLE, pair};
use mirrorball_pmap::{Page, Pager, SwapStore};
use mirrorball_virtio::Transfer;
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
        let _pager = match Pager::start(&machine.pmap, Box::new(store.clone()), 4096, told) {
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
