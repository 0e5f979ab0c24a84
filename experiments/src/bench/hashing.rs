//! Hashing against reading: the same pages, one core, more of them than the cache holds.

use std::hint::black_box;
use std::time::{Duration, Instant};

use mirrorball_dedup::{Content, PageHasher};
use mirrorball_pmap::{PAGE_SIZE, Page};

use super::{Bench, BenchError, Wanted};

/// Several times the cache of a large server core's share.
const BYTES: usize = 256 << 20;

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "hashing",
    what: "hashing, as a part of one core's read bandwidth on the same pages",
    unit: "",
    wanted: Wanted::AtLeast(0.8),
    measure,
};

fn measure() -> Result<f64, BenchError> {
    // Written word by word, so that every page is backed and none is zero.
    let mut words = Vec::with_capacity(BYTES / 8);
    words.extend((0..BYTES as u64 / 8).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word: &u64| word.to_le_bytes())
        .collect();
    drop(words);
    let pages: &[Page] = bytes.as_chunks::<PAGE_SIZE>().0;
    let hasher = PageHasher::new(1);
    let read = timed(|| black_box(pages).iter().fold(0, |sum, page| sum ^ xor(page)));
    let hashed = timed(|| {
        black_box(pages)
            .iter()
            .fold(0, |sum, page| sum ^ looked(&hasher, page))
    });
    Ok(read.as_secs_f64() / hashed.as_secs_f64())
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
