//! A place on a network: where a guest's device sends and receives.

use crate::inbox::{Bounds, Inbox};
use crate::limits::{Limits, Shaper};
use crate::network::Network;
use crate::{Capture, Mac, Packet};
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// What a port shall be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// The address of its station.
    pub mac: Mac,
    /// Whether it may send with other addresses than its own, which are learnt then: a bridge, an
    /// uplink. From all others such packets are dropped: no guest can pass for another.
    pub learns: bool,
    /// How fast and how late what it sends gets onto the network; `None`: at once.
    pub limits: Option<Limits>,
}

impl PortConfig {
    /// A port of one station, without limits.
    #[must_use]
    pub const fn station(mac: Mac) -> Self {
        Self {
            mac,
            learns: false,
            limits: None,
        }
    }
}

/// What went through a port so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounts {
    /// Packets that it sent and the network took.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Packets that came to it and were taken.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Packets for it that found its queue for their sender full.
    pub full: u64,
    /// Packets from it with a source address that is not its own, or that no station can have.
    pub forged: u64,
    /// Packets from it for which there was nobody.
    pub nobody: u64,
    /// Packets from or for it while its link was down.
    pub down: u64,
    /// Packets from it for which its own limits left no room.
    pub limited: u64,
}

impl PortCounts {
    /// Packets that were lost here, each counted at one port only.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.full + self.forged + self.nobody + self.down + self.limited
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    received: AtomicU64,
    received_bytes: AtomicU64,
    full: AtomicU64,
    pub(crate) forged: AtomicU64,
    pub(crate) nobody: AtomicU64,
    pub(crate) down: AtomicU64,
    pub(crate) limited: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

/// What the network knows of a port.
pub(crate) struct Station {
    /// Its place in the network, which others may have had before.
    pub(crate) number: u16,
    /// Its own alone.
    pub(crate) id: u64,
    pub(crate) config: PortConfig,
    pub(crate) up: AtomicBool,
    /// The shortest run of pages that it would rather have as frames than as bytes.
    pub(crate) least_run: AtomicU32,
    pub(crate) counters: Counters,
    pub(crate) capture: OnceLock<Arc<Capture>>,
    /// When what it sends is due, with its first moment; `None` without limits.
    shaper: Option<(Instant, Mutex<Shaper>)>,
    /// Bytes that it has sent and that are not due.
    pub(crate) late: AtomicUsize,
    /// What waits for it.
    inbox: Mutex<Inbox>,
    /// Most lanes that it may have.
    lanes: usize,
    wake: Wake,
}

/// Called with the lane to which a packet came.
pub(crate) type Wake = Box<dyn Fn(usize) + Send + Sync>;

impl Station {
    pub(crate) fn new(
        (number, id): (u16, u64),
        config: PortConfig,
        (lanes, wake): (usize, Wake),
    ) -> Self {
        Self {
            number,
            id,
            config,
            up: AtomicBool::new(true),
            least_run: AtomicU32::new(u32::MAX),
            counters: Counters::default(),
            capture: OnceLock::new(),
            shaper: (config.limits).map(|limits| (Instant::now(), Mutex::new(Shaper::new(limits)))),
            late: AtomicUsize::new(0),
            inbox: Mutex::new(Inbox::new(lanes)),
            lanes,
            wake,
        }
    }

    /// When a packet that it sends now is due; `None`: at once.
    pub(crate) fn due(&self, bytes: usize) -> Option<Instant> {
        let (began, shaper) = self.shaper.as_ref()?;
        let due = shaper.lock().due(began.elapsed(), bytes);
        began.checked_add(due)
    }

