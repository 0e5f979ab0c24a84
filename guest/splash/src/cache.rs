//! The buffer cache: whole disk blocks in page-aligned memory, least recently used out first.
//!
//! Blocks live in slots of 16 contiguous, aligned pages filled by one request for an aligned
//! cluster of blocks, so that a monitor which shares disk blocks copy-on-write (Disco, section
//! 4.2) can map the whole request at once. Slots come from the anonymous-memory manager and go
//! back to it under pressure. Writes go through to the disk.
//!
//! A few slots are the cache's own: the balloon never gets them, so that a guest whose memory the
//! monitor wants can still read its disk.

use crate::balloon;
use crate::disk::{Disk, DiskError, disk};
use crate::lru::Lru;
use crate::memory::{self, PageWords, page_at};
use crate::pages::LANE;
use crate::sched;
use crate::shared::{self, CACHE_HITS, CACHE_PAGES, usize_of};
use crate::sync::Spin;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;
use mirrorball_abi::layout::PAGE_SIZE;

/// Blocks in a cluster.
pub const CLUSTER: u64 = LANE as u64;

/// Slots that the balloon never gets: one for each vCPU of a large guest, and some that are on their way.
const OWN: usize = 8;

type Key = (usize, u64);

#[derive(Debug)]
struct Slot {
    key: Key,
    address: usize,
    valid: u16,
    pins: u32,
    busy: bool,
}

#[derive(Debug)]
struct Cache {
    slots: Vec<Slot>,
    unused: Vec<u32>,
    index: BTreeMap<Key, u32>,
    order: Lru,
    limit: usize,
}

static CACHE: Spin<Cache> = Spin::new(Cache {
    slots: Vec::new(),
    unused: Vec::new(),
    index: BTreeMap::new(),
    order: Lru::new(),
    limit: 0,
});

impl Cache {
    fn count(&self) {
        CACHE_PAGES.set((self.index.len() * LANE) as u64);
    }

    /// Takes the least recently used slot that nobody uses out of the index; its memory's address.
    fn evict(&mut self) -> Option<usize> {
        let victim = self.order.oldest_first().find(|index| {
            let slot = &self.slots[*index as usize];
            slot.pins == 0 && !slot.busy
        })?;
        self.order.remove(victim);
        self.unused.push(victim);
        let slot = &self.slots[victim as usize];
        self.index.remove(&slot.key);
        Some(slot.address)
    }

    /// A busy slot for a cluster that is not in the cache; `None` when all memory is in use.
    fn insert(&mut self, key: Key) -> Option<u32> {
        let fresh = if self.index.len() < self.limit {
            memory::take_lane()
        } else {
            None
        };
        // Over the limit rather than failing, when every slot is in use at this moment.
        let address = fresh.or_else(|| self.evict()).or_else(memory::take_lane)?;
        let slot = Slot {
            key,
            address,
            valid: 0,
            pins: 1,
            busy: true,
        };
        self.place(slot)
    }

    /// Puts a slot into the index.
    fn place(&mut self, slot: Slot) -> Option<u32> {
        let key = slot.key;
        let index = match self.unused.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).ok()?
            }
        };
        self.index.insert(key, index);
        self.order.insert(index);
        self.count();
        Some(index)
    }
}

/// Sets the most memory that the cache may use, and gives back what is over it.
pub fn set_limit(pages: usize) {
    let mut cache = CACHE.lock();
    cache.limit = (pages / LANE).max(4);
    while cache.index.len() > cache.limit {
        let Some(address) = cache.evict() else { break };
        memory::give(address, LANE);
    }
    cache.count();
}

/// Gives at least one slot, and up to `pages` pages, back to the page manager; false when there is none.
pub fn shrink(pages: usize) -> bool {
    shrink_to(0, pages)
}

/// As [`shrink`], for the balloon: what the cache needs to go on stays.
pub fn shrink_for_balloon(pages: usize) -> bool {
    shrink_to(OWN, pages)
}

/// Pages of memory that are to stay free because the cache has fewer slots than it needs to go on.
pub fn wants() -> usize {
    // Pages are what the cache counts in: its lock may be held by who asks for memory.
    OWN * LANE - (OWN * LANE).min(usize_of(CACHE_PAGES.get()))
}

/// Gives up to `pages` pages back, as long as more than `least` slots are left.
fn shrink_to(least: usize, pages: usize) -> bool {
    // The cache itself may be asking for heap memory: then it can't be asked to shrink.
    let Some(mut cache) = CACHE.try_lock() else {
        return false;
    };
    let mut given = 0;
    while given < pages.div_ceil(LANE).max(1) && cache.index.len() > least {
        let Some(address) = cache.evict() else { break };
        memory::give(address, LANE);
        given += 1;
    }
    cache.count();
    given > 0
}

