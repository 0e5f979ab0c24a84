//! The share protocol as a small model whose interleavings are all tried (loom).
//!
//! What the kernel makes atomic is one critical section here: an access by the guest checks the
//! page's permission and takes effect in one step; `mprotect` and `mmap` take effect in one step.
//! Everything between those steps may be interrupted by a guest write or a device write.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use loom::sync::{Arc, Mutex, RwLock};

#[derive(Clone, Copy, PartialEq)]
enum Mapping {
    Private(u8),
    Frame,
    /// Nothing, for a moment: whoever looks gets a fault that nobody handles.
    Gap,
}

struct Mmu {
    mapping: Mapping,
    writable: bool,
}

struct Vm {
    dma: RwLock<()>,
    guest: RwLock<()>,
    mmu: Mutex<Mmu>,
}

const FRAME: u8 = 7;

impl Vm {
    fn read(&self) -> u8 {
        match self.mmu.lock().unwrap().mapping {
            Mapping::Private(byte) => byte,
            Mapping::Frame => FRAME,
            Mapping::Gap => panic!("somebody met the gap"),
        }
    }

    /// A read by the monitor itself, say to hash the page.
    fn look(&self) -> u8 {
        let _mapped = self.dma.read().unwrap();
        self.read()
    }

    /// A guest's store: it faults on a fence, waits, and is executed again.
    fn guest_write(&self, byte: u8) {
        loop {
            {
                let _inside = self.guest.read().unwrap();
                let mut mmu = self.mmu.lock().unwrap();
                assert!(mmu.mapping != Mapping::Gap, "the guest met the gap");
                if mmu.writable {
                    mmu.mapping = Mapping::Private(byte);
                    return;
                }
            }
            drop(self.dma.read().unwrap());
            loom::thread::yield_now();
        }
    }

    fn device_write(&self, byte: u8) {
        let _access = self.dma.read().unwrap();
        let mut mmu = self.mmu.lock().unwrap();
        assert!(mmu.writable, "a device met a fence");
        assert!(mmu.mapping != Mapping::Gap, "a device met the gap");
        mmu.mapping = Mapping::Private(byte);
    }

    fn share(&self, fence: Fence) {
        let _batch = self.dma.write().unwrap();
        let outside = match fence {
            Fence::TryOutside | Fence::Stretch => self.guest.try_write().ok(),
            Fence::Always | Fence::Never | Fence::Gap => None,
        };
        if outside.is_none() && fence != Fence::Never {
            self.mmu.lock().unwrap().writable = false;
        }
        let equal = self.read() == FRAME;
        if equal && (fence == Fence::Gap || fence == Fence::Stretch && outside.is_some()) {
            self.mmu.lock().unwrap().mapping = Mapping::Gap;
        }
        let mut mmu = self.mmu.lock().unwrap();
        if equal {
            mmu.mapping = Mapping::Frame;
        }
        mmu.writable = true;
    }
}

/// How the pages are kept from being written.
#[derive(Clone, Copy, PartialEq)]
enum Fence {
    /// By keeping the guest outside, if it is; else by the fence.
    TryOutside,
    Always,
    Never,
    /// As `TryOutside`, and if the guest is outside the pages are unmapped before they are mapped.
    Stretch,
    /// Unmapping them whoever is inside.
    Gap,
}

fn run(fence: Fence, device: bool) {
    loom::model(move || {
        let vm = Arc::new(Vm {
            dma: RwLock::new(()),
            guest: RwLock::new(()),
            mmu: Mutex::new(Mmu {
                mapping: Mapping::Private(FRAME),
                writable: true,
            }),
        });
        let sharer = {
            let vm = Arc::clone(&vm);
            loom::thread::spawn(move || vm.share(fence))
        };
        if device {
            vm.device_write(1);
        } else {
            vm.guest_write(1);
        }
        assert_eq!(vm.look(), 1, "a write was lost");
        sharer.join().unwrap();
        assert_eq!(vm.read(), 1, "a write was lost");
    });
}

#[test]
fn no_guest_write_is_lost() {
    run(Fence::Always, false);
}

#[test]
fn no_write_is_lost_of_a_guest_that_was_outside() {
    run(Fence::TryOutside, false);
}

#[test]
fn no_device_write_is_lost() {
    run(Fence::TryOutside, true);
}

#[test]
fn nobody_meets_the_gap_of_a_stretch() {
    run(Fence::Stretch, false);
    run(Fence::Stretch, true);
}

#[test]
#[should_panic(expected = "met the gap")]
fn a_guest_inside_would_meet_the_gap() {
    run(Fence::Gap, false);
}

#[test]
#[should_panic(expected = "a write was lost")]
fn without_the_fence_a_guest_write_is_lost() {
    run(Fence::Never, false);
}
