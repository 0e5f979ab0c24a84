//! From a guest's transmit chain to a packet: whole pages are lent, the rest is copied.

use super::stats::{Counters, count};
use super::{Transfer, header};
use crate::device::DeviceError;
use crate::queue::{Buffer, Buffers, Chain};
use mirrorball_pmap::{Access, Lent, Origin, PAGE_BYTES, Ppn, PpnRun};
use mirrorball_vnet::{MOST_BYTES, Packet, Piece};
use vm_memory::{Bytes, GuestAddress};

/// A packet on its way out, in pieces.
#[derive(Debug)]
pub(super) struct Gather<'a> {
    access: &'a Access<'a>,
    transfer: Transfer,
    counters: &'a Counters,
    pieces: Vec<Piece>,
    /// Private pages that were lent as frames: they could name them too.
    equal: Vec<Lent>,
}

/// Makes a packet of what a chain holds, and tells which private pages equal frames now. `None` when
/// it can't be a packet.
pub(super) fn packet(
    chain: Chain,
    access: &Access<'_>,
    transfer: Transfer,
    counters: &Counters,
) -> Result<Option<(Packet, Vec<Lent>)>, DeviceError> {
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
    let mut gather = Gather {
        access,
        transfer,
        counters,
        pieces: Vec::new(),
        equal: Vec::new(),
    };
    for buffer in joined(&body) {
        gather.buffer(buffer)?;
    }
    let (pieces, equal) = (gather.pieces, gather.equal);
    let packet = Packet::new(pieces, offload).ok();
    Ok(packet.map(|packet| (packet, equal)))
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
            (Some(ppn), Some(pages)) if pages > 0 && self.transfer.hands_on() => {
                self.copy(start, first)?;
                self.lend(PpnRun::new(Ppn(ppn), pages))?;
                self.copy(last, end)
            }
            _ => self.copy(start, end),
        }
    }

    fn lend(&mut self, run: PpnRun) -> Result<(), DeviceError> {
        let makes = |pages| self.transfer.makes(pages);
        let mut next = run.start;
        for lent in self.access.lend(run, makes) {
            self.copy(next.address(), lent.at.address())?;
            let pages = lent.frames.pages();
            next = lent.at.plus(pages);
            self.counters.lent(lent.origin, pages);
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
            let start = bytes.len();
            bytes.resize(start + len, 0);
            (self.access.memory())
                .read_slice(&mut bytes[start..], GuestAddress(from))
                .map_err(virtio_queue::Error::GuestMemory)?;
            count(&self.counters.sent_copied, len as u64);
        }
        Ok(())
    }
}
