//! Which frame, or which page seen before, holds content of a given hash.
//!
//! ESX section 4.1 keeps 16 bytes per shared frame and a smaller record per
//! *hint*: a page whose hash was seen once, that nothing shares yet and that
//! its VM may still write. Two flat tables keep that economy here: a slot is
//! an 8-byte key and an 8-byte value (and one control byte of `hashbrown`).
//!
//! Entries may be out of date at any time (frames die when their last page
//! is written, hinted pages change): whoever uses one must check it. The
//! index knows neither frames nor pages, and is written by the scanning
//! thread only.

use mirrorball_pmap::{GroupId, Ppn, VmId, WeakFrame};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A group and a hash in one word, so that content is never even looked up
/// across groups: equal content of two groups has different keys, and a key
/// two groups have in common by chance fails the pmap's own group check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64);

impl Key {
    pub(crate) const fn new(group: GroupId, hash: u64) -> Self {
        let mixed = (group.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(hash ^ mixed ^ (mixed >> 29))
    }
}

/// A private page somebody saw with this content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) vm: VmId,
    pub(crate) ppn: Ppn,
}

/// What the index knows of some content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Frame(WeakFrame),
    Hint(Hint),
}

/// Keys are hashes under a secret already; hashing them again adds nothing.
#[derive(Clone, Debug, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type Table<V> = HashMap<Key, V, BuildHasherDefault<Identity>>;

/// The content index of one machine.
#[derive(Debug, Default)]
pub(crate) struct Index {
    frames: Table<WeakFrame>,
    hints: Table<Hint>,
    /// The content of frames that others made and the scanner has read, for
    /// one frame is mapped by many guests.
    read: HashMap<WeakFrame, Key>,
}

impl Index {
    /// A frame if one is known, else a hint.
    pub(crate) fn find(&self, key: Key) -> Option<Entry> {
        let frame = self.frames.get(&key).copied().map(Entry::Frame);
        frame.or_else(|| self.hints.get(&key).copied().map(Entry::Hint))
    }

    /// From now on this content is in `frame`, and no page is a hint for it.
    pub(crate) fn insert_frame(&mut self, key: Key, frame: WeakFrame) {
        self.hints.remove(&key);
        self.frames.insert(key, frame);
    }

    /// Remembers a page as the only one with its content.
    pub(crate) fn insert_hint(&mut self, key: Key, hint: Hint) {
        self.hints.insert(key, hint);
    }

    /// Forgets a frame that is gone.
    pub(crate) fn remove_frame(&mut self, key: Key) {
        self.frames.remove(&key);
    }

    /// Forgets the hint if it names this very page; tells whether it did.
    pub(crate) fn remove_hint(&mut self, key: Key, hint: Hint) -> bool {
        let ours = self.hints.get(&key) == Some(&hint);
        if ours {
            self.hints.remove(&key);
        }
        ours
    }

    /// The content of a frame that was read before.
    pub(crate) fn content(&self, frame: WeakFrame) -> Option<Key> {
        self.read.get(&frame).copied()
    }

    /// Remembers what a frame holds, which never changes.
    pub(crate) fn remember(&mut self, frame: WeakFrame, content: Key) {
        self.read.insert(frame, content);
    }

    /// Forgets the frames that `alive` says are gone, when there may be more
    /// of them than live ones (`in_use` frames exist): work in proportion to
    /// what was inserted since the last time.
    pub(crate) fn purge(&mut self, in_use: u64, alive: impl Fn(WeakFrame) -> bool) {
        let known = u64::try_from(self.frames.len().max(self.read.len())).unwrap_or(u64::MAX);
        if known > in_use.saturating_mul(2).saturating_add(1024) {
            self.frames.retain(|_, frame| alive(*frame));
            self.frames.shrink_to(self.frames.len() * 2);
            self.read.retain(|frame, _| alive(*frame));
            self.read.shrink_to(self.read.len() * 2);
        }
    }

    /// Bytes of memory the tables take: slots and control bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let slots = self.frames.capacity() * (size_of::<(Key, WeakFrame)>() + 1)
            + self.hints.capacity() * (size_of::<(Key, Hint)>() + 1)
            + self.read.capacity() * (size_of::<(WeakFrame, Key)>() + 1);
        u64::try_from(slots).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn hint(vm: u32, ppn: u32) -> Hint {
        Hint {
            vm: VmId(vm),
            ppn: Ppn(ppn),
        }
    }

    #[test]
    fn a_slot_keeps_the_economy_of_esx() {
        assert_eq!(size_of::<(Key, Hint)>(), 16);
        assert_eq!(size_of::<(Key, WeakFrame)>(), 16);
    }

    #[test]
    fn groups_do_not_meet() {
        let mut index = Index::default();
        index.insert_hint(Key::new(GroupId(1), 99), hint(1, 2));
        assert_eq!(index.find(Key::new(GroupId(2), 99)), None);
        assert_eq!(
            index.find(Key::new(GroupId(1), 99)),
            Some(Entry::Hint(hint(1, 2)))
        );
    }

    #[test]
    fn only_the_page_that_gave_a_hint_takes_it_back() {
        let mut index = Index::default();
        let key = Key::new(GroupId(0), 5);
        index.insert_hint(key, hint(1, 1));
        assert!(!index.remove_hint(key, hint(2, 1)));
        assert!(index.find(key).is_some());
        assert!(index.remove_hint(key, hint(1, 1)));
        assert_eq!(index.find(key), None);
    }

    #[test]
    fn memory_is_reported() {
        let mut index = Index::default();
        assert_eq!(index.bytes(), 0);
        for n in 0..1000 {
            index.insert_hint(Key::new(GroupId(0), n), hint(1, 1));
        }
        assert!(index.bytes() >= 1000 * 17);
        assert!(index.bytes() < 1000 * 17 * 3);
    }
}
