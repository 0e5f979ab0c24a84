//! What a page's content is, as far as the index needs to know: zero, or a
//! 64-bit hash.
//!
//! Both come from one function because both cost the same thing, reading the
//! page from memory. XXH3 with the baseline SSE2 already hashes at 97 % of
//! one core's read bandwidth once the pages do not fit the cache (156 against
//! 151 ns a page), so nothing wider than SSE2 is worth a run-time dispatch.

use mirrorball_pmap::{AddressSpace, Page, PpnRun, is_zero};
use xxhash_rust::xxh3::xxh3_64_with_secret;

/// What [`PageHasher::look`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Every byte is zero.
    Zero,
    /// XXH3-64 of the page under this hasher's secret.
    Hash(u64),
}

/// Bytes of secret that XXH3 takes (its documented default size).
const SECRET_BYTES: usize = 192;

/// XXH3-64 with a secret of its own.
///
/// A guest that knew the secret could write pages whose hashes collide and
/// make the index slow (never wrong), so a secret is drawn per scanner; it
/// comes from the experiment's seed, for runs must be repeatable.
#[derive(Clone)]
pub struct PageHasher {
    secret: [u8; SECRET_BYTES],
}

impl std::fmt::Debug for PageHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageHasher").finish_non_exhaustive()
    }
}

impl PageHasher {
    /// The hasher of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = SplitMix::new(seed);
        let mut secret = [0; SECRET_BYTES];
        for word in secret.as_chunks_mut::<8>().0 {
            *word = random.next().to_le_bytes();
        }
        Self { secret }
    }

    /// Zero, or the hash: one pass over the page's memory.
    #[must_use]
    pub fn look(&self, page: &Page) -> Content {
        if is_zero(page) {
            Content::Zero
        } else {
            Content::Hash(self.hash(page))
        }
    }

    /// XXH3-64 of the page.
    #[must_use]
    pub fn hash(&self, page: &Page) -> u64 {
        xxh3_64_with_secret(page, &self.secret)
    }
}

/// Looks at every page of the run, changing nothing: the hashing part of a
/// pass alone, to be timed against [`read_pages`] on the same pages.
///
/// # Panics
/// When the run is not inside the VM's memory.
#[must_use]
pub fn hash_pages(hasher: &PageHasher, space: &AddressSpace, run: PpnRun) -> u64 {
    run.iter().fold(0, |acc: u64, ppn| {
        acc.rotate_left(1)
            ^ match space.with_page(ppn, |page| hasher.look(page)) {
                Content::Zero => 0,
                Content::Hash(hash) => hash,
            }
    })
}

/// Reads every byte of the run and does next to nothing with it: what the
/// memory gives at most.
///
/// # Panics
/// When the run is not inside the VM's memory.
#[must_use]
pub fn read_pages(space: &AddressSpace, run: PpnRun) -> u64 {
    const LANES: usize = 16;
    let mut lanes = [0; LANES];
    for ppn in run.iter() {
        space.with_page(ppn, |page| {
            for step in page.as_chunks::<{ LANES * 8 }>().0 {
                for (lane, word) in lanes.iter_mut().zip(step.as_chunks::<8>().0) {
                    *lane ^= u64::from_ne_bytes(*word);
                }
            }
        });
    }
    lanes.iter().fold(0, |acc, lane| acc ^ lane)
}

/// Vigna's SplitMix64: enough randomness for a secret and for picking pages.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 if that is 0): the high half of a product,
    /// whose bias is below 2^-32 for every bound a page number can have.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirrorball_pmap::PAGE_SIZE;

    #[test]
    fn one_set_bit_anywhere_is_not_zero() {
        let hasher = PageHasher::new(7);
        let mut page = [0; PAGE_SIZE];
        assert_eq!(hasher.look(&page), Content::Zero);
        for at in 0..PAGE_SIZE {
            page[at] = 1;
            assert_ne!(hasher.look(&page), Content::Zero, "byte {at}");
            page[at] = 0;
        }
    }

    #[test]
    fn every_byte_changes_the_hash() {
        let hasher = PageHasher::new(7);
        let mut page = [0x5a; PAGE_SIZE];
        let before = hasher.hash(&page);
        for at in 0..PAGE_SIZE {
            page[at] ^= 0x80;
            assert_ne!(hasher.hash(&page), before, "byte {at}");
            page[at] ^= 0x80;
        }
        assert_eq!(hasher.hash(&page), before);
    }

    #[test]
    fn seeds_give_other_hashes_and_equal_seeds_the_same() {
        let page = [3; PAGE_SIZE];
        assert_ne!(
            PageHasher::new(1).hash(&page),
            PageHasher::new(2).hash(&page)
        );
        assert_eq!(
            PageHasher::new(1).hash(&page),
            PageHasher::new(1).hash(&page)
        );
    }

    #[test]
    fn below_stays_below_and_reaches_everything() {
        let mut random = SplitMix::new(1);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[usize::try_from(random.below(10)).unwrap()] = true;
        }
        assert!(seen.iter().all(|s| *s));
        assert_eq!(random.below(0), 0);
    }
}
