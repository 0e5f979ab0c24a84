//! IP on the network device: `smoltcp` over the driver of `virtio-drivers`, for guests that talk with
//! systems which know no protocol of ours.
//!
//! Pings are answered by the way. A packet is one stretch of memory here, copied in and out; pages are
//! moved by [`crate::net`], which is another driver of the same device. One at a time can be used.

use crate::hal::{SplashHal, transport};
use crate::{port, sched, shared};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use virtio_drivers::device::net::VirtIONet;
use virtio_drivers::transport::mmio::MmioTransport;

/// virtio device id of a network device (virtio 1.2, clause 5.1.1).
const NETWORK_DEVICE: u32 = 1;
const QUEUE_SIZE: usize = 32;
/// Room for a packet and the device's header.
const ROOM: usize = 2048;
/// Longest Ethernet frame without its check sequence: Ethernet's usual 1500 bytes and a header.
const LONGEST: usize = 1514;
/// The network that all guests are in, by the last two bytes of their Ethernet addresses.
const NETWORK: [u8; 2] = [10, 77];
const PREFIX: u8 = 16;

type Driver = VirtIONet<SplashHal, MmioTransport<'static>, QUEUE_SIZE>;

/// The address of the guest with this number, or with these last bytes of its Ethernet address.
pub fn address([high, low]: [u8; 2]) -> IpAddress {
    IpAddress::v4(NETWORK[0], NETWORK[1], high, low)
}

/// A network device with an address.
pub struct Stack {
    card: Card,
    interface: Interface,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("addresses", &self.interface.ip_addrs())
            .finish_non_exhaustive()
    }
}

impl Stack {
    /// Brings the first network device up. First numbers of connections follow from the seed.
    ///
    /// # Errors
    /// There is none, or its driver does not come up.
    pub fn open(seed: u64) -> Result<Self, String> {
        let transport = transport(NETWORK_DEVICE, 0).ok_or("the guest has no network device")?;
        let driver = Driver::new(transport, ROOM);
        let driver = driver.map_err(|error| format!("the network device: {error}"))?;
        let mac = driver.mac_address();
        let mut card = Card(driver);
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut card, now());
        let own = IpCidr::new(address([mac[4], mac[5]]), PREFIX);
        let mut room = true;
        interface.update_ip_addrs(|addresses| room = addresses.push(own).is_ok());
        if !room {
            return Err("no room for an address".into());
        }
        Ok(Self { card, interface })
    }

    /// Takes what has come and sends what waits.
    pub fn poll(&mut self, sockets: &mut SocketSet<'_>) {
        self.interface.poll(now(), &mut self.card, sockets);
    }

    /// Blocks until something came, or the sockets have something to do, at most for `most_ms`.
    pub fn wait(&mut self, sockets: &SocketSet<'_>, most_ms: u64) {
        let delay = self.interface.poll_delay(now(), sockets);
        let millis = delay.map_or(most_ms, |delay| delay.total_millis().min(most_ms));
        let until = port::ticks() + millis * shared::ticks_per_ms();
        let came = || self.card.0.can_recv() || shared::stop_requested();
        sched::block_until_or(until, came);
    }

    /// What sockets need of it to connect.
    pub fn interface(&mut self) -> &mut Interface {
        &mut self.interface
    }
}

fn now() -> Instant {
    let millis = port::ticks() / shared::ticks_per_ms().max(1);
    Instant::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// The driver as `smoltcp` wants one.
struct Card(Driver);

impl Device for Card {
    type RxToken<'a> = Came;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Came, Room<'_>)> {
        let buffer = self.0.receive().ok()?;
        let packet = buffer.packet().to_vec();
        // It was the device's a moment ago: the queue has a place for it.
        self.0.recycle_rx_buffer(buffer).ok()?;
        Some((Came(packet), Room(&mut self.0)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_>> {
        self.0.can_send().then_some(Room(&mut self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = LONGEST;
        capabilities
    }
}

/// A packet that has come.
struct Came(Vec<u8>);

impl RxToken for Came {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

/// A place for a packet to be sent.
struct Room<'a>(&'a mut Driver);

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, fill: F) -> R {
        let mut buffer = self.0.new_tx_buffer(bytes);
        let result = fill(buffer.packet_mut());
        // What can't be sent is lost, as packets may be.
        let _ = self.0.send(buffer);
        result
    }
}
