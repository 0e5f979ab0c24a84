//! From a packet to a guest's receive chains: frames are mapped where they meet whole pages.

use super::stats::{Counters, count};
use super::{Transfer, header};
use crate::device::DeviceError;
use crate::queue::{Buffer, Chain};
use mirrorball_pmap::{Access, Mechanism, PAGE_BYTES, PAGE_SIZE, PinnedFrames, Ppn};
use mirrorball_vnet::{Packet, Piece, Port};
use std::collections::VecDeque;
use std::sync::Arc;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

/// Between the port and the guest's chains: whichever came first waits here for the other.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    packet: Option<Arc<Packet>>,
    chains: VecDeque<Chain>,
}

/// What placing packets needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Means<'a> {
    pub(super) access: &'a Access<'a>,
    pub(super) transfer: Transfer,
    pub(super) counters: &'a Counters,
    /// Whether one packet may fill several chains (MRG_RXBUF).
    pub(super) mergeable: bool,
    /// Whether the guest completes checksums itself (GUEST_CSUM).
    pub(super) checksums: bool,
}

impl Receiving {
    pub(super) fn add(&mut self, chain: Chain) {
        self.chains.push_back(chain);
    }

    /// Whether a packet waits for more chains.
    pub(super) fn wants(&self, port: &Port) -> bool {
        self.packet.is_some() || port.has_packet()
    }

    /// Places packets into the chains that are here, as many as fit; answers how many chains went
    /// back to the guest.
    pub(super) fn deliver(
        &mut self,
        port: &Port,
        ring: &mut Queue,
        means: Means<'_>,
    ) -> Result<u32, DeviceError> {
        let mut used = 0;
        while let Some(packet) = self.packet.take().or_else(|| port.receive()) {
            let packet = if means.checksums {
                packet
            } else {
                packet.with_checksum().map_or(packet, Arc::new)
            };
            let needed = (header::HEADER + packet.bytes()) as u64;
            match self.chains_for(needed, means.mergeable) {
                Some(0) => {
                    self.packet = Some(packet);
                    break;
                }
                Some(chains) => {
                    let chains: Vec<_> = self.chains.drain(..chains).collect();
                    place(&packet, &chains, ring, means)?;
                    used += u32::try_from(chains.len()).unwrap_or(0);
                }
                None if self.chains.len() >= usize::from(ring.size() / 4) || !means.mergeable => {
                    // It would hardly ever fit: the next may.
                    count(&means.counters.unfit, 1);
                }
                None => {
                    self.packet = Some(packet);
                    break;
                }
            }
        }
        Ok(used)
    }

    /// How many of the waiting chains take so many bytes: none when none waits, `None` when they
    /// are not enough.
    fn chains_for(&self, bytes: u64, mergeable: bool) -> Option<usize> {
        if self.chains.is_empty() {
            return Some(0);
        }
        let most = if mergeable { self.chains.len() } else { 1 };
        let mut room = 0;
        for (number, chain) in (1..=most).zip(&self.chains) {
            room += chain.writable.bytes();
            if room >= bytes {
                return Some(number);
            }
        }
        None
    }
}

/// Fills chains with a packet and gives them back.
fn place(
    packet: &Packet,
    chains: &[Chain],
    ring: &mut Queue,
    means: Means<'_>,
) -> Result<(), DeviceError> {
    let buffers = u16::try_from(chains.len()).unwrap_or(u16::MAX);
    let raw = header::build(packet.offload(), buffers);
    let room = chains.iter().flat_map(|chain| chain.writable.iter());
    let mut scatter = Scatter {
        means,
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
            self.advance(len);
            rest = &rest[len..];
        }
        count(&self.means.counters.received_copied, bytes.len() as u64);
        Ok(())
    }

    /// Places frames: mapped where the room is whole pages and begins where one of them does.
    fn frames(&mut self, frames: &PinnedFrames) -> Result<(), DeviceError> {
        let bytes = frames.bytes();
        let mut done = 0;
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
        Ok(())
    }

    /// Fills whole pages with frames' content.
    fn whole(&self, at: Ppn, frames: &PinnedFrames) -> Result<(), DeviceError> {
        let Means {
            access,
            transfer,
            counters,
            ..
        } = self.means;
        let mapped = transfer.maps(frames.pages())
            && (access.map_frames(at, frames, Mechanism::Network)).is_ok();
        if mapped {
            count(&counters.mapped, frames.pages().into());
            return Ok(());
        }
        (access.memory())
            .write_slice(frames.bytes(), GuestAddress(at.address()))
            .map_err(virtio_queue::Error::GuestMemory)?;
        count(&counters.received_copied, frames.bytes().len() as u64);
        access.note_twin(at, frames);
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
