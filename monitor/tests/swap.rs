//! Real guests whose pages are on swap, and what becomes of one whose page is lost.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use common::{LONG, config, eventually, machine, wait_stopped};
use mirrorball_abi::{Phase, Workload, WorkloadKind};
use mirrorball_monitor::{Machine, StopCause, Vm, VmState};
use mirrorball_pmap::{Lost, PAGE_SIZE, Page, Pager, Ppn, SwapLimits, SwapStore};

/// A swap file in memory, whose reads fail when they shall.
#[derive(Clone, Debug, Default)]
struct Store {
    pages: Arc<parking_lot::Mutex<BTreeMap<u32, Page>>>,
    broken: Arc<AtomicBool>,
}

impl SwapStore for Store {
    fn write(&self, slot: u32, pages: &[u8]) -> io::Result<()> {
        let mut kept = self.pages.lock();
        for (slot, page) in (slot..).zip(pages.as_chunks::<PAGE_SIZE>().0) {
            kept.insert(slot, *page);
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

/// Has the VM of a lost page stopped, on another thread.
fn stop(machine: &Weak<Machine>, lost: Lost) {
    let machine = machine.upgrade().unwrap();
    let vm = machine.vms().into_iter().find(|vm| vm.id() == lost.vm);
    thread::spawn(move || vm.unwrap().fail(lost.reason));
}

/// A guest that touches a working set of 4 MiB all the time.
fn toucher(machine: &Machine, name: &str) -> Arc<Vm> {
    let vm = machine.create_vm(&config(name, 1)).unwrap();
    vm.start().unwrap();
    vm.wait_until(Phase::Ready, 0, LONG).unwrap();
    let mut touch = Workload {
        kind: WorkloadKind::Touch as u32,
        seed: 5,
        ..Workload::default()
    };
    // Working set in pages, period in milliseconds, per cent that moves, per cent that is written.
    touch.params[..4].copy_from_slice(&[1024, 1, 10, 30]);
    vm.command(&touch);
    eventually("at work", || vm.status().operations > 4096);
    vm
}

#[test]
fn guests_find_their_pages_again_and_a_lost_one_stops_its_guest_alone() {
    let Some(machine) = machine("guests_find_their_pages_again") else {
        return;
    };
    let store = Store::default();
    let of_machine = Arc::downgrade(&machine);
    let lost = move |lost| stop(&of_machine, lost);
    let limits = SwapLimits::store(1 << 16);
    let Ok(pager) = Pager::start(machine.pmap(), Box::new(store.clone()), limits, lost) else {
        return eprintln!("not run: no paging on this host");
    };
    let (unlucky, other) = (toucher(&machine, "unlucky"), toucher(&machine, "other"));
    for round in 0..20 {
        for vm in [&unlucky, &other] {
            vm.space().settle();
            vm.space().swap_out(200, round).unwrap();
        }
    }
    eventually("pages come back", || pager.counts().read > 500);
    for vm in [&unlucky, &other] {
        assert_eq!(vm.state(), VmState::Running);
        assert_eq!(vm.status().mismatches, 0, "{}", vm.name());
    }
    // All of the other's pages come back, so that only one guest has any on the broken file. Pages are
    // asked for one by one: a guest that has no core for a while touches nothing.
    for ppn in (0..other.space().pages()).map(Ppn) {
        std::hint::black_box(other.space().with_page(ppn, |page| page[0]));
    }
    store.broken.store(true, Ordering::Relaxed);
    unlucky.space().settle();
    unlucky.space().swap_out(400, 99).unwrap();
    match wait_stopped(&unlucky) {
        StopCause::Monitor(reason) => assert!(reason.contains("swap"), "{reason}"),
        cause => panic!("{cause}"),
    }
    unlucky.stop();
    let before = other.status().operations;
    eventually("the other goes on", || {
        other.status().operations > before + 10_000
    });
    assert_eq!(other.status().mismatches, 0);
}
