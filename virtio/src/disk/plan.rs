//! How a read is cut into pieces: which can be mapped, which must be copied, and from where.
//!
//! Pure arithmetic over addresses, so that its rules can be tested without a disk or a guest.

use super::BLOCK_BYTES;
use crate::queue::Buffers;
use mirrorball_pmap::{PAGE_BYTES, PinnedFrames};

/// Who has a block's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The base image.
    Base,
    /// The guest's overlay.
    Overlay,
    /// Nobody: scratch space never written.
    Zero,
}

/// Bytes that are contiguous on the disk and in the guest, and have one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) source: Source,
    /// Whole blocks of the image into whole pages.
    pub(super) map: bool,
    /// Byte offset on the disk.
    pub(super) disk: u64,
    /// Guest-physical address.
    pub(super) guest: u64,
    /// Bytes, not 0.
    pub(super) len: u64,
}

impl Piece {
    fn precedes(&self, next: &Self) -> bool {
        self.source == next.source && self.map == next.map && self.disk + self.len == next.disk
    }
}

/// Cuts a read of `buffers` from disk offset `offset` on.
pub(super) fn read(
    offset: u64,
    buffers: &Buffers,
    sharing: bool,
    source: impl Fn(u64) -> Source,
) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut disk = offset;
    for buffer in buffers.iter() {
        let (mut guest, end) = (buffer.address, buffer.address + u64::from(buffer.len));
        while guest < end {
            let len = (BLOCK_BYTES - disk % BLOCK_BYTES).min(end - guest);
            let source = source(disk / BLOCK_BYTES);
            let whole = len == BLOCK_BYTES && guest.is_multiple_of(PAGE_BYTES);
            let map = sharing && whole && source == Source::Base;
            let piece = Piece {
                source,
                map,
                disk,
                guest,
                len,
            };
            match pieces.last_mut() {
                Some(last) if last.precedes(&piece) && last.guest + last.len == guest => {
                    last.len += len;
                }
                _ => pieces.push(piece),
            }
            disk += len;
            guest += len;
        }
    }
    pieces
}

/// Groups pieces that one transfer can serve: same source, consecutive on the disk.
pub(super) fn runs(pieces: &[Piece]) -> impl Iterator<Item = &[Piece]> {
    pieces.chunk_by(Piece::precedes)
}

/// Pairs a run's guest addresses with the frames of its blocks, in parts as long as possible.
///
/// The frames' parts cover exactly the run's blocks, in order.
pub(super) fn pair(run: &[Piece], parts: &[PinnedFrames]) -> Vec<(u64, PinnedFrames)> {
    let mut pairs = Vec::new();
    let mut parts = parts.iter();
    let mut current = parts.next();
    let mut used = 0;
    for piece in run {
        let (mut guest, end) = (piece.guest, piece.guest + piece.len);
        while let Some(frames) = current.filter(|_| guest < end) {
            let wanted = u32::try_from((end - guest) / PAGE_BYTES).unwrap_or(u32::MAX);
            let pages = wanted.min(frames.pages() - used);
            pairs.push((guest, frames.slice(used, pages)));
            guest += u64::from(pages) * PAGE_BYTES;
            used += pages;
            if used == frames.pages() {
                current = parts.next();
                used = 0;
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Buffer;

    fn buffers(list: &[(u64, u32)]) -> Buffers {
        list.iter()
            .map(|&(address, len)| Buffer { address, len })
            .collect()
    }

    fn of_base(_: u64) -> Source {
        Source::Base
    }

    #[test]
    fn aligned_buffers_become_one_run_across_descriptors() {
        let pieces = read(
            0x3000,
            &buffers(&[(0x10000, 0x2000), (0x50000, 0x1000)]),
            true,
            of_base,
        );
        assert_eq!(pieces.len(), 2);
        assert!(pieces.iter().all(|piece| piece.map));
        assert_eq!(runs(&pieces).count(), 1);
    }

    #[test]
    fn edges_are_copied_and_the_middle_is_mapped() {
        let pieces = read(
            0x1e00,
            &buffers(&[(0x8e00, 0x200 + 0x3000 + 0x400)]),
            true,
            of_base,
        );
        let shape: Vec<_> = pieces
            .iter()
            .map(|piece| (piece.map, piece.disk, piece.guest, piece.len))
            .collect();
        assert_eq!(
            shape,
            [
                (false, 0x1e00, 0x8e00, 0x200),
                (true, 0x2000, 0x9000, 0x3000),
                (false, 0x5000, 0xc000, 0x400),
            ]
        );
    }

    #[test]
    fn pages_that_straddle_blocks_are_copied_in_one_piece() {
        let pieces = read(0x1200, &buffers(&[(0x8000, 0x3000)]), true, of_base);
        assert_eq!(pieces.len(), 1);
        assert!(!pieces[0].map);
        let pieces = read(0x1000, &buffers(&[(0x8200, 0x3000)]), true, of_base);
        assert_eq!((pieces.len(), pieces[0].map), (1, false));
    }

    #[test]
    fn only_the_images_blocks_are_mapped() {
        let source = |block| match block {
            1 => Source::Overlay,
            3.. => Source::Zero,
            _ => Source::Base,
        };
        let pieces = read(0, &buffers(&[(0x8000, 0x5000)]), true, source);
        let shape: Vec<_> = pieces
            .iter()
            .map(|piece| (piece.source, piece.map, piece.len))
            .collect();
        assert_eq!(
            shape,
            [
                (Source::Base, true, 0x1000),
                (Source::Overlay, false, 0x1000),
                (Source::Base, true, 0x1000),
                (Source::Zero, false, 0x2000),
            ]
        );
        assert!(
            read(0, &buffers(&[(0x8000, 0x5000)]), false, source)
                .iter()
                .all(|p| !p.map)
        );
    }
}
