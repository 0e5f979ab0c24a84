//! Integrity under fire: memory and disk with known content, checked to the last byte.
//!
//! Every vCPU writes, shares, zeroes, patches and verifies pages, and lets devices read and write
//! those same pages, while the monitor shares and breaks them underneath. Partitions of memory
//! wander between vCPUs, so that what one wrote another checks. Whatever the monitor gets wrong
//! shows as a page that does not hold what it should.

mod disk;
mod partition;

use super::{Job, fitting};
use crate::hash::Random;
use crate::memory;
use crate::sched;
use crate::shared::{self, VERIFIED_PAGES};
use crate::sync::Spin;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use disk::Blocks;
use partition::Partition;

/// Steps on one partition before it is handed on.
const STINT: usize = 2000;

#[derive(Debug)]
struct Shared {
    partitions: Spin<VecDeque<Partition>>,
    blocks: Option<Blocks>,
    target: u64,
}

pub(super) fn run(job: &Job) -> Result<(), String> {
    let vcpus = shared::vcpus();
    let count = vcpus + 1;
    let blocks = Blocks::load(job, job.count(2, 256))?;
    if let Some(blocks) = &blocks {
        shared::CHECKSUM.set(blocks.checksum());
    }
    let free = memory::available_pages();
    let wanted = job.count(1, free / 4).max(count);
    let pages = fitting("the region", wanted, free * 3 / 4, free)?;
    shared::ACTIVE_PAGES.set(pages as u64);
    let mut partitions = VecDeque::new();
    for index in 0..count {
        let scratch = blocks
            .as_ref()
            .and_then(|blocks| blocks.scratch(index, count));
        partitions.push_back(Partition::new(job, index, pages / count, scratch)?);
    }
    let target = job.param(0, 100_000);
    let shared = Arc::new(Shared {
        partitions: Spin::new(partitions),
        blocks,
        target,
    });
    let (seed, vm) = (job.seed, job.vm);
    let complete = sched::on_all_vcpus(vcpus, move |index| {
        let random = Random::new(seed ^ u64::from(vm) << 32 ^ (index as u64 + 1) << 8);
        work(&shared, random);
    });
    if complete {
        Ok(())
    } else {
        Err("no memory for a thread on each vCPU".into())
    }
}

fn work(shared: &Shared, mut random: Random) {
    loop {
        // There are more partitions than workers, so one is always free.
        let Some(mut partition) = shared.partitions.lock().pop_front() else {
            return;
        };
        let mut over = false;
        for _ in 0..STINT {
            over = shared::stop_requested() || VERIFIED_PAGES.get() >= shared.target;
            if over {
                break;
            }
            partition.step(&mut random, shared.blocks.as_ref());
        }
        if over {
            partition.verify_all(shared.blocks.as_ref());
        }
        shared.partitions.lock().push_back(partition);
        if over {
            return;
        }
        sched::yield_now();
    }
}
