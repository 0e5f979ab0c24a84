//! Hashing against reading: the same pages, one core, more of them than the cache holds.

use std::hint::black_box;
use std::time::Duration;

use mirrorball_dedup::{Content, PageHasher};
use mirrorball_pmap::{PAGE_SIZE, Page};
use rustix::time::{ClockId, clock_gettime};

use super::{Bench, BenchError, Log, Row, Wanted};

/// Several times the cache of a large server core's share.
const BYTES: usize = 256 << 20;

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "hashing",
    what: "hashing as a part of one core's read bandwidth",
    measure,
};

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    // Written word by word, so that every page is backed and none is zero.
    let mut bytes = Vec::with_capacity(BYTES);
    for index in 0..BYTES as u64 / 8 {
        bytes.extend_from_slice(&index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    let pages: &[Page] = bytes.as_chunks::<PAGE_SIZE>().0;
    let hasher = PageHasher::new(1);
    let row = Row::new(
        "hashing",
        "hashing, as a part of one core's read bandwidth on the same pages",
        "",
        Wanted::AtLeast(0.8),
    );
    for _ in 0..log.runs {
        let read = timed(|| {
            black_box(pages)
                .iter()
                .fold(0, |sum, page| sum ^ read(page))
        });
        let hashed = timed(|| {
            black_box(pages)
                .iter()
                .fold(0, |sum, page| sum ^ looked(&hasher, page))
        });
        let gib = |time: Duration| BYTES as f64 / time.as_secs_f64() / f64::from(1 << 30);
        log.add(&row, read.as_secs_f64() / hashed.as_secs_f64());
        log.add(
            &Row::detail("hashing-read", "one core's read bandwidth", "GiB/s"),
            gib(read),
        );
        log.add(
            &Row::detail("hashing-rate", "pages hashed and checked for zero", "GiB/s"),
            gib(hashed),
        );
    }
    Ok(())
}

/// The least that reading a page can do: every word once, in lanes that don't wait for each other.
fn read(page: &Page) -> u64 {
    let mut lanes = [0; 16];
    for step in page.as_chunks::<128>().0 {
        for (lane, word) in lanes.iter_mut().zip(step.as_chunks::<8>().0) {
            *lane ^= u64::from_ne_bytes(*word);
        }
    }
    lanes.iter().fold(0, |sum, lane| sum ^ lane)
}

/// What the scanner does to a page: the zero check and the hash.
fn looked(hasher: &PageHasher, page: &Page) -> u64 {
    match hasher.look(page) {
        Content::Zero => 1,
        Content::Hash(hash) => hash,
    }
}

/// CPU time: others may use the core meanwhile.
fn timed(work: impl FnOnce() -> u64) -> Duration {
    let clock = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
    };
    let began = clock();
    black_box(work());
    clock() - began
}
