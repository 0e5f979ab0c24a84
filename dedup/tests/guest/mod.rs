//! A machine of guests without vCPUs: the test writes their memory and knows
//! what every page must hold.
#![allow(dead_code, reason = "each test file uses its part")]

use mirrorball_dedup::ScannerConfig;
use mirrorball_pmap::{AddressSpace, GroupId, Page, Pmap, PmapConfig, Ppn, VmId};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use vm_memory::{Bytes, GuestAddress};

/// Settings for tests: one thread, no waiting.
pub fn config() -> ScannerConfig {
    ScannerConfig {
        threads: 1,
        nice: 0,
        burden: None,
        interval: std::time::Duration::ZERO,
        ..ScannerConfig::default()
    }
}

/// A page of content number `seed`; different for different numbers.
pub fn page(seed: u64) -> Page {
    let mut page = [0; 4096];
    for (n, word) in (1_u64..).zip(page.as_chunks_mut::<8>().0) {
        *word = (seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n).to_le_bytes();
    }
    page
}

pub struct Machine {
    pub pmap: Arc<Pmap>,
    expected: Mutex<BTreeMap<(u32, u32), Page>>,
}

impl Machine {
    /// VMs 0.. of these sizes in pages, all of group 0.
    pub fn new(pages: &[u64]) -> Self {
        Self::of(
            pages,
            PmapConfig {
                frame_capacity: 1 << 30,
                ..PmapConfig::default()
            },
        )
    }

    pub fn with_budget(pages: &[u64], vmas: usize) -> Self {
        Self::of(
            pages,
            PmapConfig {
                vma_budget: Some(vmas),
                frame_capacity: 1 << 30,
                ..PmapConfig::default()
            },
        )
    }

    pub fn of(pages: &[u64], config: PmapConfig) -> Self {
        let machine = Self {
            pmap: Pmap::new(&config).unwrap(),
            expected: Mutex::default(),
        };
        for (vm, pages) in (0..).zip(pages) {
            machine.add(vm, GroupId(0), *pages);
        }
        machine
    }

    pub fn add(&self, vm: u32, group: GroupId, pages: u64) {
        self.pmap
            .create_space(VmId(vm), group, pages * 4096)
            .unwrap();
    }

    pub fn remove(&self, vm: u32) {
        self.pmap.remove_space(VmId(vm));
        self.expected
            .lock()
            .unwrap()
            .retain(|(owner, _), _| *owner != vm);
    }

    pub fn space(&self, vm: u32) -> Arc<AddressSpace> {
        self.pmap.space(VmId(vm)).unwrap()
    }

    /// Writes pages and notes what they hold.
    pub fn fill(&self, vm: u32, pages: Range<u32>, content: impl Fn(u32) -> Page) {
        let space = self.space(vm);
        for ppn in pages {
            let page = content(ppn);
            space
                .access()
                .memory()
                .write_slice(&page, GuestAddress(Ppn(ppn).address()))
                .unwrap();
            self.expected.lock().unwrap().insert((vm, ppn), page);
        }
    }

    /// Every page holds what was written last.
    pub fn verify(&self) {
        for ((vm, ppn), expected) in self.expected.lock().unwrap().iter() {
            let mut page = [0; 4096];
            self.space(*vm)
                .access()
                .memory()
                .read_slice(&mut page, GuestAddress(Ppn(*ppn).address()))
                .unwrap();
            assert!(page == *expected, "vm {vm} page {ppn}");
        }
    }
}
