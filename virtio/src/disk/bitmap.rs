//! Which blocks an overlay has: a bit each, nothing at all before the first.

use super::{BLOCK_BYTES, BLOCK_SIZE};
use std::collections::BTreeSet;
use std::ops::Range;

/// Blocks whose bits fill one block of an overlay's file.
const BLOCKS_PER_PAGE: u64 = BLOCK_BYTES * 8;
/// 64-bit words in one block of an overlay's file.
const WORDS_PER_PAGE: usize = BLOCK_SIZE / 8;

/// A set of blocks, and which pages of it changed since they were last saved.
#[derive(Debug)]
pub(super) struct Bitmap {
    blocks: u64,
    words: Vec<u64>,
    dirty: BTreeSet<u64>,
}

impl Bitmap {
    pub(super) fn new(blocks: u64) -> Self {
        Self {
            blocks,
            words: Vec::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// The set that was saved as `bytes`; `None` if it has a bit past its end.
    pub(super) fn load(blocks: u64, bytes: &[u8]) -> Option<Self> {
        let words = bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word))
            .collect();
        let loaded = Self {
            blocks,
            words,
            dirty: BTreeSet::new(),
        };
        let excess = (blocks..loaded.words.len() as u64 * 64).any(|block| loaded.has(block));
        (!excess).then_some(loaded)
    }

    /// Bytes that the set of `blocks` blocks takes in a file, whole blocks.
    pub(super) fn file_bytes(blocks: u64) -> u64 {
        blocks.div_ceil(BLOCKS_PER_PAGE) * BLOCK_BYTES
    }

    pub(super) fn has(&self, block: u64) -> bool {
        let (word, bit) = place(block);
        self.words
            .get(word)
            .is_some_and(|word| word >> bit & 1 == 1)
    }

    pub(super) fn set(&mut self, blocks: Range<u64>) {
        if self.words.is_empty() {
            let pages = usize::try_from(self.blocks.div_ceil(BLOCKS_PER_PAGE)).unwrap_or(0);
            self.words = vec![0; pages * WORDS_PER_PAGE];
        }
        for block in blocks {
            let (word, bit) = place(block);
            if let Some(word) = self.words.get_mut(word)
                && *word >> bit & 1 == 0
            {
                *word |= 1 << bit;
                self.dirty.insert(block / BLOCKS_PER_PAGE);
            }
        }
    }

    /// The pages that changed, each with its number and content.
    pub(super) fn changed(&self) -> impl Iterator<Item = (u64, Vec<u8>)> + '_ {
        self.dirty.iter().filter_map(|&page| {
            let start = usize::try_from(page).ok()? * WORDS_PER_PAGE;
            let words = self.words.get(start..start + WORDS_PER_PAGE)?;
            Some((
                page,
                words.iter().flat_map(|word| word.to_le_bytes()).collect(),
            ))
        })
    }

    pub(super) fn saved(&mut self) {
        self.dirty.clear();
    }
}

fn place(block: u64) -> (usize, u64) {
    (
        usize::try_from(block / 64).unwrap_or(usize::MAX),
        block % 64,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_pages_load_as_the_same_set() {
        let blocks = 2 * BLOCKS_PER_PAGE + 5;
        let mut bitmap = Bitmap::new(blocks);
        assert!(!bitmap.has(3));
        bitmap.set(3..5);
        bitmap.set(blocks - 1..blocks);
        let mut file = vec![0; usize::try_from(Bitmap::file_bytes(blocks)).unwrap()];
        let pages: Vec<_> = bitmap.changed().collect();
        assert_eq!(pages.iter().map(|page| page.0).collect::<Vec<_>>(), [0, 2]);
        for (page, bytes) in pages {
            let at = usize::try_from(page * BLOCK_BYTES).unwrap();
            file[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        bitmap.saved();
        assert_eq!(bitmap.changed().count(), 0);
        let loaded = Bitmap::load(blocks, &file).unwrap();
        let set: Vec<_> = (0..blocks).filter(|&block| loaded.has(block)).collect();
        assert_eq!(set, [3, 4, blocks - 1]);
    }

    #[test]
    fn a_bit_past_the_end_is_refused() {
        let mut bytes = vec![0; 4096];
        bytes[1] = 0b100;
        assert!(Bitmap::load(11, &bytes).is_some());
        assert!(Bitmap::load(10, &bytes).is_none());
    }
}
