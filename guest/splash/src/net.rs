//! The network device: packets whose payload lies apart from their headers, in both directions.
//!
//! `virtio-drivers` sends and receives one stretch of memory at a time; here a packet is a header of
//! a fixed length and then stretches of memory wherever they are. Where those are whole pages on both
//! sides, a monitor which moves pages by mapping them (Disco, section 4.3) finds each page where a page
//! of the receiver's is. The queues are the crate's; what is put into them is ours.
//!
//! One thread uses a [`Net`]; nobody else knows its buffers.

use crate::hal::{SplashHal, transport};
use crate::memory::{self, Region};
use crate::pages::LANE;
use crate::sched;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use core::sync::atomic::{Ordering, fence};
use mirrorball_abi::layout::PAGE_SIZE;
use virtio_drivers::device::common::Feature;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceStatus, Transport};

/// virtio device id of a network device (virtio 1.2, clause 5.1.1).
const NETWORK_DEVICE: u32 = 1;
/// receiveq1 and transmitq1 (clause 5.1.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
const QUEUE_SIZE: usize = 64;

/// Bytes of `struct virtio_net_hdr` (clause 5.1.6).
const NET_HEADER: usize = 12;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes before the pages of a packet, as they lie in memory: the device's header, Ethernet's, ours.
const HEADER: usize = 64;
/// Bytes of a message: what a packet holds before its pages.
pub const MESSAGE: usize = HEADER - NET_HEADER - ETHERNET;
/// Most pages in a packet.
pub const MOST_PAGES: usize = LANE;
/// For local experiments (IEEE 802).
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// A station's address.
pub type Mac = [u8; 6];
/// Everybody's.
pub const EVERYBODY: Mac = [0xff; 6];

/// A packet that has arrived.
#[derive(Debug)]
pub struct Received {
    /// Who sent it.
    pub from: Mac,
    /// What it says.
    pub message: [u8; MESSAGE],
    /// Address of what was posted for it, where the rest of it is: the receiver's from now on.
    pub lane: usize,
    /// Bytes that came there.
    pub bytes: usize,
}

impl Received {
    /// Whole pages that came.
    pub fn pages(&self) -> usize {
        self.bytes / PAGE_SIZE
    }
}

/// Room that the device has for a packet: its header's place, and where the rest goes.
#[derive(Clone, Copy, Debug)]
struct Posted {
    slot: usize,
    address: usize,
    bytes: usize,
    /// Whether it is a lane of the buffer cache's.
    lane: bool,
}

/// A packet that the device has to send: its header's place, and its pages as runs.
#[derive(Debug)]
struct Sending {
    slot: usize,
    runs: Vec<(usize, usize)>,
}

/// A network device in use; the device forgets everything when this is dropped.
pub struct Net<T: Transport = MmioTransport<'static>> {
    transport: T,
    receive: VirtQueue<SplashHal, QUEUE_SIZE>,
    transmit: VirtQueue<SplashHal, QUEUE_SIZE>,
    mac: Mac,
    /// A header's place for each packet that is posted or under way.
    headers: Region,
    free: Vec<usize>,
    /// By token.
    posted: BTreeMap<u16, Posted>,
    sending: BTreeMap<u16, Sending>,
}

impl<T: Transport> fmt::Debug for Net<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("posted", &self.posted)
            .field("sending", &self.sending)
            .finish_non_exhaustive()
    }
}

/// Brings the first network device up.
///
/// # Errors
/// There is none, or its driver does not come up.
pub fn open() -> Result<Net, String> {
    let transport = transport(NETWORK_DEVICE, 0).ok_or("the guest has no network device")?;
    Net::new(transport)
}

impl<T: Transport> Net<T> {
    fn new(mut transport: T) -> Result<Self, String> {
        let wanted = Feature::VERSION_1 | Feature::RING_INDIRECT_DESC;
        let features = transport.begin_init(wanted);
        let indirect = features.contains(Feature::RING_INDIRECT_DESC);
        let failed = |error| format!("the network device: {error}");
        let mac = transport.read_config_space(0).map_err(failed)?;
        let receive = VirtQueue::new(&mut transport, RECEIVE, indirect, false).map_err(failed)?;
        let transmit = VirtQueue::new(&mut transport, TRANSMIT, indirect, false).map_err(failed)?;
        transport.finish_init();
        let places = 2 * QUEUE_SIZE;
        let headers = Region::new(places * HEADER / PAGE_SIZE).ok_or("no memory for headers")?;
        Ok(Self {
            transport,
            receive,
            transmit,
            mac,
            headers,
            free: (0..places).collect(),
            posted: BTreeMap::new(),
            sending: BTreeMap::new(),
        })
    }

