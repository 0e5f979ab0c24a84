//! A guest's own memory statistics (virtio 1.2, clause 5.5.6.3): what it chose to say, believed by
//! nobody but the reader of a graph.

use std::time::Instant;
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// `struct virtio_balloon_stat`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    tag: U16,
    value: U64,
}

/// Most bytes of a set that are looked at: some 400 entries, where the specification has 16.
pub(super) const MAX_BYTES: usize = 4096;

/// One set of statistics, as the guest gave it. What it did not say is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestStatistics {
    /// When the set arrived.
    pub at: Instant,
    /// Bytes read from swap since boot.
    pub swap_in: Option<u64>,
    /// Bytes written to swap since boot.
    pub swap_out: Option<u64>,
    /// Page faults since boot that needed I/O.
    pub major_faults: Option<u64>,
    /// Page faults since boot that needed none.
    pub minor_faults: Option<u64>,
    /// Bytes of memory that nothing uses (`MemFree`).
    pub free: Option<u64>,
    /// Bytes of memory in all (`MemTotal`).
    pub total: Option<u64>,
    /// Bytes of memory that can be had without swapping (`MemAvailable`).
    pub available: Option<u64>,
    /// Bytes of memory in caches of files.
    pub caches: Option<u64>,
    /// Invocations of the out-of-memory killer since boot.
    pub oom_kills: Option<u64>,
}

impl GuestStatistics {
    /// Reads a set; tags that are unknown, and a last entry that is not whole, are passed over. Of
    /// a tag given twice, the last counts.
    pub(super) fn parse(bytes: &[u8], at: Instant) -> Self {
        let mut set = Self {
            at,
            swap_in: None,
            swap_out: None,
            major_faults: None,
            minor_faults: None,
            free: None,
            total: None,
            available: None,
            caches: None,
            oom_kills: None,
        };
        for bytes in bytes.chunks_exact(size_of::<Entry>()) {
            let Ok(entry) = Entry::ref_from_bytes(bytes) else {
                continue;
            };
            if let Some(field) = set.field(entry.tag.get()) {
                *field = Some(entry.value.get());
            }
        }
        set
    }

    /// The field of a tag (VIRTIO_BALLOON_S_*).
    fn field(&mut self, tag: u16) -> Option<&mut Option<u64>> {
        Some(match tag {
            0 => &mut self.swap_in,
            1 => &mut self.swap_out,
            2 => &mut self.major_faults,
            3 => &mut self.minor_faults,
            4 => &mut self.free,
            5 => &mut self.total,
            6 => &mut self.available,
            7 => &mut self.caches,
            10 => &mut self.oom_kills,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tag: u16, value: u64) -> Vec<u8> {
        [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat()
    }

    #[test]
    fn entries_are_read_by_their_tags() {
        let at = Instant::now();
        let bytes = [
            entry(4, 1 << 40),
            entry(99, 1),
            entry(5, 2 << 40),
            entry(4, 7),
            vec![6, 0, 1],
        ];
        let set = GuestStatistics::parse(&bytes.concat(), at);
        assert_eq!((set.free, set.total), (Some(7), Some(2 << 40)));
        assert_eq!((set.available, set.swap_in, set.at), (None, None, at));
        assert_eq!(GuestStatistics::parse(&[], at).free, None);
    }
}