/// A slot in use: it stays where it is until this is dropped.
#[derive(Debug)]
struct Pinned {
    index: u32,
    address: usize,
}

impl Pinned {
    fn page(&self, block: u64) -> &PageWords {
        page_at(self.address + usize_of(block % CLUSTER) * PAGE_SIZE, self)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        CACHE.lock().slots[self.index as usize].pins -= 1;
    }
}

/// Pins a cluster's slot, waiting while it is busy. When `claim` says so of its valid blocks, or
/// the slot is new, it is made busy for the caller, who must then call [`settle`].
fn pin(key: Key, claim: impl Fn(u16) -> bool) -> Result<(Pinned, u16, bool), DiskError> {
    loop {
        if let Some(found) = try_pin(key, &claim) {
            return Ok(found);
        }
        // What the balloon holds is the guest's when it can't go on without.
        if !balloon::release_in_turn(LANE) {
            return Err(DiskError("the buffer cache has no memory left".into()));
        }
    }
}

/// As [`pin`]; `None` when there is no slot to be had.
fn try_pin(key: Key, claim: &impl Fn(u16) -> bool) -> Option<(Pinned, u16, bool)> {
    let mut found = None;
    sched::block_until(|| {
        let mut cache = CACHE.lock();
        let Some(index) = cache.index.get(&key).copied() else {
            found = cache
                .insert(key)
                .map(|index| (index, cache.slots[index as usize].address, 0, true));
            return true;
        };
        let slot = &mut cache.slots[index as usize];
        if slot.busy {
            return false;
        }
        slot.pins += 1;
        slot.busy = claim(slot.valid);
        found = Some((index, slot.address, slot.valid, slot.busy));
        cache.order.touch(index);
        true
    });
    let (index, address, valid, claimed) = found?;
    Some((Pinned { index, address }, valid, claimed))
}

/// Ends the caller's work on a busy slot, whose blocks in `valid` are as on the disk.
fn settle(slot: &Pinned, valid: u16) {
    let mut cache = CACHE.lock();
    let slot = &mut cache.slots[slot.index as usize];
    slot.valid = valid;
    slot.busy = false;
    drop(cache);
    sched::notify();
}

const fn bit(block: u64) -> u16 {
    1 << (block % CLUSTER)
}

/// Pins a cluster with `block` in it, reading what is missing.
fn load(disk_index: usize, block: u64) -> Result<Pinned, DiskError> {
    let cluster = block / CLUSTER;
    let (slot, valid, claimed) = pin((disk_index, cluster), |valid| valid & bit(block) == 0)?;
    if !claimed {
        CACHE_HITS.increase(1);
        return Ok(slot);
    }
    let result = disk(disk_index).and_then(|disk| fill(disk, cluster, &slot, valid));
    settle(&slot, valid | result.as_ref().map_or(0, |read| *read));
    match result? & bit(block) {
        0 => Err(DiskError(format!("block {block} is not on the disk"))),
        _ => Ok(slot),
    }
}

/// Reads the blocks of a cluster that are not valid, in as few requests as that takes.
fn fill(disk: &Disk, cluster: u64, slot: &Pinned, valid: u16) -> Result<u16, DiskError> {
    let first = cluster * CLUSTER;
    let on_disk = CLUSTER.min(disk.blocks().saturating_sub(first));
    let mut read = 0;
    let mut at = 0;
    while at < on_disk {
        let missing = (at..on_disk)
            .take_while(|block| valid & bit(*block) == 0)
            .count();
        if missing > 0 {
            let address = slot.address + usize_of(at) * PAGE_SIZE;
            // SAFETY: the slot is pinned and busy, and pages that are not valid are used by nobody.
            unsafe { disk.read(first + at, address, missing)? };
            (at..at + missing as u64).for_each(|block| read |= bit(block));
        }
        at += (missing as u64).max(1);
    }
    Ok(read)
}

/// Lets `f` look at one block.
///
/// # Errors
/// When the block is not on the disk or can't be read.
pub fn with_block<R>(
    disk: usize,
    block: u64,
    f: impl FnOnce(&PageWords) -> R,
) -> Result<R, DiskError> {
    let slot = load(disk, block)?;
    Ok(f(slot.page(block)))
}

/// Reads bytes from any place of a disk.
///
/// # Errors
/// As [`with_block`].
pub fn read(disk: usize, start: u64, to: &mut [u8]) -> Result<(), DiskError> {
    let page = PAGE_SIZE as u64;
    let mut at = start;
    let mut rest = to;
    while !rest.is_empty() {
        let from = usize_of(at % page);
        let take = rest.len().min(PAGE_SIZE - from);
        let (now, later) = rest.split_at_mut(take);
        with_block(disk, at / page, |words| memory::copy_out(words, from, now))?;
        at += take as u64;
        rest = later;
    }
    Ok(())
}