    /// From now on the end of a sending ends no wait: for who hears of it from the other end anyway, and
    /// never fills the queue.
    pub fn ignore_sent(&mut self) {
        self.transmit.set_dev_notify(false);
    }

    /// Packets that the device has not sent yet.
    pub fn sending(&self) -> usize {
        self.sending.len()
    }

    fn header(&self, slot: usize) -> usize {
        self.headers.address() + slot * HEADER
    }

    /// Gives the device a lane for the next packet's pages; gives it back when the queue is full.
    ///
    /// # Safety
    /// The lane's pages belong to the caller, who leaves them alone until they come back.
    pub unsafe fn post(&mut self, lane: usize) -> Option<usize> {
        // SAFETY: granted by the caller.
        let posted = unsafe { self.post_room(lane, MOST_PAGES * PAGE_SIZE, true) };
        (!posted).then_some(lane)
    }

    /// Gives the device memory of any length and alignment for what follows the next packet's header;
    /// `false` when the queue is full.
    ///
    /// # Safety
    /// The memory belongs to the caller, who leaves it alone until it comes back, and keeps it for
    /// longer than this device.
    pub unsafe fn post_bytes(&mut self, address: usize, bytes: usize) -> bool {
        // SAFETY: granted by the caller.
        unsafe { self.post_room(address, bytes, false) }
    }

    unsafe fn post_room(&mut self, address: usize, bytes: usize, lane: bool) -> bool {
        let Some(slot) = self.free.pop() else {
            return false;
        };
        // SAFETY: the header's place is this packet's alone, the rest was granted.
        let added = unsafe {
            let header = bytes_mut(self.header(slot), HEADER);
            let rest = bytes_mut(address, bytes);
            self.receive.add(&[], &mut [header, rest])
        };
        let Ok(token) = added else {
            self.free.push(slot);
            return false;
        };
        let posted = Posted {
            slot,
            address,
            bytes,
            lane,
        };
        self.posted.insert(token, posted);
        if is_awaited(&self.receive) {
            self.transport.notify(RECEIVE);
        }
        true
    }

    /// Takes the next packet that has arrived; what is none of ours is left out, and its room posted
    /// again.
    pub fn take(&mut self) -> Option<Received> {
        loop {
            let token = self.receive.peek_used()?;
            let Posted {
                slot,
                address,
                bytes: room,
                lane,
            } = self.posted.remove(&token)?;
            // SAFETY: the same buffers as added.
            let written = unsafe {
                let header = bytes_mut(self.header(slot), HEADER);
                let rest = bytes_mut(address, room);
                self.receive.pop_used(token, &[], &mut [header, rest])
            };
            let written = written.map_or(0, |bytes| bytes as usize);
            let mut header = [0; HEADER];
            // SAFETY: the header is this thread's again.
            header.copy_from_slice(unsafe { bytes(self.header(slot), HEADER) });
            self.free.push(slot);
            let packet = &header[NET_HEADER..];
            let ours = written >= HEADER && packet[12..ETHERNET] == ETHERTYPE;
            let from = packet[6..12].try_into();
            let message = packet[ETHERNET..].try_into();
            if let (true, Ok(from), Ok(message)) = (ours, from, message) {
                return Some(Received {
                    from,
                    message,
                    lane: address,
                    bytes: written - HEADER,
                });
            }
            // SAFETY: the room came back above, and nobody has seen it.
            if !unsafe { self.post_room(address, room, lane) } && lane {
                memory::give(address, LANE);
            }
        }
    }

