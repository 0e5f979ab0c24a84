//! A switch: ports, and the way of a packet between them.

use crate::addresses::Addresses;
use crate::inbox::Bounds;
use crate::limits::Line;
use crate::port::{Station, count};
use crate::{Capture, Mac, Packet, Port, PortConfig};
use parking_lot::{Mutex, RwLock};
use std::sync::{Arc, OnceLock, Weak};

/// Most ports that a network can have.
pub const MOST_PORTS: usize = 4096;

/// What a network shall be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Most ports, at most [`MOST_PORTS`].
    pub ports: usize,
    /// What may wait from each port for each other.
    pub bounds: Bounds,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            ports: MOST_PORTS,
            bounds: Bounds::default(),
        }
    }
}

/// Why a port can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The address is a group's, or nobody's.
    #[error("{0} can't be a station's address")]
    NoStation(Mac),
    /// Another port of the network has the address.
    #[error("another port of network {network} has the address {mac}")]
    Taken {
        /// The address.
        mac: Mac,
        /// The network.
        network: String,
    },
    /// All ports are taken.
    #[error("network {network} has no more than {ports} ports")]
    NoPort {
        /// The network.
        network: String,
        /// Its ports.
        ports: usize,
    },
    /// There is no thread for what is sent late.
    #[error("no thread for packets that are sent late: {0}")]
    NoThread(String),
}

/// One isolated network: what is sent here arrives here or nowhere.
///
/// # How packets pass without a lock that all share
/// A sender's thread carries its packet all the way to the receivers' queues:
///
/// 1. The address table is words that are read one at a time; no lock (`addresses`).
/// 2. The receiver's slot is locked shared, for as long as it takes to clone an `Arc`. It is locked
///    exclusively only when a port comes to that slot or leaves it.
/// 3. The receiver's queue is locked for one push; the receiver locks it for one pop.
///
/// So two packets meet at a lock only if they have a receiver in common. A port that leaves takes
/// its address out first, then its slot; a packet that found it before goes to a queue that nobody
/// reads any more and ends with it. A slot is given away again only after that, under the lock that
/// comings and goings share, and an entry of the address table never survives its port.
///
/// Packets of one sender for one receiver arrive in their order.
#[derive(Debug)]
pub struct Network {
    name: String,
    bounds: Bounds,
    slots: Box<[RwLock<Option<Arc<Station>>>]>,
    addresses: Addresses,
    /// Held while a port comes or leaves; counts those that came.
    changes: Mutex<u64>,
    capture: OnceLock<Arc<Capture>>,
    /// What is sent late; there since the first port with limits.
    line: OnceLock<Arc<Line>>,
}

