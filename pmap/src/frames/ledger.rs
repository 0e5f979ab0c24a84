//! The books of the frame store: who counts on which frame, and what that saves.

use super::extents::{Extents, Taken};
use crate::types::{GroupId, Mechanism, Mpn};

/// How many frames there are, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// Frames in use (each 4 KiB of machine memory).
    pub frames: u64,
    /// Free frames whose memory is kept for the next ones.
    pub spare: u64,
    /// Guest pages that map a frame.
    pub mapped: u64,
    /// Guest pages that map a frame which another guest page maps too.
    pub shared: u64,
    /// `shared` less the frames that back them, by [`Mechanism::index`].
    pub reclaimed: [u64; 3],
}

/// One guest page's reference that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Released {
    pub(crate) mpn: Mpn,
    pub(crate) mechanism: Mechanism,
}

/// Everything known of one frame.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// Guest pages that map the frame, by mechanism.
    references: [u32; 3],
    /// Handles of the monitor.
    pins: u32,
    /// Incremented when the frame is freed, so that old weak frames are recognised.
    generation: u32,
    group: GroupId,
    /// The mechanism that mapped it first: its first reference saves nothing.
    origin: u8,
}

impl Record {
    fn total(&self) -> u64 {
        self.references.iter().map(|&count| u64::from(count)).sum()
    }

    /// Pages saved by this frame, by mechanism: all references but one, the one that would have
    /// needed the page anyway.
    fn saved(&self) -> [u64; 3] {
        let mut saved = self.references.map(u64::from);
        let disk = Mechanism::Disk.index();
        let first = if usize::from(self.origin) == Mechanism::Network.index() && saved[disk] > 0 {
            // Sent before the sender's own page was mapped: its copy is what was there first.
            disk
        } else if saved[usize::from(self.origin)] > 0 {
            usize::from(self.origin)
        } else {
            saved.iter().position(|&count| count > 0).unwrap_or(0)
        };
        saved[first] = saved[first].saturating_sub(1);
        saved
    }
}

/// All records and the totals derived from them; guarded by the store's lock.
#[derive(Debug)]
pub(super) struct Ledger {
    extents: Extents,
    records: Vec<Record>,
    counts: FrameCounts,
}

