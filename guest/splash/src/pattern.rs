//! What a page of a workload should hold, computed anew whenever it is checked.
//!
//! A page's content follows from a few numbers, so that a workload can check every byte of memory
//! much larger than its own notes, and so that guests can be given equal pages without talking to
//! each other: whatever does not depend on the VM's number is equal in all guests of a seed.

use crate::hash::{Sum, mix};
use crate::memory::PageWords;
use core::sync::atomic::Ordering;

/// A page's content as one number; 0 stands for a page of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content(u64);

impl Content {
    /// All bytes zero.
    pub const ZERO: Self = Self(0);

    /// Content that any two guests agree on when they agree on the seed and the tag.
    pub const fn common(seed: u64, tag: u64) -> Self {
        Self(mix(seed ^ mix(tag)) | 1)
    }

    /// Content that no other guest has.
    pub const fn own(seed: u64, vm: u32, tag: u64) -> Self {
        Self(mix(seed ^ mix(tag) ^ mix(0x5bd1_e995_0000_0000 | vm as u64)) | 1)
    }

    /// The word at `index`.
    pub const fn word(self, index: u64) -> u64 {
        if self.0 == 0 {
            0
        } else {
            self.0.wrapping_mul(index.wrapping_mul(2).wrapping_add(1)) ^ (self.0 >> 17)
        }
    }
}

/// A byte that is not what it should be: where in the page, and the words around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Byte offset of the word in the page.
    pub offset: usize,
    /// What the word should be.
    pub expected: u64,
    /// What it is.
    pub got: u64,
}

/// Writes the content to a page.
pub fn fill(page: &PageWords, content: Content) {
    for (index, word) in (0..).zip(page) {
        word.store(content.word(index), Ordering::Relaxed);
    }
}

/// Compares every byte of a page with the content.
///
/// # Errors
/// The first word that differs.
pub fn check(page: &PageWords, content: Content) -> Result<(), Mismatch> {
    check_words(page, |index| content.word(index))
}

/// Compares every byte of a page with a content of which one word was replaced.
///
/// # Errors
/// The first word that differs.
pub fn check_patched(
    page: &PageWords,
    content: Content,
    at: u64,
    value: u64,
) -> Result<(), Mismatch> {
    check_words(page, |index| {
        if index == at {
            value
        } else {
            content.word(index)
        }
    })
}

fn check_words(page: &PageWords, expected: impl Fn(u64) -> u64) -> Result<(), Mismatch> {
    // Eight at a time, and judged by what was loaded: a word that is wrong for a moment counts.
    let (groups, _) = page.as_chunks::<8>();
    for (first, group) in (0..).step_by(8).zip(groups) {
        let got: [u64; 8] = core::array::from_fn(|at| group[at].load(Ordering::Relaxed));
        let wanted: [u64; 8] = core::array::from_fn(|at| expected(first + at as u64));
        if got != wanted {
            let at = got.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
            let offset = crate::shared::usize_of(first + at as u64) * 8;
            return Err(Mismatch {
                offset,
                expected: wanted[at],
                got: got[at],
            });
        }
    }
    Ok(())
}

/// The checksum of a page, for content that is known only by having been read.
pub fn sum(page: &PageWords) -> u64 {
    // Four sums side by side, since each word waits for the one before it in its sum.
    let mut sums = [0, 1, 2, 3].map(Sum::new);
    let (groups, _) = page.as_chunks::<4>();
    for group in groups {
        for (sum, word) in sums.iter_mut().zip(group) {
            sum.word(word.load(Ordering::Relaxed));
        }
    }
    let [mut total, rest @ ..] = sums;
    rest.iter().for_each(|sum| total.word(sum.value()));
    total.value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    fn page() -> Box<PageWords> {
        Box::new([const { AtomicU64::new(0) }; crate::memory::PAGE_WORDS])
    }

    #[test]
    fn one_wrong_word_is_found_with_its_place() {
        let (page, content) = (page(), Content::common(3, 4));
        fill(&page, content);
        assert_eq!(check(&page, content), Ok(()));
        page[77].store(5, Ordering::Relaxed);
        let expected = content.word(77);
        assert_eq!(
            check(&page, content),
            Err(Mismatch {
                offset: 616,
                expected,
                got: 5
            })
        );
        assert_eq!(check_patched(&page, content, 77, 5), Ok(()));
        assert!(check(&page, Content::ZERO).is_err());
    }

    #[test]
    fn common_content_is_common_and_own_is_not() {
        assert_eq!(Content::common(1, 2), Content::common(1, 2));
        assert_ne!(Content::common(1, 2), Content::common(2, 2));
        assert_ne!(Content::own(1, 0, 2), Content::own(1, 1, 2));
        assert_ne!(Content::own(1, 0, 2), Content::common(1, 2));
    }

    #[test]
    fn a_checksum_of_a_page_sees_every_word() {
        let page = page();
        let zero = sum(&page);
        page[511].store(1, Ordering::Relaxed);
        assert_ne!(sum(&page), zero);
    }
}
