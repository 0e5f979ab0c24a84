//! Between a port and a guest's receive chains: which packet goes into which of them.

use super::judge::Judge;
use super::kept::Kept;
use super::place::place;
use super::stats::{Counters, count};
use super::{Transfer, header};
use crate::device::{Completed, DeviceError};
use crate::queue::{self, Chain};
use mirrorball_pmap::{Access, PAGE_BYTES, Ppn};
use mirrorball_vnet::{Packet, Port};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use virtio_queue::{Queue, QueueT};

/// Chains that are taken from the guest before packets fill them, at most: among these a packet finds
/// the one that held its pages before.
const MOST_CHAINS: usize = 64;

/// What waits on both sides, and what was learnt of this guest.
#[derive(Debug)]
pub(super) struct Receiving {
    /// Which of the port's lanes it serves.
    lane: usize,
    packets: VecDeque<Arc<Packet>>,
    chains: VecDeque<Chain>,
    /// Where the ring stood after the last round.
    next: u16,
    books: Books,
}

/// What decides between a mapping and a copy.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) kept: Kept,
    pub(super) judge: Judge,
    /// The shortest run that is mapped now.
    pub(super) least_run: u32,
}

/// What placing packets needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Means<'a> {
    pub(super) access: &'a Access<'a>,
    pub(super) transfer: Transfer,
    pub(super) counters: &'a Counters,
    /// Whether one packet may fill several chains (MRG_RXBUF).
    pub(super) mergeable: bool,
    /// What the guest does itself.
    pub(super) abilities: header::Abilities,
}

impl Receiving {
    pub(super) fn new(lane: usize, transfer: Transfer) -> Self {
        Self {
            lane,
            packets: VecDeque::new(),
            chains: VecDeque::new(),
            next: 0,
            books: Books {
                kept: Kept::default(),
                judge: Judge::default(),
                least_run: transfer.least_run(),
            },
        }
    }

    /// The packets in hand, for another lane. Chains stay: they are this ring's.
    pub(super) fn leave(&mut self) -> VecDeque<Arc<Packet>> {
        std::mem::take(&mut self.packets)
    }

    /// Serves packets that another lane had in hand.
    pub(super) fn take_over(&mut self, packets: VecDeque<Arc<Packet>>) {
        self.packets.extend(packets);
    }

    /// One round: takes chains while packets wait for them, and fills them.
    pub(super) fn round(
        &mut self,
        port: &Port,
        ring: &mut Queue,
        means: Means<'_>,
    ) -> Result<Completed, DeviceError> {
        if ring.next_avail() != self.next {
            // Another ring: what was taken from the one before is the guest's again.
            self.chains.clear();
        }
        let completed = self.serve(port, ring, means);
        self.next = ring.next_avail();
        completed
    }

    fn serve(
        &mut self,
        port: &Port,
        ring: &mut Queue,
        means: Means<'_>,
    ) -> Result<Completed, DeviceError> {
        let mut completed = Completed::default();
        for _ in 0..ring.size() {
            let taken = self.take(port, ring, means)?;
            let used = self.deliver(port, ring, means)?;
            completed.used += used;
            if !self.wants(port) {
                // Until the next packet nobody needs to hear of more room.
                ring.disable_notification(means.access.memory())?;
                return Ok(completed);
            }
            if taken + used == 0 {
                return Ok(completed);
            }
        }
        completed.more = true;
        Ok(completed)
    }

    /// Takes chains that the guest offers, if a packet waits; answers how many.
    fn take(
        &mut self,
        port: &Port,
        ring: &mut Queue,
        means: Means<'_>,
    ) -> Result<u32, DeviceError> {
        let now = Instant::now();
        let before = self.chains.len();
        let left = Cell::new(MOST_CHAINS.saturating_sub(before));
        let waits = self.wants(port);
        let (chains, kept) = (&mut self.chains, &mut self.books.kept);
        let wanted = || waits && left.get() > 0;
        queue::visit(ring, means.access.memory(), wanted, |_, chain| {
            kept.offered(&chain.writable, now);
            chains.push_back(chain);
            left.set(left.get() - 1);
            Ok(0)
        })?;
        Ok(u32::try_from(self.chains.len() - before).unwrap_or(0))
    }