    /// Sends a message and pages; `false` when there is no room at the moment.
    ///
    /// # Safety
    /// The pages, given by their addresses, are mapped and stay what they are until the packet is
    /// sent ([`Self::sent`]).
    pub unsafe fn send(&mut self, to: Mac, message: &[u8; MESSAGE], pages: &[usize]) -> bool {
        // SAFETY: granted by the caller.
        unsafe { self.send_runs(to, message, runs(pages)) }
    }

    /// Sends a message and what lies in these stretches of memory (address and bytes); `false` when
    /// there is no room at the moment.
    ///
    /// # Safety
    /// As for [`Self::send`].
    pub unsafe fn send_runs(
        &mut self,
        to: Mac,
        message: &[u8; MESSAGE],
        runs: Vec<(usize, usize)>,
    ) -> bool {
        let Some(slot) = self.free.pop() else {
            return false;
        };
        let mut header = [0; HEADER];
        header[NET_HEADER..NET_HEADER + 6].copy_from_slice(&to);
        header[NET_HEADER + 6..NET_HEADER + 12].copy_from_slice(&self.mac);
        header[NET_HEADER + 12..NET_HEADER + ETHERNET].copy_from_slice(&ETHERTYPE);
        header[NET_HEADER + ETHERNET..].copy_from_slice(message);
        // SAFETY: the header's place is this packet's alone; the pages were granted.
        let added = unsafe {
            bytes_mut(self.header(slot), HEADER).copy_from_slice(&header);
            self.transmit.add(&self.buffers(slot, &runs), &mut [])
        };
        let Ok(token) = added else {
            self.free.push(slot);
            return false;
        };
        self.sending.insert(token, Sending { slot, runs });
        if is_awaited(&self.transmit) {
            self.transport.notify(TRANSMIT);
        }
        true
    }

    /// Takes note of what the device has sent: answers the address of a packet's first page, or 0
    /// for one without pages.
    pub fn sent(&mut self) -> Option<usize> {
        let token = self.transmit.peek_used()?;
        let Sending { slot, runs } = self.sending.remove(&token)?;
        // SAFETY: the same buffers as added.
        let _ = unsafe {
            let buffers = self.buffers(slot, &runs);
            self.transmit.pop_used(token, &buffers, &mut [])
        };
        self.free.push(slot);
        Some(runs.first().map_or(0, |(address, _)| *address))
    }

    /// The buffers of a packet to be sent.
    ///
    /// # Safety
    /// The runs are pages that nobody writes meanwhile.
    unsafe fn buffers<'a>(&self, slot: usize, runs: &[(usize, usize)]) -> Vec<&'a [u8]> {
        let all = [(self.header(slot), HEADER)].into_iter();
        // SAFETY: the header's place is the packet's, the runs are the caller's to grant.
        all.chain(runs.iter().copied())
            .map(|(address, len)| unsafe { bytes(address, len) })
            .collect()
    }

    /// Blocks until something was sent or has arrived, or until `deadline`.
    pub fn wait(&self, deadline: u64) {
        sched::block_until_or(deadline, || {
            self.receive.can_pop() || self.transmit.can_pop() || crate::shared::stop_requested()
        });
    }
}

impl<T: Transport> Drop for Net<T> {
    fn drop(&mut self) {
        // From now on the device touches nothing of the guest's.
        self.transport.set_status(DeviceStatus::empty());
        self.transport.queue_unset(RECEIVE);
        self.transport.queue_unset(TRANSMIT);
        for posted in core::mem::take(&mut self.posted).into_values() {
            if posted.lane {
                memory::give(posted.address, LANE);
            }
        }
    }
}

/// Whether the device waits to be told of what was just added. The processor may read the device's answer
/// before others see what was added, and the device fall asleep in between; the crate leaves the
/// barrier to others (virtio 1.2, clause 2.7.13.4.1).
fn is_awaited(queue: &VirtQueue<SplashHal, QUEUE_SIZE>) -> bool {
    fence(Ordering::SeqCst);
    queue.should_notify()
}

/// Pages at these addresses, where one follows another as one run of bytes.
fn runs(pages: &[usize]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &page in pages {
        match runs.last_mut() {
            Some((start, len)) if *start + *len == page => *len += PAGE_SIZE,
            _ => runs.push((page, PAGE_SIZE)),
        }
    }
    runs
}

