//! An order of use over small indices: which slot was not used for longest.
//!
//! Indices instead of pointers, so that it needs no unsafe code and can be tested alone.

use alloc::vec::Vec;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    older: u32,
    newer: u32,
}

/// A list of indices from the oldest to the newest.
#[derive(Debug)]
pub struct Lru {
    links: Vec<Link>,
    oldest: u32,
    newest: u32,
}

impl Lru {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            links: Vec::new(),
            oldest: NONE,
            newest: NONE,
        }
    }

    /// Adds an index that is not in the list as the newest.
    pub fn insert(&mut self, index: u32) {
        let at = index as usize;
        if at >= self.links.len() {
            self.links.resize(
                at + 1,
                Link {
                    older: NONE,
                    newer: NONE,
                },
            );
        }
        self.links[at] = Link {
            older: self.newest,
            newer: NONE,
        };
        match self.newest {
            NONE => self.oldest = index,
            newest => self.links[newest as usize].newer = index,
        }
        self.newest = index;
    }

    /// Takes an index that is in the list out of it.
    pub fn remove(&mut self, index: u32) {
        let Link { older, newer } = self.links[index as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.links[newer as usize].older = older,
        }
    }

    /// Makes an index that is in the list the newest.
    pub fn touch(&mut self, index: u32) {
        if self.newest != index {
            self.remove(index);
            self.insert(index);
        }
    }

    /// The indices from the oldest on.
    pub fn oldest_first(&self) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.oldest;
        core::iter::from_fn(move || {
            let index = (at != NONE).then_some(at)?;
            at = self.links[index as usize].newer;
            Some(index)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(lru: &Lru) -> Vec<u32> {
        lru.oldest_first().collect()
    }

    #[test]
    fn use_moves_to_the_end() {
        let mut lru = Lru::new();
        (0..4).for_each(|index| lru.insert(index));
        lru.touch(1);
        lru.touch(3);
        lru.touch(3);
        assert_eq!(order(&lru), [0, 2, 1, 3]);
        lru.remove(0);
        lru.remove(3);
        assert_eq!(order(&lru), [2, 1]);
        lru.insert(0);
        lru.remove(1);
        lru.remove(2);
        lru.remove(0);
        assert!(order(&lru).is_empty());
        lru.insert(7);
        assert_eq!(order(&lru), [7]);
    }
}
