//! The disk blocks that `torture` plays with: some of the file system, by their checksums, and
//! some of the scratch area, by what was written there.

use super::super::Job;
use crate::cache::{self, CLUSTER};
use crate::disk::{Disk, disk};
use crate::hash::{Random, Sum};
use crate::memory::PageWords;
use crate::objects;
use crate::pattern::{self, Mismatch};
use crate::shared::usize_of;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

const DISK: usize = 0;
/// Scratch blocks for each partition at most.
const SCRATCH: u64 = 64;

/// Blocks of the base image in play: whole clusters, chosen by the seed, each with its checksum.
#[derive(Debug)]
pub struct Blocks {
    disk: &'static Disk,
    clusters: Vec<u64>,
    sums: Vec<u64>,
    scratch: Option<Range<u64>>,
}

impl Blocks {
    /// Chooses and first reads `count` blocks; `None` when the guest has no disk.
    pub fn load(job: &Job, count: usize) -> Result<Option<Self>, String> {
        let Ok(disk) = disk(DISK) else {
            return Ok(None);
        };
        let scratch = objects::scratch(DISK)?;
        let end = scratch.as_ref().map_or(disk.blocks(), |area| area.start);
        let whole = usize_of(end / CLUSTER);
        if whole == 0 {
            return Err("the disk is smaller than 64 KiB".into());
        }
        let mut random = Random::new(job.seed);
        let mut clusters: Vec<u64> = (0..count.div_ceil(usize_of(CLUSTER)))
            .map(|_| random.below(whole) as u64)
            .collect();
        clusters.sort_unstable();
        clusters.dedup();
        let mut blocks = Self {
            disk,
            clusters,
            sums: Vec::new(),
            scratch,
        };
        for index in 0..blocks.clusters.len() * usize_of(CLUSTER) {
            let sum = cache::with_block(DISK, blocks.block(index), pattern::sum)
                .map_err(|error| error.to_string())?;
            blocks.sums.push(sum);
        }
        Ok(Some(blocks))
    }

    /// The disk.
    pub fn disk(&self) -> &'static Disk {
        self.disk
    }

    /// Number of blocks in play.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Disk block of the `index`th block in play.
    pub fn block(&self, index: usize) -> u64 {
        let cluster = usize_of(CLUSTER);
        self.clusters[index / cluster] * CLUSTER + (index % cluster) as u64
    }

    /// How many blocks from the `index`th on follow each other on the disk.
    pub fn run(&self, index: usize) -> usize {
        usize_of(CLUSTER) - index % usize_of(CLUSTER)
    }

    /// Compares a page with the `index`th block. The word that differs is not known, only that one does.
    pub fn check(&self, index: usize, page: &PageWords) -> Result<(), Mismatch> {
        let got = pattern::sum(page);
        if got == self.sums[index] {
            Ok(())
        } else {
            Err(Mismatch {
                offset: 0,
                expected: self.sums[index],
                got,
            })
        }
    }

    /// One number for all blocks in play: equal in all guests with the same seed and image.
    pub fn checksum(&self) -> u64 {
        let mut sum = Sum::new(0);
        for (index, value) in self.sums.iter().enumerate() {
            sum.word(self.block(index));
            sum.word(*value);
        }
        sum.value()
    }

    /// The scratch blocks of partition `index` of `count`: whole clusters, so that no two
    /// partitions meet in a cache slot. Empty when there are too few.
    pub fn scratch(&self, index: usize, count: usize) -> Option<Range<u64>> {
        let area = self.scratch.as_ref()?;
        let first = area.start.div_ceil(CLUSTER);
        let clusters = (area.end / CLUSTER).checked_sub(first)? / count as u64;
        let start = (first + clusters * index as u64) * CLUSTER;
        let blocks = (clusters * CLUSTER).min(SCRATCH);
        (blocks > 0).then_some(start..start + blocks)
    }
}
