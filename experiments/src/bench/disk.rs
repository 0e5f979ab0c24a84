//! Disk blocks that several guests hold: how many are kept once before any scanner has run.
//!
//! By content, not by the books of who read what: a block counts once for each guest that has its
//! bytes in a page, wherever they came from, if another guest has them too. It is shared when a
//! page of the guest that holds it names the same frame as another guest's. Further copies in the
//! same guest (what a program reads out of its buffer cache) are told apart: they are not the disk's.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use mirrorball_abi::WorkloadKind;
use mirrorball_dedup::{Content, PageHasher};
use mirrorball_pmap::{Mpn, PAGE_SIZE, PageState, Ppn, PpnRun, VmId};

use super::rig::{self, Guests, Rig};
use super::{Bench, BenchError, Log, Row, Wanted};

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "disk-first",
    what: "common disk blocks shared before any scan has run",
    measure,
};

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    let image = rig::image()?;
    let hasher = PageHasher::new(rig::SEED);
    let blocks = block_hashes(&image, &hasher)?;
    let guests = Guests {
        count: 8,
        memory: 128 << 20,
        image: Some(image),
        disk_sharing: true,
        tracking: true,
    };
    for _ in 0..log.runs {
        let rig = Rig::start(&guests)?;
        rig.run(&rig::workload(WorkloadKind::Pmake, &[2, 1, 400]))?;
        // No scan: disks replace what they copied as soon as a guest is quiet, and it is now.
        rig.machine().map_copied_blocks();
        let found = Found::in_guests(&rig, &hasher, &blocks);
        let count = found.count();
        let what = "common blocks in a guest that name a frame of another guest's";
        let share = count.shared as f64 / count.common.max(1) as f64;
        log.add(
            &Row::new("disk-first", what, "", Wanted::AtLeast(0.98)),
            share,
        );
        let detail = |id: &str, what: &str, unit| Row::detail(id, what, unit);
        log.add(
            &detail("disk-common", "common blocks, summed over guests", "blocks"),
            count.common as f64,
        );
        let what = "pages besides with their content, read out of the cache";
        log.add(&detail("disk-copies", what, "pages"), count.copies as f64);
        let copied: u64 = rig
            .vms()
            .iter()
            .flat_map(|vm| vm.block_stats())
            .map(|stats| stats.copied_pages)
            .sum();
        log.add(
            &detail(
                "disk-copied",
                "pages that the device copied instead",
                "pages",
            ),
            copied as f64,
        );
    }
    Ok(())
}

/// Contents of the image's blocks, zeros apart.
fn block_hashes(image: &Path, hasher: &PageHasher) -> Result<HashSet<u64>, BenchError> {
    let bytes = std::fs::read(image).map_err(BenchError::of("the image can't be read"))?;
    let hash = |block| match hasher.look(block) {
        Content::Hash(hash) => Some(hash),
        Content::Zero => None,
    };
    Ok(bytes
        .as_chunks::<PAGE_SIZE>()
        .0
        .iter()
        .filter_map(hash)
        .collect())
}

/// Guest pages that hold a block, by its content.
#[derive(Default)]
struct Found {
    pages: HashMap<u64, Vec<(VmId, Option<Mpn>)>>,
    /// Guests that name each frame.
    names: HashMap<Mpn, HashSet<VmId>>,
}

impl Found {
    fn in_guests(rig: &Rig, hasher: &PageHasher, blocks: &HashSet<u64>) -> Self {
        let mut found = Self::default();
        rig.pmap().settle_all();
        for space in rig.pmap().spaces() {
            let whole = PpnRun::new(Ppn(0), space.pages());
            for (ppn, state) in whole.iter().zip(space.states(whole)) {
                let frame = match state {
                    PageState::Mapped(mpn, _) => Some(mpn),
                    PageState::Private => None,
                    PageState::Untouched
                    | PageState::Zero
                    | PageState::Ballooned
                    | PageState::Swapped => continue,
                };
                if let Content::Hash(hash) = space.with_page(ppn, |page| hasher.look(page))
                    && blocks.contains(&hash)
                {
                    found
                        .pages
                        .entry(hash)
                        .or_default()
                        .push((space.vm(), frame));
                    if let Some(frame) = frame {
                        found.names.entry(frame).or_default().insert(space.vm());
                    }
                }
            }
        }
        found
    }

    fn count(&self) -> Count {
        let mut count = Count::default();
        for pages in self.pages.values() {
            let mut holders: HashMap<VmId, bool> = HashMap::new();
            let mut private = 0;
            for (vm, frame) in pages {
                let named = frame.and_then(|mpn| self.names.get(&mpn));
                *holders.entry(*vm).or_default() |= named.is_some_and(|vms| vms.len() > 1);
                private += usize::from(frame.is_none());
            }
            if holders.len() > 1 {
                let shared = holders.values().filter(|shared| **shared).count();
                count.common += holders.len();
                count.shared += shared;
                count.copies += private.saturating_sub(holders.len() - shared);
            }
        }
        count
    }
}

/// Blocks of which two guests or more hold the bytes.
#[derive(Default)]
struct Count {
    /// Guests that hold each, summed.
    common: usize,
    /// Of these, guests whose page names a common frame.
    shared: usize,
    /// Private pages with the same content besides.
    copies: usize,
}
