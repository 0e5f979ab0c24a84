//! A parallel radix sort over all vCPUs, in the spirit of the SPLASH-2 kernel.
//!
//! Least significant digit first, eight bits a pass: each vCPU counts the digits of its part,
//! all agree on where every part's digits go, each moves its keys. Barriers separate the steps.
//! The result must be in order, and the same keys as before.

use super::{Job, fitting};
use crate::hash::{Random, mix};
use crate::memory::{self, Region};
use crate::sched;
use crate::shared::{self, BYTES, CHECKSUM, MISMATCHES, OPERATIONS, VERIFIED_PAGES};
use crate::sync::Barrier;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use mirrorball_abi::layout::PAGE_SIZE;

/// Places are numbered with 32 bits, and one bit is spare.
const MOST_KEYS: usize = 1 << 31;
const DIGITS: usize = 256;
const PASSES: u32 = 4;
const KEYS_PER_PAGE: usize = PAGE_SIZE / 4;

/// Two arrays of keys and what the workers share.
#[derive(Debug)]
struct Sort {
    seed: u64,
    keys: usize,
    workers: usize,
    arrays: [Region; 2],
    /// Per worker and digit: first how many, then where they go.
    places: Vec<AtomicU32>,
    barrier: Barrier,
    before: AtomicU64,
    after: AtomicU64,
    unordered: AtomicU64,
}

pub(super) fn run(job: &Job) -> Result<(), String> {
    let free = memory::available_pages();
    // Two arrays, and room for all else.
    let most = free * 2 / 5;
    let keys = match job.count(0, 0) {
        0 => (most * KEYS_PER_PAGE).clamp(1, 1 << 20),
        keys if keys > MOST_KEYS => {
            return Err(format!("{keys} keys: at most {MOST_KEYS} are sorted"));
        }
        keys => {
            let what = format!("each of two arrays of {keys} keys");
            fitting(&what, keys.div_ceil(KEYS_PER_PAGE), most, free)?;
            keys
        }
    };
    let workers = shared::vcpus();
    let array = || Region::new(keys.div_ceil(KEYS_PER_PAGE)).ok_or("no memory for the keys");
    let arrays = [array()?, array()?];
    shared::ACTIVE_PAGES.set((arrays[0].pages() * 2) as u64);
    let places = (0..workers * DIGITS).map(|_| AtomicU32::new(0)).collect();
    let sort = Arc::new(Sort {
        seed: job.seed,
        keys,
        workers,
        arrays,
        places,
        barrier: Barrier::new(workers),
        before: AtomicU64::new(0),
        after: AtomicU64::new(0),
        unordered: AtomicU64::new(0),
    });
    for pass in 0..job.param(1, 1) {
        if shared::stop_requested() {
            break;
        }
        sort.before.store(0, Ordering::Relaxed);
        sort.after.store(0, Ordering::Relaxed);
        let work = sort.clone();
        if !sched::on_all_vcpus(workers, move |index| work.work(index, pass)) {
            return Err("no memory for a thread on each vCPU".into());
        }
        sort.judge();
    }
    Ok(())
}

/// Splits a word of two keys into a view of keys, so that a key can be stored alone.
fn keys_of(region: &Region) -> &[AtomicU32] {
    let words = region.words();
    // SAFETY: the words are aligned atomics of a live region; each holds exactly two 32-bit atomics.
    unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), words.len() * 2) }
}

impl Sort {
    fn part(&self, worker: usize) -> Range<usize> {
        self.keys * worker / self.workers..self.keys * (worker + 1) / self.workers
    }

