//! The block device's configuration space (virtio 1.2, clause 5.2.4).

use super::request::{MAX_DATA_BYTES, MAX_RANGE_SECTORS, SECTOR_BYTES};
use crate::device;
use crate::disk::BLOCK_BYTES;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes, Unaligned};

/// Sectors of 512 bytes in a block of the disk, as a power of two.
const BLOCK_EXPONENT: u8 = 3;
const SECTORS_PER_BLOCK: u16 = 1 << BLOCK_EXPONENT;
const _: () = assert!(SECTORS_PER_BLOCK as u64 * SECTOR_BYTES == BLOCK_BYTES);

/// Largest segment of a request. With as many of them as a queue takes, a request is never larger
/// than what is served, whatever the guest's administrator sets.
const SEGMENT_BYTES: u32 = 64 << 10;

/// `struct virtio_blk_config` up to the fields of the features offered here.
#[derive(Clone, Copy, Debug, Default, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Config {
    capacity: U64,
    size_max: U32,
    seg_max: U32,
    geometry: U32,
    blk_size: U32,
    physical_block_exp: u8,
    alignment_offset: u8,
    min_io_size: U16,
    opt_io_size: U32,
    writeback: u8,
    unused: u8,
    num_queues: U16,
    max_discard_sectors: U32,
    max_discard_seg: U32,
    discard_sector_alignment: U32,
    max_write_zeroes_sectors: U32,
    max_write_zeroes_seg: U32,
    write_zeroes_may_unmap: u8,
    padding: [u8; 3],
}

impl Config {
    /// The features whose fields are filled.
    pub(super) const FEATURES: u64 = 1 << VIRTIO_BLK_F_SIZE_MAX
        | 1 << VIRTIO_BLK_F_SEG_MAX
        | 1 << VIRTIO_BLK_F_BLK_SIZE
        | 1 << VIRTIO_BLK_F_FLUSH
        | 1 << VIRTIO_BLK_F_TOPOLOGY
        | 1 << VIRTIO_BLK_F_DISCARD
        | 1 << VIRTIO_BLK_F_WRITE_ZEROES;

    /// The space of a disk of `bytes` bytes with a queue of `queue_size`.
    ///
    /// The smallest unit that a guest may address is a sector, as on most disks: partition tables
    /// count in it, and file systems of blocks below 4 KiB could not be mounted otherwise. A block
    /// is the unit that is best used.
    pub(super) fn new(bytes: u64, queue_size: u16) -> Self {
        // Header and status take a descriptor each.
        let segments = u32::from(queue_size) - 2;
        debug_assert!(u64::from(segments) * u64::from(SEGMENT_BYTES) <= MAX_DATA_BYTES);
        Self {
            capacity: (bytes / SECTOR_BYTES).into(),
            size_max: SEGMENT_BYTES.into(),
            seg_max: segments.into(),
            blk_size: 512.into(),
            physical_block_exp: BLOCK_EXPONENT,
            min_io_size: SECTORS_PER_BLOCK.into(),
            num_queues: 1.into(),
            max_discard_sectors: MAX_RANGE_SECTORS.into(),
            max_discard_seg: 1.into(),
            discard_sector_alignment: u32::from(SECTORS_PER_BLOCK).into(),
            max_write_zeroes_sectors: MAX_RANGE_SECTORS.into(),
            max_write_zeroes_seg: 1.into(),
            write_zeroes_may_unmap: 1,
            ..Self::default()
        }
    }

    /// Copies what there is at `offset`; the rest of `data` stays as it is.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        device::read_config(self.as_bytes(), offset, data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;
    use virtio_bindings::virtio_blk::virtio_blk_config;

    #[test]
    fn the_layout_is_the_kernels() {
        macro_rules! same {
            ($($field:ident $(= $theirs:ident)?),*) => {$(
                assert_eq!(
                    offset_of!(Config, $field),
                    same!(@ $field $($theirs)?),
                    stringify!($field)
                );
            )*};
            (@ $field:ident) => { offset_of!(virtio_blk_config, $field) };
            (@ $field:ident $theirs:ident) => { offset_of!(virtio_blk_config, $theirs) };
        }
        same!(
            capacity,
            size_max,
            seg_max,
            geometry,
            blk_size,
            physical_block_exp
        );
        same!(
            alignment_offset,
            min_io_size,
            opt_io_size,
            writeback = wce,
            num_queues
        );
        same!(
            max_discard_sectors,
            max_discard_seg,
            discard_sector_alignment
        );
        same!(
            max_write_zeroes_sectors,
            max_write_zeroes_seg,
            write_zeroes_may_unmap
        );
    }

    #[test]
    fn reads_anywhere_are_harmless() {
        let config = Config::new(3 << 20, 128);
        let mut capacity = [0; 8];
        config.read(0, &mut capacity);
        assert_eq!(u64::from_le_bytes(capacity), 3 << 11);
        let mut past = [9; 6];
        config.read(size_of::<Config>() as u64 - 4, &mut past);
        assert_eq!(past, [1, 0, 0, 0, 9, 9]);
        config.read(u64::MAX, &mut past);
        assert_eq!(past, [1, 0, 0, 0, 9, 9]);
    }
}