    /// Whether a packet waits for chains.
    fn wants(&self, port: &Port) -> bool {
        !self.packets.is_empty() || port.has_packet_in(self.lane)
    }

    /// The next packet, with all done that the guest can't do.
    fn next_packet(&mut self, port: &Port, abilities: header::Abilities) -> Option<Arc<Packet>> {
        if let Some(packet) = self.packets.pop_front() {
            return Some(packet);
        }
        let packet = port.receive_in(self.lane)?;
        let offload = packet.offload();
        let whole = offload
            .segments
            .is_none_or(|segments| abilities.takes(segments));
        if !whole && let Some(parts) = packet.segmented() {
            self.packets.extend(parts.into_iter().map(Arc::new));
            return self.packets.pop_front();
        }
        if abilities.checksums() {
            return Some(packet);
        }
        Some(packet.with_checksum().map_or(packet, Arc::new))
    }

    /// Places packets into the chains that are here, as many as fit; answers how many chains went
    /// back to the guest.
    fn deliver(
        &mut self,
        port: &Port,
        ring: &mut Queue,
        means: Means<'_>,
    ) -> Result<u32, DeviceError> {
        let mut used = 0;
        while let Some(packet) = self.next_packet(port, means.abilities) {
            let needed = (header::HEADER + packet.bytes()) as u64;
            self.prefer(&packet, needed, means);
            match self.chains_for(needed, means.mergeable) {
                Some(0) => {
                    self.packets.push_front(packet);
                    break;
                }
                Some(chains) => {
                    let chains: Vec<_> = self.chains.drain(..chains).collect();
                    place(&packet, &chains, ring, means, &mut self.books)?;
                    used += u32::try_from(chains.len()).unwrap_or(0);
                    self.judge(port, means.transfer);
                }
                None if self.chains.len() >= usize::from(ring.size() / 4) || !means.mergeable => {
                    // It would hardly ever fit: the next may.
                    count(&means.counters.unfit, 1);
                }
                None => {
                    self.packets.push_front(packet);
                    break;
                }
            }
        }
        Ok(used)
    }

    /// Decides anew what is mapped, and tells senders.
    fn judge(&mut self, port: &Port, transfer: Transfer) {
        if transfer == Transfer::Cost {
            let Books {
                kept,
                judge,
                least_run,
            } = &mut self.books;
            let least = judge.least_run(kept.share());
            if *least_run != least {
                *least_run = least;
                port.set_least_run(least);
            }
        }
    }

    /// Puts the chain to the front whose room lies over the packet's frames already, if there is one
    /// that holds all of the packet: buffers may be used in any order (virtio 1.2, clause 2.7.9).
    fn prefer(&mut self, packet: &Packet, needed: u64, means: Means<'_>) {
        let Some((offset, frames)) = packet.first_frames().filter(|_| self.chains.len() > 1) else {
            return;
        };
        let offset = (header::HEADER + offset) as u64;
        let places = (self.chains.iter()).map(|chain| place_at(chain, offset, needed));
        if let Some(index) = means.access.find_overlay(places, frames) {
            self.chains.swap(0, index);
        }
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

/// The page on which byte `offset` of a packet of `needed` bytes would lie, if it begins there.
fn place_at(chain: &Chain, offset: u64, needed: u64) -> Option<Ppn> {
    let mut before = 0;
    let mut buffers = chain.writable.iter();
    let buffer = buffers.find(|buffer| {
        let inside = offset < before + u64::from(buffer.len);
        before += if inside { 0 } else { u64::from(buffer.len) };
        inside
    })?;
    let address = buffer.address + (offset - before);
    let begins = address.is_multiple_of(PAGE_BYTES) && chain.writable.bytes() >= needed;
    let page = u32::try_from(address / PAGE_BYTES).ok();
    page.filter(|_| begins).map(Ppn)
}
