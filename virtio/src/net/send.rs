//! From a guest's transmit chain to a packet: whole pages are lent, the rest is copied.

use super::stats::{Counters, count};
use super::{Transfer, header};
use crate::device::DeviceError;
use crate::queue::{Buffer, Buffers, Chain};
use mirrorball_pmap::{Access, Lent, Origin, PAGE_BYTES, Ppn, PpnRun};
use mirrorball_vnet::{MOST_BYTES, Mac, Network, Packet, Piece};
use vm_memory::{Bytes, GuestAddress};

/// What sending packets needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Means<'a> {
    pub(super) access: &'a Access<'a>,
    pub(super) network: &'a Network,
    pub(super) transfer: Transfer,
    pub(super) counters: &'a Counters,
}

/// A packet with what its making showed.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) packet: Packet,
    /// Private pages that were lent as frames: they could name them too.
    pub(super) equal: Vec<Lent>,
    /// Pages that were sent before and have stayed what they were, and those that have not.
    pub(super) stayed: (u32, u32),
}

/// A packet on its way out, in pieces.
#[derive(Debug)]
struct Gather<'a> {
    means: Means<'a>,
    /// The shortest run of private pages that is made frames.
    least_run: u32,
    pieces: Vec<Piece>,
    equal: Vec<Lent>,
    stayed: (u32, u32),
}

/// Makes a packet of what a chain holds. `None` when it can't be a packet.
pub(super) fn packet(chain: Chain, means: Means<'_>) -> Result<Option<Sent>, DeviceError> {
    let access = means.access;
    let head = chain.head;
    let bad = |reason| DeviceError::Request { head, reason };
    let (front, body) = (chain.readable)
        .split_at(header::HEADER as u64)
        .ok_or_else(|| bad("a packet shorter than its header"))?;
    let mut raw = [0; header::HEADER];
    front
        .read(access.memory(), &mut raw)
        .map_err(virtio_queue::Error::GuestMemory)?;
    let offload = header::parse(&raw).filter(|_| body.bytes() <= MOST_BYTES as u64);
    let Some(offload) = offload else {
        return Ok(None);
    };
    let least_run = match means.transfer {
        Transfer::Cost => {
            let mut to = [0; 6];
            body.read(access.memory(), &mut to)
                .map_err(virtio_queue::Error::GuestMemory)?;
            means.network.least_run(Mac(to))
        }
        other => other.least_run(),
    };
    let mut gather = Gather {
        means,
        least_run,
        pieces: Vec::new(),
        equal: Vec::new(),
        stayed: (0, 0),
    };
    for buffer in joined(&body) {
        gather.buffer(buffer)?;
    }
    let Gather {
        pieces,
        equal,
        stayed,
        ..
    } = gather;
    let packet = Packet::new(pieces, offload).ok();
    let packet = packet.filter(Packet::segments_are_sound);
    Ok(packet.map(|packet| Sent {
        packet,
        equal,
        stayed,
    }))
}

/// The whole pages between two guest-physical addresses.
pub(super) fn whole_pages(from: u64, to: u64) -> PpnRun {
    let first = u32::try_from(from.div_ceil(PAGE_BYTES)).unwrap_or(u32::MAX);
    let end = u32::try_from(to / PAGE_BYTES).unwrap_or(u32::MAX);
    PpnRun::new(Ppn(first), end.saturating_sub(first))
}

/// The buffers, where one begins at the end of another as one.
fn joined(buffers: &Buffers) -> Vec<Buffer> {
    let mut all: Vec<Buffer> = Vec::new();
    for buffer in buffers.iter() {
        let last = all.last_mut();
        let before = last.filter(|last| last.address + u64::from(last.len) == buffer.address);
        match before.and_then(|last| Some((last.len.checked_add(buffer.len)?, last))) {
            Some((len, last)) => last.len = len,
            None => all.push(buffer),
        }
    }
    all
}

impl Gather<'_> {
    fn buffer(&mut self, buffer: Buffer) -> Result<(), DeviceError> {
        let (start, end) = (buffer.address, buffer.address + u64::from(buffer.len));
        let (first, last) = (
            start.next_multiple_of(PAGE_BYTES),
            end / PAGE_BYTES * PAGE_BYTES,
        );
        let run = u32::try_from(first / PAGE_BYTES).ok();
        let pages = last.checked_sub(first).map(|bytes| bytes / PAGE_BYTES);
        let pages = pages.and_then(|pages| u32::try_from(pages).ok());
        match (run, pages) {
            (Some(ppn), Some(pages)) if pages > 0 && self.means.transfer.hands_on() => {
                self.copy(start, first)?;
                self.lend(PpnRun::new(Ppn(ppn), pages))?;
                self.copy(last, end)
            }
            _ => self.copy(start, end),
        }
    }

    fn lend(&mut self, run: PpnRun) -> Result<(), DeviceError> {
        let least = self.least_run;
        let loan = (self.means.access).lend(run, |pages| pages >= least);
        self.stayed.0 += loan.unchanged;
        self.stayed.1 += loan.rewritten;
        let mut next = run.start;
        for lent in loan.lent {
            self.copy(next.address(), lent.at.address())?;
            let pages = lent.frames.pages();
            next = lent.at.plus(pages);
            self.means.counters.lent(lent.origin, pages);
            if lent.origin != Origin::Named {
                self.equal.push(Lent {
                    frames: lent.frames.slice(0, pages),
                    ..lent
                });
            }
            self.pieces.push(Piece::Frames(lent.frames));
        }
        self.copy(next.address(), run.end().address())
    }

    /// Copies the bytes from one guest-physical address to another.
    fn copy(&mut self, from: u64, to: u64) -> Result<(), DeviceError> {
        let len = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
        if len == 0 {
            return Ok(());
        }
        if !matches!(self.pieces.last(), Some(Piece::Bytes(_))) {
            self.pieces.push(Piece::Bytes(Vec::new()));
        }
        if let Some(Piece::Bytes(bytes)) = self.pieces.last_mut() {
            (self.means.access.memory())
                .write_all_volatile_to(GuestAddress(from), bytes, len)
                .map_err(virtio_queue::Error::GuestMemory)?;
            count(&self.means.counters.sent_copied, len as u64);
            self.means.access.note_carried(whole_pages(from, to));
        }
        Ok(())
    }
}
