//! Whether a guest keeps the pages that are delivered to it.
//!
//! A page that is mapped saves memory for as long as the guest leaves it as it is. A guest that takes
//! its content and soon offers the same room for the next packet has saved nothing, and paid for the
//! change of its mappings. Which of the two a guest does is seen at its buffers: what comes back was
//! not kept.

use crate::queue::Buffers;
use mirrorball_pmap::{PAGE_BYTES, Ppn, PpnRun};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Runs that are remembered: room that comes back later was kept.
const MOST_RUNS: usize = 1024;
/// So long is kept, however few runs came since: a scanner has passed by then.
const LONG: Duration = Duration::from_secs(1);
/// Delivered pages after which what was before counts half.
const MEMORY: u32 = 4096;

#[derive(Clone, Copy, Debug)]
struct Delivery {
    pages: u32,
    number: u64,
    when: Instant,
}

/// What became of the pages delivered lately.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Runs that have not come back, by their first page.
    out: BTreeMap<Ppn, Delivery>,
    /// The same, the oldest first; and runs that have come back.
    order: VecDeque<(u64, Ppn)>,
    next: u64,
    delivered: u32,
    returned: u32,
}

impl Kept {
    /// Pages were delivered.
    pub(super) fn delivered(&mut self, run: PpnRun, when: Instant) {
        self.next += 1;
        let delivery = Delivery {
            pages: run.pages,
            number: self.next,
            when,
        };
        self.out.insert(run.start, delivery);
        self.order.push_back((self.next, run.start));
        if self.order.len() > MOST_RUNS
            && let Some((number, start)) = self.order.pop_front()
            && self.out.get(&start).is_some_and(|run| run.number == number)
        {
            self.out.remove(&start);
        }
        self.count(run.pages);
    }

    /// Pages came that fall on no whole page of the guest's room: there is nothing of theirs to keep.
    pub(super) fn misplaced(&mut self, pages: u32) {
        self.count(pages);
        self.returned = self.returned.saturating_add(pages);
    }

    fn count(&mut self, pages: u32) {
        self.delivered = self.delivered.saturating_add(pages);
        if self.delivered > MEMORY {
            (self.delivered, self.returned) = (self.delivered / 2, self.returned / 2);
        }
    }

    /// The guest offers this room for what comes next.
    pub(super) fn offered(&mut self, room: &Buffers, now: Instant) {
        if self.out.is_empty() {
            return;
        }
        for buffer in room.iter() {
            let end = (buffer.address + u64::from(buffer.len)) / PAGE_BYTES;
            let first = buffer.address.div_ceil(PAGE_BYTES);
            let (Ok(first), Ok(end)) = (u32::try_from(first), u32::try_from(end)) else {
                continue;
            };
            while let Some((&start, &run)) = self.out.range(Ppn(first)..Ppn(end.max(first))).next()
            {
                self.out.remove(&start);
                if now.saturating_duration_since(run.when) < LONG {
                    self.returned = self.returned.saturating_add(run.pages);
                }
            }
        }
    }

    /// The part of the pages delivered lately that the guest has kept so far; 1 before the first.
    pub(super) fn share(&self) -> f64 {
        if self.delivered == 0 {
            return 1.0;
        }
        let returned = self.returned.min(self.delivered);
        1.0 - f64::from(returned) / f64::from(self.delivered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Buffer;

    fn room(page: u64, pages: u32) -> Buffers {
        let buffer = Buffer {
            address: page * PAGE_BYTES,
            len: pages * 4096,
        };
        [buffer].into_iter().collect()
    }

    const fn run(start: u32, pages: u32) -> PpnRun {
        PpnRun::new(Ppn(start), pages)
    }

    #[test]
    fn room_that_comes_back_soon_was_not_kept() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        assert!(kept.share() >= 1.0);
        for number in 0..10 {
            kept.delivered(run(number * 16, 16), now);
        }
        for number in 0..4 {
            kept.offered(&room(number * 16, 16), now);
            // It is the same room: it counts once.
            kept.offered(&room(number * 16, 16), now);
        }
        assert!((kept.share() - 0.6).abs() < 1e-9, "{}", kept.share());
        kept.offered(&room(64, 16), now + LONG);
        assert!((kept.share() - 0.6).abs() < 1e-9, "kept for long");
    }

    #[test]
    fn what_a_guest_did_long_ago_is_forgotten() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        for _ in 0..2000 {
            kept.delivered(run(0, 16), now);
            kept.offered(&room(0, 16), now);
        }
        assert!(kept.share() < 0.05, "{}", kept.share());
        for number in 1..4000 {
            kept.delivered(run(number * 16, 16), now);
        }
        assert!(kept.share() > 0.95, "{}", kept.share());
        assert!(kept.order.len() <= MOST_RUNS && kept.out.len() <= MOST_RUNS);
        kept.offered(&room(u64::from(u32::MAX), 1), now);
    }
}
