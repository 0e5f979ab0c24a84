//! Hashing against reading: the same pages, one core, more of them than the cache holds.

use std::hint::black_box;
use std::time::{Duration, Instant};

use mirrorball_dedup::{Content, PageHasher};
use mirrorball_pmap::{PAGE_SIZE, Page};

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
        let read = timed(|| black_box(pages).iter().fold(0, |sum, page| sum ^ xor(page)));
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

/// The least that reading a page can do: every word once.
fn xor(page: &Page) -> u64 {
    page.as_chunks::<8>()
        .0
        .iter()
        .fold(0, |sum, word| sum ^ u64::from_le_bytes(*word))
}

/// What the scanner does to a page: the zero check and the hash.
fn looked(hasher: &PageHasher, page: &Page) -> u64 {
    match hasher.look(page) {
        Content::Zero => 1,
        Content::Hash(hash) => hash,
    }
}

fn timed(work: impl FnOnce() -> u64) -> Duration {
    let began = Instant::now();
    black_box(work());
    began.elapsed()
}
