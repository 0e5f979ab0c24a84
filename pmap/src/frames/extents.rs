//! Free frames as extents: allocation keeps runs together, because a run of frames that is mapped
//! by one call costs a twentieth of its pages mapped one by one.

use std::collections::BTreeMap;

/// Free extents of `0..capacity`, coalesced.
///
/// Allocation is next-fit from the never-used end first: the address space of the store is sparse
/// and large, so fresh runs stay long and holes are filled only when the end is reached.
#[derive(Debug)]
pub(super) struct Extents {
    capacity: u32,
    fresh: u32,
    holes: BTreeMap<u32, u32>,
}

impl Extents {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            capacity,
            fresh: 0,
            holes: BTreeMap::new(),
        }
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Takes `pages` consecutive frames.
    pub(super) fn take(&mut self, pages: u32) -> Option<u32> {
        if pages <= self.capacity - self.fresh {
            let start = self.fresh;
            self.fresh += pages;
            return Some(start);
        }
        let (&start, &length) = self.holes.iter().find(|&(_, &length)| length >= pages)?;
        self.holes.remove(&start);
        if length > pages {
            self.holes.insert(start + pages, length - pages);
        }
        Some(start)
    }

    /// Gives frames back.
    pub(super) fn give(&mut self, mut start: u32, mut pages: u32) {
        if let Some((&before, &length)) = self.holes.range(..start).next_back()
            && before + length == start
        {
            self.holes.remove(&before);
            start = before;
            pages += length;
        }
        if let Some(length) = self.holes.remove(&(start + pages)) {
            pages += length;
        }
        if start + pages == self.fresh {
            self.fresh = start;
        } else {
            self.holes.insert(start, pages);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// No frame is handed out twice, none is lost, and what is all given back is one extent again.
        #[test]
        fn frames_are_never_handed_out_twice(steps in prop::collection::vec((1u32..40, any::<bool>(), any::<usize>()), 1..200)) {
            let mut extents = Extents::new(400);
            let mut held: Vec<(u32, u32)> = Vec::new();
            for (pages, take, pick) in steps {
                if take || held.is_empty() {
                    if let Some(start) = extents.take(pages) {
                        prop_assert!(start + pages <= 400);
                        for &(other, length) in &held {
                            prop_assert!(start + pages <= other || other + length <= start);
                        }
                        held.push((start, pages));
                    }
                } else {
                    let (start, pages) = held.swap_remove(pick % held.len());
                    extents.give(start, pages);
                }
            }
            for (start, pages) in held {
                extents.give(start, pages);
            }
            prop_assert_eq!(extents.take(400), Some(0));
        }
    }
}
