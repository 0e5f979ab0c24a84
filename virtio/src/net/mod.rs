//! virtio-net (virtio 1.2, clause 5.1): a guest's place on a virtual network.
//!
//! Disco's network interface (SOSP'97, section 4.3): what a guest sends by whole pages is not copied
//! but handed on as frames, and mapped where it meets whole pages of the receiver's. A guest gets
//! that by buffers in which the payload begins at a page: a descriptor for the headers, as long as
//! they are, then page-aligned ones. Nothing is skipped or moved for it: a packet is a stream of
//! bytes, and pages are mapped wherever a page of it falls on a page of the guest's.
//!
//! The sender's chain goes back to it as soon as the packet is made: its buffers are its own again
//! whatever becomes of the packet. Its private pages may name the frames too, when the round is over
//! ([`Device::finish`]), if they are still equal.

mod header;
mod judge;
mod kept;
mod own;
mod pairs;
mod place;
mod policy;
mod receive;
mod send;
mod stats;

pub use pairs::MOST_PAIRS;
pub use policy::{Transfer, UnknownTransfer};
pub use stats::NetStats;

use crate::device::{self, Completed, Device, DeviceError};
use crate::queue;
use crate::transport::Notifier;
use mirrorball_pmap::{Access, AddressSpace};
use mirrorball_vnet::{AttachError, Network, Port, PortConfig};
use own::Own;
use pairs::Kind;
use parking_lot::Mutex;
use receive::{Means, Receiving};
use stats::{Counters, count};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_ECN,
    VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_USO4,
    VIRTIO_NET_F_GUEST_USO6, VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
};
use virtio_queue::Queue;

/// Size of each queue.
const QUEUE_SIZE: u16 = 256;

/// What is offered to the driver.
const FEATURES: u64 = 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_GUEST_CSUM
    | 1 << VIRTIO_NET_F_GUEST_TSO4
    | 1 << VIRTIO_NET_F_GUEST_TSO6
    | 1 << VIRTIO_NET_F_GUEST_ECN
    | 1 << VIRTIO_NET_F_GUEST_USO4
    | 1 << VIRTIO_NET_F_GUEST_USO6
    | 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_HOST_TSO6
    | 1 << VIRTIO_NET_F_HOST_ECN
    | 1 << VIRTIO_NET_F_HOST_USO
    | 1 << VIRTIO_NET_F_MTU
    | 1 << VIRTIO_NET_F_MAC
    | 1 << VIRTIO_NET_F_MRG_RXBUF
    | 1 << VIRTIO_NET_F_STATUS;

/// What a network device shall be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// Its port on the network.
    pub port: PortConfig,
    /// Longest payload of a packet that its guest is told to send. Guests that agree on more may.
    pub mtu: u16,
    /// How whole pages get from guest to guest.
    pub transfer: Transfer,
    /// Most pairs of queues that its driver may use, one for each vCPU at best; at most
    /// [`MOST_PAIRS`].
    pub pairs: u16,
}

/// One guest's network device.
#[derive(Debug)]
pub struct NetDevice {
    port: Port,
    config: NetConfig,
    features: AtomicU64,
    queue_sizes: Vec<u16>,
    /// By lane of the port.
    receiving: Vec<Mutex<Receiving>>,
    own: Mutex<Own>,
    counters: Counters,
    notifier: Arc<OnceLock<Notifier>>,
}

impl NetDevice {
    /// A device with a port of its own on `network`.
    ///
    /// # Errors
    /// The network has no such port to give.
    pub fn new(network: &Arc<Network>, config: NetConfig) -> Result<Self, AttachError> {
        let notifier = Arc::new(OnceLock::<Notifier>::new());
        let woken = Arc::clone(&notifier);
        let pairs = usize::from(config.pairs.clamp(1, MOST_PAIRS));
        let port = network.attach_lanes(config.port, pairs, move |lane| {
            if let Some(notifier) = woken.get() {
                notifier.ring(pairs::receives(lane));
            }
        })?;
        port.set_least_run(config.transfer.least_run());
        Ok(Self {
            port,
            config,
            features: AtomicU64::new(0),
            queue_sizes: vec![QUEUE_SIZE; pairs::queues(pairs)],
            receiving: (0..pairs)
                .map(|lane| Mutex::new(Receiving::new(lane, config.transfer)))
                .collect(),
            own: Mutex::default(),
            counters: Counters::default(),
            notifier,
        })
    }

    /// Its port: link, captures.
    #[must_use]
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// Plugs the cable in or out, and tells the guest.
    pub fn set_link(&self, up: bool) {
        self.port.set_link(up);
        if let Some(notifier) = self.notifier.get() {
            notifier.configuration_changed();
        }
    }

    /// What it counted so far.
    #[must_use]
    pub fn stats(&self) -> NetStats {
        self.counters.read(self.port.counts())
    }

