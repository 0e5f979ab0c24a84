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
mod place;
mod policy;
mod receive;
mod send;
mod stats;

pub use policy::{Transfer, UnknownTransfer};
pub use stats::NetStats;

use crate::device::{self, Completed, Device, DeviceError};
use crate::queue;
use crate::transport::Notifier;
use mirrorball_pmap::{Access, AddressSpace};
use mirrorball_vnet::{AttachError, Network, Port, PortConfig};
use own::Own;
use parking_lot::Mutex;
use receive::{Means, Receiving};
use stats::{Counters, count};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
};
use virtio_queue::Queue;

/// receiveq1 and transmitq1 (clause 5.1.2).
const QUEUE_SIZES: [u16; 2] = [256, 256];
/// Index of receiveq1.
const RECEIVE: usize = 0;
/// Index of transmitq1.
const TRANSMIT: usize = 1;

/// What is offered to the driver.
const FEATURES: u64 = 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_GUEST_CSUM
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
}

/// One guest's network device.
#[derive(Debug)]
pub struct NetDevice {
    port: Port,
    config: NetConfig,
    features: AtomicU64,
    receiving: Mutex<Receiving>,
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
        let port = network.attach(config.port, move || {
            if let Some(notifier) = woken.get() {
                notifier.ring(RECEIVE);
            }
        })?;
        port.set_least_run(config.transfer.least_run());
        Ok(Self {
            port,
            config,
            features: AtomicU64::new(0),
            receiving: Mutex::new(Receiving::new(config.transfer)),
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

    fn receive(&self, ring: &mut Queue, access: &Access<'_>) -> Result<Completed, DeviceError> {
        let means = Means {
            access,
            transfer: self.config.transfer,
            counters: &self.counters,
            mergeable: self.has(VIRTIO_NET_F_MRG_RXBUF),
            checksums: self.has(VIRTIO_NET_F_GUEST_CSUM),
        };
        self.receiving.lock().round(&self.port, ring, means)
    }
}

impl Device for NetDevice {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    /// `struct virtio_net_config`, as far as the features go: address, status, one pair of queues, MTU.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let status = if self.port.link() {
            VIRTIO_NET_S_LINK_UP
        } else {
            0
        };
        let status = u16::try_from(status).unwrap_or(0);
        let mut config = Vec::from(self.port.mac().0);
        for word in [status, 1, self.config.mtu] {
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
        if queue == TRANSMIT {
            return queue::drain(ring, access.memory(), |chain| self.transmit(chain, access));
        }
        self.receive(ring, access)
    }

    fn finish(&self, queue: usize, space: &AddressSpace) {
        if queue != TRANSMIT {
            return;
        }
        let shared = own::share(&self.own, space);
        count(&self.counters.shared, shared);
    }

    fn reset(&self) {
        self.features.store(0, Ordering::Release);
        *self.own.lock() = Own::default();
        *self.receiving.lock() = Receiving::new(self.config.transfer);
        self.port.set_least_run(self.config.transfer.least_run());
        self.port.clear();
    }
}
