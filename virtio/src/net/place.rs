//! A packet's way into a guest's buffers: frames are mapped where they meet whole pages.

use super::receive::{Books, Means};
use super::send::whole_pages;
use super::stats::count;
use super::{Transfer, header};
use crate::device::DeviceError;
use crate::queue::{Buffer, Chain};
use mirrorball_pmap::{Mechanism, PAGE_BYTES, PAGE_SIZE, PinnedFrames, Ppn, PpnRun};
use mirrorball_vnet::{Packet, Piece};
use std::collections::VecDeque;
use std::time::Instant;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

/// Fills chains with a packet and gives them back.
pub(super) fn place(
    packet: &Packet,
    chains: &[Chain],
    ring: &mut Queue,
    means: Means<'_>,
    books: &mut Books,
) -> Result<(), DeviceError> {
    let buffers = u16::try_from(chains.len()).unwrap_or(u16::MAX);
    let raw = header::build(packet.offload(), buffers);
    let room = chains.iter().flat_map(|chain| chain.writable.iter());
    let mut scatter = Scatter {
        means,
        books,
        room: room.collect(),
    };
    scatter.copy(&raw)?;
    for piece in packet.pieces() {
        match piece {
            Piece::Bytes(bytes) => scatter.copy(bytes)?,
            Piece::Frames(frames) => scatter.frames(frames)?,
        }
    }
    let mut left = (header::HEADER + packet.bytes()) as u64;
    for chain in chains {
        let filled = left.min(chain.writable.bytes());
        left -= filled;
        let filled = u32::try_from(filled).unwrap_or(u32::MAX);
        ring.add_used(means.access.memory(), chain.head, filled)?;
    }
    Ok(())
}

/// A packet on its way in: the guest's room, from the next byte on.
struct Scatter<'a> {
    means: Means<'a>,
    books: &'a mut Books,
    room: VecDeque<Buffer>,
}

impl Scatter<'_> {
    fn copy(&mut self, bytes: &[u8]) -> Result<(), DeviceError> {
        let mut rest = bytes;
        while let Some(buffer) = self.room.front().filter(|_| !rest.is_empty()) {
            let len = rest.len().min(buffer.len as usize);
            (self.means.access.memory())
                .write_slice(&rest[..len], GuestAddress(buffer.address))
                .map_err(virtio_queue::Error::GuestMemory)?;
            let end = buffer.address + len as u64;
            (self.means.access).note_carried(whole_pages(buffer.address, end));
            self.advance(len);
            rest = &rest[len..];
        }
        count(&self.means.counters.received_copied, bytes.len() as u64);
        Ok(())
    }

    /// Places frames: mapped where the room is whole pages and begins where one of them does.
    fn frames(&mut self, frames: &PinnedFrames) -> Result<(), DeviceError> {
        let bytes = frames.bytes();
        let (mut done, mut placed) = (0, 0);
        while let Some(buffer) = self.room.front().copied().filter(|_| done < bytes.len()) {
            let len = (bytes.len() - done).min(buffer.len as usize);
            let ppn = u32::try_from(buffer.address / PAGE_BYTES).map(Ppn);
            let aligned =
                done.is_multiple_of(PAGE_SIZE) && buffer.address.is_multiple_of(PAGE_BYTES);
            let pages = u32::try_from(len / PAGE_SIZE).unwrap_or(0);
            let len = match ppn {
                Ok(at) if aligned && pages > 0 => {
                    let first = u32::try_from(done / PAGE_SIZE).unwrap_or(0);
                    self.whole(at, &frames.slice(first, pages))?;
                    placed += pages;
                    pages as usize * PAGE_SIZE
                }
                _ => {
                    let end = done + len;
                    self.copy(&bytes[done..end])?;
                    done = end;
                    continue;
                }
            };
            self.advance(len);
            done += len;
        }
        if self.means.transfer == Transfer::Cost {
            let misplaced = frames.pages().saturating_sub(placed);
            self.books.kept.misplaced(misplaced);
        }
        Ok(())
    }

    /// Fills whole pages with frames' content.
    fn whole(&mut self, at: Ppn, frames: &PinnedFrames) -> Result<(), DeviceError> {
        let Means {
            access,
            transfer,
            counters,
            ..
        } = self.means;
        let (pages, begin) = (frames.pages(), Instant::now());
        let judged = transfer == Transfer::Cost;
        if judged {
            self.books.kept.delivered(PpnRun::new(at, pages), begin);
        }
        if pages >= self.books.least_run
            && (access.map_frames(at, frames, Mechanism::Network)).is_ok()
        {
            count(&counters.mapped, pages.into());
            self.books.judge.mapped(begin.elapsed(), pages);
            return Ok(());
        }
        (access.memory())
            .write_slice(frames.bytes(), GuestAddress(at.address()))
            .map_err(virtio_queue::Error::GuestMemory)?;
        count(&counters.received_copied, frames.bytes().len() as u64);
        access.note_carried(PpnRun::new(at, pages));
        self.books.judge.copied(begin.elapsed(), pages);
        if !judged || self.books.least_run < u32::MAX {
            // Pages that come back as room are never sent on.
            access.note_twin(at, frames);
        }
        Ok(())
    }

    fn advance(&mut self, bytes: usize) {
        let Some(buffer) = self.room.front_mut() else {
            return;
        };
        let bytes = u32::try_from(bytes).unwrap_or(buffer.len).min(buffer.len);
        buffer.address += u64::from(bytes);
        buffer.len -= bytes;
        if buffer.len == 0 {
            self.room.pop_front();
        }
    }
}