/// # Safety
/// The memory is mapped and nobody writes it while the slice is used.
unsafe fn bytes<'a>(address: usize, len: usize) -> &'a [u8] {
    // SAFETY: granted by the caller.
    unsafe { core::slice::from_raw_parts(with_exposed_provenance(address), len) }
}

/// # Safety
/// The memory is mapped, and nobody else uses it while the slice is used.
unsafe fn bytes_mut<'a>(address: usize, len: usize) -> &'a mut [u8] {
    // SAFETY: granted by the caller.
    unsafe { core::slice::from_raw_parts_mut(with_exposed_provenance_mut(address), len) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, INDIRECT_DESC, VERSION_1, store};
    use virtio_drivers::transport::DeviceType;

    fn device(features: u64) -> Fake {
        let config = [2, 0x4d, 0, 0, 0, 7, 1, 0];
        Fake::new(DeviceType::Network, VERSION_1 | features, &config, 64)
    }

    fn lane() -> usize {
        memory::take_lane().unwrap()
    }

    #[test]
    fn a_packet_is_its_header_and_then_pages_wherever_they_are() {
        for features in [0, INDIRECT_DESC] {
            let fake = device(features);
            let mut net = Net::new(fake.clone()).unwrap();
            assert!(fake.is_live());
            assert_eq!(net.mac, [2, 0x4d, 0, 0, 0, 7]);
            let region = Region::new(3).unwrap();
            for (index, page) in (1..).zip([0, 1, 2]) {
                memory::copy_in(region.page(page), &[index; PAGE_SIZE]);
            }
            let page = |index: usize| region.address() + index * PAGE_SIZE;
            // SAFETY: the region is this test's.
            assert!(unsafe { net.send([9; 6], &[5; MESSAGE], &[page(1), page(2), page(0)]) });
            let chain = fake.take(1).unwrap();
            assert_eq!(chain.readable.len(), HEADER + 3 * PAGE_SIZE);
            assert_eq!(chain.readable[..12], [0; 12]);
            assert_eq!(chain.readable[12..18], [9; 6]);
            assert_eq!(chain.readable[18..24], net.mac);
            assert_eq!(chain.readable[24..26], ETHERTYPE);
            assert_eq!(chain.readable[26..64], [5; MESSAGE]);
            let pages = chain.readable[64..].chunks(PAGE_SIZE).map(|page| page[77]);
            assert_eq!(pages.collect::<Vec<_>>(), [2, 3, 1]);
            assert_eq!(net.sent(), None);
            fake.finish(1, &chain, 0);
            assert_eq!(net.sent(), Some(page(1)));
            assert_eq!(net.sending(), 0);
        }
    }

    #[test]
    fn a_received_packet_brings_its_lane_and_what_is_foreign_is_left_out() {
        let fake = device(INDIRECT_DESC);
        let mut net = Net::new(fake.clone()).unwrap();
        for _ in 0..2 {
            // SAFETY: the lane is this test's.
            assert_eq!(unsafe { net.post(lane()) }, None);
        }
        let mut packet = [0; HEADER];
        packet[18..24].copy_from_slice(&[8; 6]);
        let foreign = fake.take(0).unwrap();
        store(foreign.writable[0].0, &packet);
        fake.finish(0, &foreign, HEADER);
        packet[24..26].copy_from_slice(&ETHERTYPE);
        packet[26..].fill(3);
        let ours = fake.take(0).unwrap();
        assert_eq!(ours.writable[0].1, HEADER);
        assert!(ours.writable[1].0.is_multiple_of(PAGE_SIZE as u64));
        store(ours.writable[0].0, &packet);
        fake.finish(0, &ours, HEADER + 2 * PAGE_SIZE);
        let received = net.take().unwrap();
        assert_eq!((received.from, received.pages()), ([8; 6], 2));
        assert_eq!(received.message, [3; MESSAGE]);
        assert_eq!(received.lane as u64, ours.writable[1].0);
        memory::give(received.lane, LANE);
        assert!(net.take().is_none());
        assert_eq!(net.posted.len(), 1, "the foreign packet's lane waits again");
        drop(net);
        assert!(!fake.is_live());
    }
}