    /// Puts a packet of another port before this one.
    pub(crate) fn deliver(&self, from: &Self, packet: &Arc<Packet>, bounds: Bounds) {
        if !self.up.load(Ordering::Relaxed) {
            return count(&self.counters.down, 1);
        }
        // Which lane it is for is asked of those alone that can have several.
        let flow = if self.lanes > 1 { packet.flow() } else { 0 };
        let mut inbox = self.inbox.lock();
        let pushed = inbox.push((from.id, flow), Arc::clone(packet), bounds);
        drop(inbox);
        match pushed {
            Ok(Some(lane)) => (self.wake)(lane),
            Ok(None) => {}
            Err(_) => count(&self.counters.full, 1),
        }
    }
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Station")
            .field("number", &self.number)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A port; it leaves its network when dropped, and what waits for it is lost.
#[derive(Debug)]
pub struct Port {
    network: Arc<Network>,
    station: Arc<Station>,
}

impl Port {
    pub(crate) fn new(network: Arc<Network>, station: Arc<Station>) -> Self {
        Self { network, station }
    }

    /// The address it was given.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.station.config.mac
    }

    /// Its network.
    #[must_use]
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Sends a packet to whom it is for. Never waits: what finds no room is dropped and counted.
    pub fn send(&self, packet: Packet) {
        self.network.forward(&self.station, packet);
    }

    /// Takes the next packet that waits here, in the first lane. When there is none, the next to come
    /// calls the port's closure.
    #[must_use]
    pub fn receive(&self) -> Option<Arc<Packet>> {
        self.receive_in(0)
    }

    /// [`receive`](Self::receive) in any lane.
    #[must_use]
    pub fn receive_in(&self, lane: usize) -> Option<Arc<Packet>> {
        let packet = self.station.inbox.lock().pop(lane)?;
        count(&self.station.counters.received, 1);
        count(&self.station.counters.received_bytes, packet.bytes());
        if let Some(capture) = self.station.capture.get() {
            capture.packet(&packet);
        }
        Some(packet)
    }

    /// Whether a packet waits in a lane.
    #[must_use]
    pub fn has_packet_in(&self, lane: usize) -> bool {
        !self.station.inbox.lock().is_empty(lane)
    }

    /// Forgets what waits here, for there is nobody for it any more; one lane is in use again.
    pub fn clear(&self) {
        let mut inbox = self.station.inbox.lock();
        let waiting = std::mem::replace(&mut *inbox, Inbox::new(self.station.lanes));
        drop(inbox);
        drop(waiting);
    }

    /// From now on packets are spread over so many lanes, each connection's in one of them; what waits
    /// is spread anew. A port begins with one, and has no more than it was attached with.
    pub fn set_lanes(&self, lanes: usize) {
        let waiting = self.station.inbox.lock().set_lanes(lanes);
        for lane in waiting {
            (self.station.wake)(lane);
        }
    }

    /// Plugs the cable in or out: while it is out, nothing is sent from here and nothing comes.
    pub fn set_link(&self, up: bool) {
        self.station.up.store(up, Ordering::Relaxed);
    }

    /// Says of which length on runs of pages are better sent here as frames than as bytes:
    /// `u32::MAX`, as at first, for none. Senders may take note ([`Network::least_run`]).
    pub fn set_least_run(&self, pages: u32) {
        self.station.least_run.store(pages, Ordering::Relaxed);
    }

    /// Whether the cable is in.
    #[must_use]
    pub fn link(&self) -> bool {
        self.station.up.load(Ordering::Relaxed)
    }

    /// Captures what this port sends and takes from now on; a port has one capture in its life.
    pub fn set_capture(&self, capture: Arc<Capture>) {
        let _ = self.station.capture.set(capture);
    }

    /// What went through it so far.
    #[must_use]
    pub fn counts(&self) -> PortCounts {
        let Counters {
            sent,
            sent_bytes,
            received,
            received_bytes,
            full,
            forged,
            nobody,
            down,
            limited,
        } = &self.station.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PortCounts {
            sent: read(sent),
            sent_bytes: read(sent_bytes),
            received: read(received),
            received_bytes: read(received_bytes),
            full: read(full),
            forged: read(forged),
            nobody: read(nobody),
            down: read(down),
            limited: read(limited),
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.network.detach(&self.station);
        self.clear();
    }
}
