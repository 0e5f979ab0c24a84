//! The balloon's configuration space (virtio 1.2, clause 5.5.4).

use crate::device;
use std::ops::Range;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// VIRTIO_BALLOON_F_MUST_TELL_HOST: pages leave the balloon only after the device was told.
const MUST_TELL_HOST: u64 = 1 << 0;
/// VIRTIO_BALLOON_F_STATS_VQ: the guest's memory statistics.
const STATS_VQ: u64 = 1 << 1;
/// VIRTIO_BALLOON_F_DEFLATE_ON_OOM: the guest takes pages back before it kills for want of them.
const DEFLATE_ON_OOM: u64 = 1 << 2;
/// VIRTIO_BALLOON_F_FREE_PAGE_HINT: never asked for, see [`super::Balloon`].
const FREE_PAGE_HINT: u64 = 1 << 3;
/// VIRTIO_BALLOON_F_PAGE_POISON: the guest says what it expects in free pages.
const PAGE_POISON: u64 = 1 << 4;
/// VIRTIO_BALLOON_F_REPORTING: the guest names free pages.
const REPORTING: u64 = 1 << 5;

/// `struct virtio_balloon_config`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Config {
    /// Pages that the guest is asked to have in the balloon.
    pub(super) target: U32,
    /// Pages that it says it has there.
    pub(super) actual: U32,
    /// Command of the free page hints: 0 is "stop".
    hint_command: U32,
    /// What the guest fills free pages with, the 32-bit pattern.
    pub(super) poison: U32,
}

/// The bytes that a driver may write: `actual` and `poison`.
const WRITABLE: [Range<usize>; 2] = [4..8, 12..16];

impl Config {
    pub(super) const FEATURES: u64 =
        MUST_TELL_HOST | STATS_VQ | DEFLATE_ON_OOM | FREE_PAGE_HINT | PAGE_POISON | REPORTING;

    /// Copies what there is at `offset`; the rest of `data` stays as it is.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        device::read_config(self.as_bytes(), offset, data);
    }

    /// Takes those of the bytes that are the driver's to write.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let Ok(start) = usize::try_from(offset) else {
            return;
        };
        let bytes = self.as_mut_bytes();
        for (at, byte) in (start..bytes.len()).zip(data) {
            if WRITABLE.iter().any(|range| range.contains(&at)) {
                bytes[at] = *byte;
            }
        }
    }

    /// What a driver set up is forgotten; the target is the host's.
    pub(super) fn reset(&mut self) {
        *self = Self {
            target: self.target,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_writes_its_own_fields_only() {
        let mut config = Config {
            target: 5.into(),
            ..Config::default()
        };
        config.write(0, &[0xff; 16]);
        let fields = [
            config.target,
            config.actual,
            config.hint_command,
            config.poison,
        ];
        assert_eq!(fields.map(U32::get), [5, u32::MAX, 0, u32::MAX]);
        config.write(6, &[0; 9]);
        assert_eq!(config.actual.get(), 0xffff);
        assert_eq!(config.poison.get(), 0xff00_0000);
        for offset in [16, 17, u64::MAX] {
            config.write(offset, &[1; 8]);
            let mut data = [9; 3];
            config.read(offset, &mut data);
            assert_eq!(data, [9; 3]);
        }
        config.reset();
        let mut all = [9; 17];
        config.read(0, &mut all);
        assert_eq!(all, [5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    }
}
