//! How many memory mappings the process may still make.
//!
//! Linux limits the VMAs of a process (`vm.max_map_count`, 65,530 by default). Each isolated page
//! mapped onto a frame costs up to two. Near the limit, sharing is refused and callers copy: a
//! guest never fails for want of a mapping.
//!
//! Sharing stops a little earlier than what takes memory from guests: pages that were written over
//! frames need mappings of their own before they can be swapped, and where sharing had taken the last
//! one, nobody could give any memory.

use std::sync::atomic::{AtomicI64, Ordering};

/// Mappings kept free for everything that is not guest memory: threads, heaps, libraries, and the
/// two that a fence needs for a moment.
const RESERVE: i64 = 2048;

/// The part of the budget that sharing leaves to what takes memory from guests.
const PART_FOR_RECLAIM: i64 = 32;

/// The process's budget of VMAs; counts guest memory's own.
#[derive(Debug)]
pub(crate) struct VmaBudget {
    limit: i64,
    used: AtomicI64,
}

impl VmaBudget {
    /// A budget of `limit` VMAs for guest memory; by default what `vm.max_map_count` leaves.
    pub(crate) fn new(limit: Option<usize>) -> Self {
        let limit = limit
            .and_then(|limit| i64::try_from(limit).ok())
            .unwrap_or_else(|| {
                let text =
                    std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
                text.trim().parse::<i64>().unwrap_or(65_530) - RESERVE
            });
        Self {
            limit,
            used: AtomicI64::new(0),
        }
    }

    /// True when `more` further VMAs fit. Several callers may pass at once and overshoot by a few:
    /// that is what the reserve is for.
    pub(crate) fn has_room(&self, more: i64) -> bool {
        self.used.load(Ordering::Relaxed) + more <= self.limit
    }

    /// The same for sharing, which leaves some to others.
    pub(crate) fn has_room_to_share(&self, more: i64) -> bool {
        self.has_room(more + self.limit / PART_FOR_RECLAIM)
    }

    /// Notes that guest memory has so many VMAs more (or less).
    pub(crate) fn change(&self, by: i64) {
        self.used.fetch_add(by, Ordering::Relaxed);
    }

    /// VMAs of guest memory now.
    pub(crate) fn used(&self) -> u64 {
        u64::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(0)
    }
}