impl Ledger {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            extents: Extents::new(capacity),
            records: Vec::new(),
            counts: FrameCounts::default(),
        }
    }

    pub(super) fn capacity(&self) -> u32 {
        self.extents.capacity()
    }

    pub(super) fn counts(&self) -> FrameCounts {
        FrameCounts {
            spare: u64::from(self.extents.used()),
            ..self.counts
        }
    }

    /// The free frames whose memory is kept, if there are more than `most`; the caller gives their
    /// memory back, then calls [`Self::trimmed`].
    pub(super) fn trim(&mut self, most: u32) -> Vec<(u32, u32)> {
        if self.extents.used() > most {
            self.extents.take_used()
        } else {
            Vec::new()
        }
    }

    /// The memory of these free frames was given back.
    pub(super) fn trimmed(&mut self, extents: &[(u32, u32)]) {
        for &(start, pages) in extents {
            self.extents.give_hole(start, pages);
        }
    }

    /// Bytes of the monitor's own memory that the books take.
    pub(super) fn overhead_bytes(&self) -> usize {
        self.records.len() * size_of::<Record>()
    }

    /// Takes `pages` consecutive frames, each pinned once; they may hold what they held before.
    pub(super) fn allocate(&mut self, pages: u32, group: GroupId) -> Option<Taken> {
        let taken = self.extents.take(pages)?;
        let start = taken.start;
        let end = (start + pages) as usize;
        if self.records.len() < end {
            self.records.resize(end, Record::default());
        }
        for record in &mut self.records[start as usize..end] {
            *record = Record {
                pins: 1,
                generation: record.generation,
                group,
                ..Record::default()
            };
        }
        self.counts.frames += u64::from(pages);
        Some(taken)
    }

    pub(super) fn generation(&self, mpn: Mpn) -> u32 {
        self.records[mpn.index()].generation
    }

    pub(super) fn group(&self, mpn: Mpn) -> GroupId {
        self.records[mpn.index()].group
    }

    /// Pins a frame if it is still the one of that generation.
    pub(super) fn pin_if_alive(&mut self, mpn: Mpn, generation: u32) -> bool {
        match self.records.get_mut(mpn.index()) {
            Some(record)
                if record.generation == generation && (record.pins > 0 || record.total() > 0) =>
            {
                record.pins += 1;
                true
            }
            _ => false,
        }
    }

    /// True when the frame is mapped by a guest page and belongs to that group.
    pub(super) fn is_published(&self, mpn: Mpn, group: GroupId) -> bool {
        self.records
            .get(mpn.index())
            .is_some_and(|record| record.total() > 0 && record.group == group)
    }

    /// Pins frames that the caller knows to be alive.
    pub(super) fn pin(&mut self, start: Mpn, pages: u32) {
        for record in &mut self.records[start.index()..start.index() + pages as usize] {
            record.pins += 1;
        }
    }

    /// Drops a pin of each frame; frees those that nobody counts on any more.
    pub(super) fn unpin(&mut self, start: Mpn, pages: u32) {
        for mpn in (start.0..start.0 + pages).map(Mpn) {
            self.records[mpn.index()].pins -= 1;
            self.free_if_dead(mpn);
        }
    }

    /// Counts one more guest page for each of the frames, which the caller has pinned.
    pub(super) fn reference(&mut self, start: Mpn, pages: u32, mechanism: Mechanism) {
        for index in start.index()..start.index() + pages as usize {
            self.change(index, |record| {
                if record.total() == 0 {
                    record.origin = mechanism as u8;
                }
                record.references[mechanism.index()] += 1;
            });
        }
    }

    /// Counts one guest page less; frees the frame when it was the last.
    pub(super) fn release(&mut self, released: Released) {
        self.change(released.mpn.index(), |record| {
            let count = &mut record.references[released.mechanism.index()];
            debug_assert!(
                *count > 0,
                "{:?} released more often than referenced",
                released.mpn
            );
            *count = count.saturating_sub(1);
        });
        self.free_if_dead(released.mpn);
    }

    fn free_if_dead(&mut self, mpn: Mpn) {
        let record = &mut self.records[mpn.index()];
        if record.pins > 0 || record.total() > 0 {
            return;
        }
        record.generation = record.generation.wrapping_add(1);
        self.counts.frames -= 1;
        self.extents.give(mpn.0, 1);
    }

    fn change(&mut self, index: usize, change: impl FnOnce(&mut Record)) {
        let record = &mut self.records[index];
        let (before, saved_before) = (record.total(), record.saved());
        change(record);
        let (after, saved_after) = (record.total(), record.saved());
        let counts = &mut self.counts;
        let shared = |total: u64| if total > 1 { total } else { 0 };
        counts.mapped = counts.mapped + after - before;
        counts.shared = counts.shared + shared(after) - shared(before);
        for mechanism in 0..3 {
            counts.reclaimed[mechanism] =
                counts.reclaimed[mechanism] + saved_after[mechanism] - saved_before[mechanism];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reference_saves_nothing_and_the_last_frees() {
        let mut ledger = Ledger::new(8);
        let mpn = Mpn(ledger.allocate(1, GroupId(0)).unwrap().start);
        ledger.reference(mpn, 1, Mechanism::Disk);
        assert_eq!(
            ledger.counts(),
            FrameCounts {
                frames: 1,
                mapped: 1,
                ..FrameCounts::default()
            }
        );
        ledger.reference(mpn, 1, Mechanism::Content);
        assert_eq!(
            ledger.counts(),
            FrameCounts {
                frames: 1,
                mapped: 2,
                shared: 2,
                spare: 0,
                reclaimed: [0, 0, 1]
            }
        );
        ledger.unpin(mpn, 1);
        ledger.release(Released {
            mpn,
            mechanism: Mechanism::Disk,
        });
        assert_eq!(ledger.counts().reclaimed, [0, 0, 0]);
        let generation = ledger.generation(mpn);
        ledger.release(Released {
            mpn,
            mechanism: Mechanism::Content,
        });
        let spare = FrameCounts {
            spare: 1,
            ..FrameCounts::default()
        };
        assert_eq!(ledger.counts(), spare);
        assert!(
            !ledger.pin_if_alive(mpn, generation),
            "a freed frame must not come back to life"
        );
    }
}
