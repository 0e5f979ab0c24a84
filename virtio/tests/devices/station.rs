//! A guest's side of the virtual network: it posts buffers, sends, and is woken.

use crate::driver::*;
use mirrorball_pmap::{PageState, Ppn};
use mirrorball_virtio::{Device, NetConfig, NetDevice, NetStats, Transfer};
use mirrorball_vnet::{Mac, Network, NetworkConfig, PortConfig};
use std::sync::Arc;

pub const RX: u64 = 0;
pub const TX: u64 = 1;
pub const HEADER: u32 = 12;
/// Queue areas of queue 1.
pub const SECOND: u64 = 0x4000;
pub const CSUM: u64 = 1;
pub const GUEST_CSUM: u64 = 1 << 1;
pub const MERGEABLE: u64 = 1 << 15;
/// Where virtio-net headers of sent packets are.
pub const NET_HEADER: u64 = 0xf000;

/// A guest with a network device that it drives itself.
pub struct Station {
    pub guest: Guest,
    pub device: Arc<NetDevice>,
    pub mac: Mac,
    pub features: u64,
}

pub fn network() -> Arc<Network> {
    Network::new("net", &NetworkConfig::default())
}

impl Station {
    pub fn new(
        machine: &Machine,
        network: &Arc<Network>,
        vm: u32,
        features: u64,
        transfer: Transfer,
    ) -> Self {
        let mac = Mac::numbered(vm);
        let config = NetConfig {
            port: PortConfig::station(mac),
            mtu: 9000,
            transfer,
            pairs: 1,
        };
        let device = Arc::new(NetDevice::new(network, config).unwrap());
        let guest = Guest::new(&machine.pmap, vm, Arc::clone(&device) as Arc<dyn Device>);
        guest.space.expect_lending();
        guest.start(MODERN | features, 16);
        Self {
            guest,
            device,
            mac,
            features,
        }
    }

    pub fn stats(&self) -> NetStats {
        self.device.stats()
    }

    pub fn describe(&self, queue: u64, first: u16, descriptors: &[Desc]) {
        for (index, descriptor) in (u64::from(first)..).zip(descriptors) {
            self.guest
                .write(TABLE + SECOND * queue + 16 * index, &descriptor.bytes());
        }
    }

    pub fn chain(&self, queue: u64, first: u16, buffers: &[(u64, u32)], flags: u16) {
        let last = buffers.len() - 1;
        let descriptors: Vec<_> = (first..)
            .zip(buffers.iter().enumerate())
            .map(|(at, (index, &(address, len)))| {
                let more = if index < last { NEXT } else { 0 };
                Desc(address, len, flags | more, at + 1)
            })
            .collect();
        self.describe(queue, first, &descriptors);
        self.guest.offer_in(queue, first);
    }

    /// Gives the device a chain of receive buffers, and a chance to fill it.
    pub fn post(&self, first: u16, buffers: &[(u64, u32)]) {
        self.chain(RX, first, buffers, WRITE);
        self.guest.transport.process(0).unwrap();
    }

    /// Sends what lies in these buffers, after an empty virtio-net header.
    pub fn send(&self, buffers: &[(u64, u32)]) {
        self.guest.write(NET_HEADER, &[0; 12]);
        let mut all = vec![(NET_HEADER, HEADER)];
        all.extend(buffers);
        self.chain(TX, 0, &all, 0);
        self.guest.transport.process(1).unwrap();
    }

    /// What a worker does when the receive doorbell fired.
    pub fn wake(&self) {
        assert!(
            self.guest.transport.doorbells()[0].read().is_ok(),
            "nobody rang"
        );
        self.guest.transport.process(0).unwrap();
    }

    /// An Ethernet header to another station.
    pub fn ethernet(&self, to: Mac) -> Vec<u8> {
        [&to.0[..], &self.mac.0, &[0x88, 0xb5]].concat()
    }

    pub fn state(&self, address: u64) -> PageState {
        self.guest.space.settle();
        self.guest
            .space
            .state(Ppn(u32::try_from(address / PAGE).unwrap()))
    }
}

/// Two stations on a network of their own.
pub fn pair(features: u64, transfer: Transfer) -> (Machine, Station, Station) {
    let (machine, network) = (Machine::new(), network());
    let one = Station::new(&machine, &network, 1, features, transfer);
    let other = Station::new(&machine, &network, 2, features, transfer);
    (machine, one, other)
}
