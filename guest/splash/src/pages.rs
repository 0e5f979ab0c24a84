//! Which pages of the guest's own memory are in use: a bitmap and two search hints.
//!
//! Pure bookkeeping over page indices, so that it can be tested on the host. Small things are
//! taken from the low end and aligned lanes (buffer cache slots) from the high end, so that the
//! one does not break up the other's contiguous space.

/// Pages in one lane: the unit of the buffer cache and of thread stacks, 64 KiB.
pub const LANE: usize = 16;

/// The bitmap: a set bit is a page in use.
#[derive(Debug)]
pub struct PageMap<'a> {
    words: &'a mut [u64],
    pages: usize,
    used: usize,
    low_hint: usize,
    high_hint: usize,
}

impl<'a> PageMap<'a> {
    /// A map of `pages` free pages over zeroed `words` (at least one bit for each page).
    ///
    /// Bits after the last page count as used, whatever their value.
    pub fn new(words: &'a mut [u64], pages: usize) -> Self {
        let pages = pages.min(words.len() * 64);
        Self {
            words,
            pages,
            used: 0,
            low_hint: 0,
            high_hint: pages / LANE,
        }
    }

    /// Pages in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Pages not in use.
    pub fn free(&self) -> usize {
        self.pages - self.used
    }

    /// Takes `pages` consecutive pages, the first a multiple of `align`, from the low end.
    pub fn take_low(&mut self, pages: usize, align: usize) -> Option<usize> {
        let align = align.max(1);
        let mut at = self.next(self.low_hint, false);
        self.low_hint = at;
        loop {
            at = at.next_multiple_of(align);
            if pages == 0 || at.checked_add(pages)? > self.pages {
                return None;
            }
            let end = self.next(at, true).min(at + pages);
            if end == at + pages {
                self.mark(at, pages);
                return Some(at);
            }
            at = self.next(end, false);
        }
    }

    /// Takes one aligned lane from the high end.
    pub fn take_lane(&mut self) -> Option<usize> {
        let mut lane = self.high_hint;
        while lane > 0 {
            lane -= 1;
            let at = lane * LANE;
            let word = self.words[at / 64];
            if (word >> (at % 64)) & 0xffff == 0 {
                self.high_hint = lane;
                self.mark(at, LANE);
                return Some(at);
            }
        }
        self.high_hint = 0;
        None
    }

    /// Gives pages back.
    pub fn give(&mut self, at: usize, pages: usize) {
        for page in at..at + pages {
            debug_assert!(self.is_used(page), "page {page} given back twice");
            self.words[page / 64] &= !(1 << (page % 64));
        }
        self.used -= pages;
        self.low_hint = self.low_hint.min(at);
        self.high_hint = self
            .high_hint
            .max((at + pages).div_ceil(LANE))
            .min(self.pages / LANE);
    }

    fn mark(&mut self, at: usize, pages: usize) {
        for page in at..at + pages {
            self.words[page / 64] |= 1 << (page % 64);
        }
        self.used += pages;
    }

    fn is_used(&self, page: usize) -> bool {
        self.words[page / 64] >> (page % 64) & 1 == 1
    }

    /// The first page from `from` on that is in use (or is not); `pages` when there is none.
    fn next(&self, from: usize, used: bool) -> usize {
        let mut at = from;
        while at < self.pages {
            let word = self.words[at / 64];
            let wanted = if used { word } else { !word };
            let rest = wanted >> (at % 64);
            if rest != 0 {
                return (at + rest.trailing_zeros() as usize).min(self.pages);
            }
            at = (at / 64 + 1) * 64;
        }
        self.pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_disjoint_and_come_back() {
        let mut words = vec![0; 4];
        let mut map = PageMap::new(&mut words, 200);
        assert_eq!(map.take_low(3, 1), Some(0));
        assert_eq!(map.take_low(16, 16), Some(16));
        assert_eq!(map.take_low(10, 1), Some(3));
        assert_eq!(
            map.take_low(4, 1),
            Some(32),
            "3 pages are left before 16, too few"
        );
        assert_eq!(map.used(), 33);
        map.give(0, 3);
        assert_eq!(map.take_low(2, 1), Some(0));
        assert_eq!(map.take_low(1000, 1), None);
        assert_eq!(map.take_low(0, 1), None);
    }

    #[test]
    fn lanes_come_from_the_high_end_and_skip_broken_ones() {
        let mut words = vec![0; 4];
        let mut map = PageMap::new(&mut words, 200);
        assert_eq!(
            map.take_lane(),
            Some(176),
            "pages 192..200 are no whole lane"
        );
        assert_eq!(map.take_lane(), Some(160));
        map.give(176, LANE);
        assert_eq!(map.take_low(177, 1), None);
        assert_eq!(map.take_low(1, 1), Some(0));
        assert_eq!(map.take_lane(), Some(176));
        let rest = core::iter::from_fn(|| map.take_lane()).count();
        assert_eq!(rest, 9, "the lane of page 0 is broken");
        assert_eq!(map.free(), 200 - 1 - 11 * LANE);
    }

    #[test]
    fn every_page_can_be_used_once() {
        let mut words = vec![0; 3];
        let mut map = PageMap::new(&mut words, 130);
        let mut seen: Vec<_> = core::iter::from_fn(|| map.take_low(1, 1)).collect();
        seen.dedup();
        assert_eq!(seen.len(), 130);
        assert_eq!(map.free(), 0);
        map.give(64, 2);
        assert_eq!(map.take_low(2, 2), Some(64));
    }
}
