//! Free frames as extents: allocation keeps runs together, because a run of frames that is mapped
//! by one call costs a twentieth of its pages mapped one by one.

use std::collections::BTreeMap;

/// Free extents of `0..capacity`, coalesced, by whether the kernel still holds memory for them.
///
/// *Used* extents were frames before: their memory is kept for the next frames, up to a limit that
/// is the caller's. The address space behind `fresh` and in `holes` takes no memory.
#[derive(Debug)]
pub(super) struct Extents {
    capacity: u32,
    fresh: u32,
    used: Coalesced,
    holes: Coalesced,
}

/// Frames that were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) start: u32,
    /// They hold what the last owner left there.
    pub(super) used: bool,
}

impl Extents {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            capacity,
            fresh: 0,
            used: Coalesced::default(),
            holes: Coalesced::default(),
        }
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Free frames that the kernel holds memory for.
    pub(super) fn used(&self) -> u32 {
        self.used.frames
    }

    /// Takes `pages` consecutive frames: used ones if a run is long enough, then never-used ones,
    /// so that runs stay long, then holes.
    pub(super) fn take(&mut self, pages: u32) -> Option<Taken> {
        if let Some(start) = self.used.take(pages) {
            return Some(Taken { start, used: true });
        }
        if pages <= self.capacity - self.fresh {
            let start = self.fresh;
            self.fresh += pages;
            return Some(Taken { start, used: false });
        }
        let start = self.holes.take(pages)?;
        Some(Taken { start, used: false })
    }

    /// Gives frames back, with what they hold.
    pub(super) fn give(&mut self, start: u32, pages: u32) {
        self.used.give(start, pages);
    }

    /// Takes all used extents out, for their memory to be given back to the kernel.
    pub(super) fn take_used(&mut self) -> Vec<(u32, u32)> {
        let used = std::mem::take(&mut self.used);
        used.extents.into_iter().collect()
    }

    /// Gives frames back that hold no memory any more.
    pub(super) fn give_hole(&mut self, start: u32, pages: u32) {
        self.holes.give(start, pages);
        while let Some((&last, &length)) = self.holes.extents.last_key_value()
            && last + length == self.fresh
        {
            self.holes.remove(last);
            self.fresh = last;
        }
    }
}

/// Extents by their start; neighbours are one.
#[derive(Debug, Default)]
struct Coalesced {
    extents: BTreeMap<u32, u32>,
    frames: u32,
}

impl Coalesced {
    fn remove(&mut self, start: u32) -> u32 {
        let length = self.extents.remove(&start).unwrap_or(0);
        self.frames -= length;
        length
    }

    fn insert(&mut self, start: u32, length: u32) {
        self.extents.insert(start, length);
        self.frames += length;
    }

    fn take(&mut self, pages: u32) -> Option<u32> {
        if pages > self.frames {
            return None;
        }
        let (&start, _) = self.extents.iter().find(|&(_, &length)| length >= pages)?;
        let length = self.remove(start);
        if length > pages {
            self.insert(start + pages, length - pages);
        }
        Some(start)
    }

    fn give(&mut self, mut start: u32, mut pages: u32) {
        if let Some((&before, &length)) = self.extents.range(..start).next_back()
            && before + length == start
        {
            self.remove(before);
            start = before;
            pages += length;
        }
        pages += self.remove(start + pages);
        self.insert(start, pages);
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
                    if let Some(Taken { start, .. }) = extents.take(pages) {
                        prop_assert!(start + pages <= 400);
                        for &(other, length) in &held {
                            prop_assert!(start + pages <= other || other + length <= start);
                        }
                        held.push((start, pages));
                    }
                } else {
                    let (start, pages) = held.swap_remove(pick % held.len());
                    extents.give(start, pages);
                    if pick % 3 == 0 {
                        for (start, pages) in extents.take_used() {
                            extents.give_hole(start, pages);
                        }
                    }
                }
            }
            for (start, pages) in held {
                extents.give(start, pages);
            }
            for (start, pages) in extents.take_used() {
                extents.give_hole(start, pages);
            }
            prop_assert_eq!(extents.take(400), Some(Taken { start: 0, used: false }));
        }
    }
}