    fn work(&self, worker: usize, pass: u64) {
        let part = self.part(worker);
        self.generate(part.clone(), pass, worker as u64);
        self.barrier.wait();
        for digit in 0..PASSES {
            let (from, to) = (digit as usize % 2, (digit as usize + 1) % 2);
            self.count(worker, part.clone(), digit, from);
            self.barrier.wait();
            let starts = self.starts(worker);
            self.barrier.wait();
            self.move_keys(part.clone(), digit, starts, from, to);
            self.barrier.wait();
        }
        self.check(part);
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "any 32 of the 64 random bits make a key"
    )]
    fn generate(&self, part: Range<usize>, pass: u64, worker: u64) {
        let mut random = Random::new(mix(self.seed ^ pass << 32 ^ worker));
        let mut sum = 0_u64;
        for key in &keys_of(&self.arrays[0])[part] {
            let value = random.next() as u32;
            key.store(value, Ordering::Relaxed);
            sum = sum.wrapping_add(mix(u64::from(value)));
        }
        self.before.fetch_add(sum, Ordering::Relaxed);
    }

    fn count(&self, worker: usize, part: Range<usize>, digit: u32, from: usize) {
        let mut counts = [0_u32; DIGITS];
        for key in &keys_of(&self.arrays[from])[part] {
            counts[digit_of(key.load(Ordering::Relaxed), digit)] += 1;
        }
        for (place, count) in self.places[worker * DIGITS..].iter().zip(counts) {
            place.store(count, Ordering::Relaxed);
        }
    }

    /// Where this worker's keys of each digit go: after all smaller digits, and after the keys of
    /// the same digit of the workers before.
    fn starts(&self, worker: usize) -> [u32; DIGITS] {
        let mut starts = [0; DIGITS];
        let mut at = 0;
        for (digit, start) in starts.iter_mut().enumerate() {
            for other in 0..self.workers {
                if other == worker {
                    *start = at;
                }
                at += self.places[other * DIGITS + digit].load(Ordering::Relaxed);
            }
        }
        starts
    }

    fn move_keys(
        &self,
        part: Range<usize>,
        digit: u32,
        mut starts: [u32; DIGITS],
        from: usize,
        to: usize,
    ) {
        let target = keys_of(&self.arrays[to]);
        for key in &keys_of(&self.arrays[from])[part] {
            let value = key.load(Ordering::Relaxed);
            let place = &mut starts[digit_of(value, digit)];
            target[*place as usize].store(value, Ordering::Relaxed);
            *place += 1;
        }
    }

    /// Checks one part of the result and the border to the part before.
    fn check(&self, part: Range<usize>) {
        let sorted = &keys_of(&self.arrays[0])[..self.keys];
        let mut last = part
            .start
            .checked_sub(1)
            .map_or(0, |before| sorted[before].load(Ordering::Relaxed));
        let (mut sum, mut unordered) = (0_u64, 0);
        for key in &sorted[part.clone()] {
            let value = key.load(Ordering::Relaxed);
            unordered += u64::from(value < last);
            sum = sum.wrapping_add(mix(u64::from(value)));
            last = value;
        }
        self.after.fetch_add(sum, Ordering::Relaxed);
        self.unordered.fetch_add(unordered, Ordering::Relaxed);
        VERIFIED_PAGES.increase(part.len().div_ceil(KEYS_PER_PAGE) as u64);
        OPERATIONS.increase(part.len() as u64);
        BYTES.increase(part.len() as u64 * 4);
    }

    fn judge(&self) {
        let unordered = self.unordered.swap(0, Ordering::Relaxed);
        let (before, after) = (
            self.before.load(Ordering::Relaxed),
            self.after.load(Ordering::Relaxed),
        );
        CHECKSUM.set(mix(CHECKSUM.get() ^ after));
        if (unordered > 0 || before != after) && MISMATCHES.increase(unordered.max(1)) == 0 {
            super::say(format_args!(
                "vm {}: {unordered} keys out of order, checksum of the keys {before:#x} before, {after:#x} after",
                shared::vm()
            ));
        }
    }
}

fn digit_of(key: u32, digit: u32) -> usize {
    (key >> (digit * 8) & 0xff) as usize
}