/// Writes whole blocks, in the cache and on the disk.
///
/// # Errors
/// As [`with_block`].
///
/// # Panics
/// When `from` is not a whole number of blocks.
pub fn write(disk_index: usize, block: u64, from: &[u8]) -> Result<(), DiskError> {
    assert_eq!(from.len() % PAGE_SIZE, 0, "writes are of whole blocks");
    let disk = disk(disk_index)?;
    let mut block = block;
    let mut rest = from;
    while !rest.is_empty() {
        let take = rest
            .len()
            .min(usize_of(CLUSTER - block % CLUSTER) * PAGE_SIZE);
        let (now, later) = rest.split_at(take);
        write_cluster(disk_index, disk, block, now)?;
        block += (take / PAGE_SIZE) as u64;
        rest = later;
    }
    Ok(())
}

fn write_cluster(disk_index: usize, disk: &Disk, block: u64, from: &[u8]) -> Result<(), DiskError> {
    let pages = from.len() / PAGE_SIZE;
    let (slot, valid, _) = pin((disk_index, block / CLUSTER), |_| true)?;
    let mut written = 0;
    for (at, bytes) in (block..).zip(from.chunks_exact(PAGE_SIZE)) {
        memory::copy_in(slot.page(at), bytes);
        written |= bit(at);
    }
    let address = slot.address + usize_of(block % CLUSTER) * PAGE_SIZE;
    // SAFETY: the slot is pinned and busy: nobody else writes to it.
    let result = unsafe { disk.write(block, address, pages) };
    settle(
        &slot,
        if result.is_ok() {
            valid | written
        } else {
            valid & !written
        },
    );
    result
}

/// Forgets blocks, so that the next read comes from the disk.
pub fn discard(disk: usize, blocks: Range<u64>) {
    let mut cache = CACHE.lock();
    let mut at = blocks.start;
    while at < blocks.end {
        if let Some(index) = cache.index.get(&(disk, at / CLUSTER)).copied() {
            let slot = &mut cache.slots[index as usize];
            if slot.pins == 0 && !slot.busy {
                slot.valid &= !bit(at);
            }
        }
        at += 1;
    }
}

/// Blocks in use: they stay where they are until this is dropped.
#[derive(Debug)]
pub struct Held(Pinned);

impl Held {
    /// Address of a block's page.
    pub fn address(&self, block: u64) -> usize {
        self.0.address + usize_of(block % CLUSTER) * PAGE_SIZE
    }
}

/// Holds the cluster of a block in the cache, and the block is read if it was not there.
///
/// # Errors
/// As [`with_block`].
pub fn hold(disk: usize, block: u64) -> Result<Held, DiskError> {
    load(disk, block).map(Held)
}

/// Takes a lane with a cluster's blocks into the cache, those that `valid` says. Answers a lane that
/// the caller gets for it, unless there is room for one more.
pub fn adopt(key: (usize, u64), lane: usize, valid: u16) -> Option<usize> {
    let mut cache = CACHE.lock();
    let known = cache.index.get(&key).copied();
    if let Some(index) = known {
        let slot = &mut cache.slots[index as usize];
        if slot.pins > 0 || slot.busy {
            return Some(lane);
        }
        slot.valid = valid;
        let old = core::mem::replace(&mut slot.address, lane);
        cache.order.touch(index);
        return Some(old);
    }
    let spare = if cache.index.len() < cache.limit {
        None
    } else {
        cache.evict()
    };
    let slot = Slot {
        key,
        address: lane,
        valid,
        pins: 0,
        busy: false,
    };
    cache.place(slot);
    spare
}

/// Holds a cluster if it is in the cache with these blocks at least.
pub fn find(key: (usize, u64), blocks: u16) -> Option<Held> {
    let mut cache = CACHE.lock();
    let index = cache.index.get(&key).copied()?;
    let slot = &mut cache.slots[index as usize];
    if slot.busy || slot.valid & blocks != blocks {
        return None;
    }
    slot.pins += 1;
    let address = slot.address;
    cache.order.touch(index);
    CACHE_HITS.increase(1);
    Some(Held(Pinned { index, address }))
}

/// Memory the cache may use for a command: a percentage of all, 50 by default.
pub fn limit_of(percent: u32) -> usize {
    let percent = if percent == 0 { 50 } else { percent.min(100) };
    shared::memory() / PAGE_SIZE * usize_of(u64::from(percent)) / 100
}