    fn has(&self, feature: u32) -> bool {
        self.features.load(Ordering::Acquire) & (1 << feature) != 0
    }

    fn transmit(&self, chain: queue::Chain, access: &Access<'_>) -> Result<u32, DeviceError> {
        let means = send::Means {
            access,
            network: self.port.network(),
            transfer: self.config.transfer,
            counters: &self.counters,
        };
        let sent = send::packet(chain, means)?;
        if access.space().is_abandoned() {
            // A page may have read as zeros that is lost: what holds it is nobody's message.
            return Ok(0);
        }
        match sent {
            Some(sent) => {
                self.own.lock().sent(sent.equal, sent.stayed);
                self.port.send(sent.packet);
            }
            None => count(&self.counters.malformed, 1),
        }
        Ok(0)
    }

    fn kind(&self, queue: usize) -> Kind {
        let pairs = if self.has(VIRTIO_NET_F_MQ) {
            self.receiving.len()
        } else {
            1
        };
        let controlled = self.has(VIRTIO_NET_F_CTRL_VQ);
        pairs::kind(queue, controlled.then_some(pairs))
    }

    /// A command of the driver's (clause 5.1.6.5): how many pairs it uses.
    fn command(&self, chain: &queue::Chain, access: &Access<'_>) -> Result<u32, DeviceError> {
        let most = if self.has(VIRTIO_NET_F_MQ) {
            self.receiving.len()
        } else {
            0
        };
        let done = pairs::command(&chain.readable, access.memory(), most)?;
        if let Some(pairs) = done {
            self.use_pairs(pairs);
        }
        pairs::answer(&chain.writable, access.memory(), done.is_some())
    }

    /// Uses so many pairs from now on. What the others had in hand for want of room goes to the first.
    fn use_pairs(&self, pairs: usize) {
        self.port.set_lanes(pairs);
        let Some((first, others)) = self.receiving.split_first() else {
            return;
        };
        for closed in others.iter().skip(pairs.saturating_sub(1)) {
            let left = closed.lock().leave();
            if left.is_empty() {
                continue;
            }
            first.lock().take_over(left);
            if let Some(notifier) = self.notifier.get() {
                notifier.ring(pairs::receives(0));
            }
        }
    }

    fn receive(
        &self,
        lane: usize,
        ring: &mut Queue,
        access: &Access<'_>,
    ) -> Result<Completed, DeviceError> {
        let Some(receiving) = self.receiving.get(lane) else {
            return Ok(Completed::default());
        };
        let means = Means {
            access,
            transfer: self.config.transfer,
            counters: &self.counters,
            mergeable: self.has(VIRTIO_NET_F_MRG_RXBUF),
            abilities: header::Abilities(self.features.load(Ordering::Acquire)),
        };
        receiving.lock().round(&self.port, ring, means)
    }
}

impl Device for NetDevice {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn features(&self) -> u64 {
        match self.receiving.len() {
            1 => FEATURES,
            _ => FEATURES | 1 << VIRTIO_NET_F_MQ | 1 << VIRTIO_NET_F_CTRL_VQ,
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    /// `struct virtio_net_config`, as far as the features go: address, status, pairs of queues, MTU.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let status = if self.port.link() {
            VIRTIO_NET_S_LINK_UP
        } else {
            0
        };
        let status = u16::try_from(status).unwrap_or(0);
        let mut config = Vec::from(self.port.mac().0);
        let pairs = u16::try_from(self.receiving.len()).unwrap_or(1);
        for word in [status, pairs, self.config.mtu] {
            config.extend(word.to_le_bytes());
        }
        device::read_config(&config, offset, data);
    }

    fn attach(&self, notifier: Notifier) {
        // A second transport before one device would be the monitor's mistake; the first counts.
        let _ = self.notifier.set(notifier);
    }

    fn negotiated(&self, features: u64) {
        self.features.store(features, Ordering::Release);
    }

    fn process(
        &self,
        queue: usize,
        ring: &mut Queue,
        access: &Access<'_>,
    ) -> Result<Completed, DeviceError> {
        let memory = access.memory();
        match self.kind(queue) {
            Kind::Receive(lane) => self.receive(lane, ring, access),
            Kind::Transmit => queue::drain(ring, memory, |chain| self.transmit(chain, access)),
            Kind::Control => queue::drain(ring, memory, |chain| self.command(&chain, access)),
        }
    }

    fn finish(&self, queue: usize, space: &AddressSpace) {
        if self.kind(queue) != Kind::Transmit {
            return;
        }
        let shared = own::share(&self.own, space);
        count(&self.counters.shared, shared);
    }

    fn reset(&self) {
        self.features.store(0, Ordering::Release);
        *self.own.lock() = Own::default();
        for (lane, receiving) in self.receiving.iter().enumerate() {
            *receiving.lock() = Receiving::new(lane, self.config.transfer);
        }
        self.port.set_least_run(self.config.transfer.least_run());
        self.port.clear();
    }
}