impl Network {
    /// A network without ports.
    #[must_use]
    pub fn new(name: &str, config: &NetworkConfig) -> Arc<Self> {
        let ports = config.ports.clamp(1, MOST_PORTS);
        Arc::new(Self {
            name: name.into(),
            bounds: config.bounds,
            slots: (0..ports).map(|_| RwLock::new(None)).collect(),
            addresses: Addresses::new(ports),
            changes: Mutex::new(0),
            capture: OnceLock::new(),
            line: OnceLock::new(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Captures every packet that is sent here from now on, once; a network has one capture in its
    /// life.
    pub fn set_capture(&self, capture: Arc<Capture>) {
        let _ = self.capture.set(capture);
    }

    /// A new port. `wake` is called by a sender's thread when a packet comes to an empty queue; it
    /// must not wait, nor use the port.
    ///
    /// # Errors
    /// The address is impossible or taken, or the network is full.
    pub fn attach(
        self: &Arc<Self>,
        config: PortConfig,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Port, AttachError> {
        self.attach_lanes(config, 1, move |_| wake())
    }

    /// [`attach`](Self::attach) for a receiver that takes packets in up to so many lanes; `wake` is
    /// told in which.
    ///
    /// # Errors
    /// As for one lane.
    pub fn attach_lanes(
        self: &Arc<Self>,
        config: PortConfig,
        lanes: usize,
        wake: impl Fn(usize) + Send + Sync + 'static,
    ) -> Result<Port, AttachError> {
        let mac = config.mac;
        if !mac.is_station() {
            return Err(AttachError::NoStation(mac));
        }
        let network = || self.name.clone();
        let mut came = self.changes.lock();
        if self.addresses.find_given(mac).is_some() {
            return Err(AttachError::Taken {
                mac,
                network: network(),
            });
        }
        let free = self.slots.iter().position(|slot| slot.read().is_none());
        let number = free.and_then(|free| u16::try_from(free).ok());
        let (Some(free), Some(number)) = (free, number) else {
            return Err(AttachError::NoPort {
                network: network(),
                ports: self.slots.len(),
            });
        };
        if config.limits.is_some() {
            self.begin_late()?;
        }
        *came += 1;
        let station = Arc::new(Station::new(
            (number, *came),
            config,
            (lanes, Box::new(wake)),
        ));
        *self.slots[free].write() = Some(Arc::clone(&station));
        self.addresses.give(mac, number);
        Ok(Port::new(Arc::clone(self), station))
    }

    /// The shortest run of pages that the station with this address would rather have as frames than
    /// as bytes, `u32::MAX` if none or if nobody is known by it. For groups it is 1: a frame is made
    /// once for all of them.
    #[must_use]
    pub fn least_run(&self, to: Mac) -> u32 {
        if to.is_multicast() {
            return 1;
        }
        let slot = self.addresses.find(to);
        let slot = slot.and_then(|number| self.slots.get(usize::from(number)));
        slot.map_or(u32::MAX, |slot| {
            let station = slot.read();
            let least = station.as_ref().map(|station| &station.least_run);
            least.map_or(u32::MAX, |least| {
                least.load(std::sync::atomic::Ordering::Relaxed)
            })
        })
    }

    /// Starts the thread that delivers what is sent late, unless it is there.
    fn begin_late(self: &Arc<Self>) -> Result<(), AttachError> {
        if self.line.get().is_some() {
            return Ok(());
        }
        let line = Arc::new(Line::default());
        let (late, network) = (Arc::clone(&line), Arc::downgrade(self));
        std::thread::Builder::new()
            .name(format!("late {}", self.name))
            .spawn(move || Self::deliver_late(&late, &network))
            .map_err(|error| AttachError::NoThread(error.to_string()))?;
        // Comings are held apart by the caller: nobody was faster.
        let _ = self.line.set(line);
        Ok(())
    }

    pub(crate) fn detach(&self, station: &Station) {
        station
            .up
            .store(false, std::sync::atomic::Ordering::Relaxed);
        let _change = self.changes.lock();
        self.addresses.forget(station.number);
        if let Some(slot) = self.slots.get(usize::from(station.number)) {
            *slot.write() = None;
        }
    }

    /// Carries a packet from a port to those that it is for, now or when the port's limits say.
    pub(crate) fn forward(&self, from: &Arc<Station>, packet: Packet) {
        use std::sync::atomic::Ordering::Relaxed;
        let counters = &from.counters;
        if !from.up.load(Relaxed) {
            return count(&counters.down, 1);
        }
        let source = packet.source();
        if source != from.config.mac {
            if !from.config.learns || !source.is_station() {
                return count(&counters.forged, 1);
            }
            self.addresses.learn(source, from.number);
        }
        let bytes = packet.bytes();
        let late = self.line.get().filter(|_| from.config.limits.is_some());
        if late.is_some() && from.late.load(Relaxed) + bytes > self.bounds.bytes {
            return count(&counters.limited, 1);
        }
        count(&counters.sent, 1);
        count(&counters.sent_bytes, bytes);
        for capture in [&self.capture, &from.capture] {
            if let Some(capture) = capture.get() {
                capture.packet(&packet);
            }
        }
        let packet = Arc::new(packet);
        match late.and_then(|line| Some((line, from.due(bytes)?))) {
            Some((line, due)) => {
                from.late.fetch_add(bytes, Relaxed);
                line.push(due, Arc::clone(from), packet);
            }
            None => self.spread(from, &packet),
        }
    }

    /// Delivers what is due, until the network ends.
    fn deliver_late(line: &Line, network: &Weak<Self>) {
        use std::sync::atomic::Ordering::Relaxed;
        while let Some((from, packet)) = line.next() {
            let Some(network) = network.upgrade() else {
                return;
            };
            from.late.fetch_sub(packet.bytes(), Relaxed);
            if from.up.load(Relaxed) {
                network.spread(&from, &packet);
            } else {
                count(&from.counters.down, 1);
            }
        }
    }

    /// Puts a packet before those that it is for.
    fn spread(&self, from: &Station, packet: &Arc<Packet>) {
        let to = packet.destination();
        let known = (!to.is_multicast()).then(|| self.addresses.find(to));
        let mut reached = false;
        match known {
            Some(Some(number)) => reached = self.hand(from, number, packet, |_| true),
            // Behind a port that does not learn there is nobody but its own station.
            Some(None) => {
                for number in self.numbers() {
                    reached |= self.hand(from, number, packet, |to| to.config.learns);
                }
            }
            None => {
                for number in self.numbers() {
                    reached |= self.hand(from, number, packet, |_| true);
                }
            }
        }
        if !reached {
            count(&from.counters.nobody, 1);
        }
    }

    /// Puts the packet before one port, if there is one and it is `wanted`; never before its sender.
    fn hand(
        &self,
        from: &Station,
        number: u16,
        packet: &Arc<Packet>,
        wanted: impl Fn(&Station) -> bool,
    ) -> bool {
        if number == from.number {
            return false;
        }
        let slot = self.slots.get(usize::from(number));
        let station = slot.and_then(|slot| slot.read().clone());
        let Some(station) = station.filter(|station| wanted(station)) else {
            return false;
        };
        station.deliver(from, packet, self.bounds);
        true
    }

    fn numbers(&self) -> impl Iterator<Item = u16> {
        (0..=u16::MAX).take(self.slots.len())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(line) = self.line.get() {
            line.end();
        }
    }
}
