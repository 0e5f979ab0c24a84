//! Disk blocks that several guests hold: how many are kept once before any scanner has run.
//!
//! By content, not by the books of who read what: every page of every guest whose bytes are those
//! of a block of the image counts, wherever it came from. A page is shared when another guest
//! names the same frame.

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
        let found = Found::in_guests(&rig, &hasher, &blocks);
        let (common, shared) = found.common_and_shared();
        let what = "pages of common blocks that name a frame of another guest's";
        let share = shared as f64 / common.max(1) as f64;
        log.add(
            &Row::new("disk-first", what, "", Wanted::AtLeast(0.98)),
            share,
        );
        log.add(
            &Row::detail(
                "disk-common",
                "guest pages that hold a common block",
                "pages",
            ),
            common as f64,
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
                    PageState::Untouched | PageState::Zero => continue,
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

    /// Pages of blocks that two guests or more hold, and those of them that name a common frame.
    fn common_and_shared(&self) -> (usize, usize) {
        let holders = |pages: &[(VmId, Option<Mpn>)]| {
            pages
                .iter()
                .map(|(vm, _)| *vm)
                .collect::<HashSet<_>>()
                .len()
        };
        let common = self
            .pages
            .values()
            .filter(|pages| holders(pages) > 1)
            .flatten();
        let shared = |frame: &Option<Mpn>| {
            frame.is_some_and(|mpn| self.names.get(&mpn).is_some_and(|vms| vms.len() > 1))
        };
        common.fold((0, 0), |(all, once), (_, frame)| {
            (all + 1, once + usize::from(shared(frame)))
        })
    }
}
