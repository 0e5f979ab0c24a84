//! Packets between guests: every byte arrives, pages without being copied, and nobody's write is
//! seen by anybody else.

use crate::driver::*;
use crate::station::*;
use mirrorball_pmap::{GroupId, Mechanism, PageState, Ppn, PpnRun, VmId};
use mirrorball_virtio::{BlockCache, Device, NetConfig, NetDevice, Rest, Transfer};
use mirrorball_vnet::{Bounds, Mac, Network, NetworkConfig, PortConfig};
use proptest::prelude::*;
use std::sync::Arc;

pub fn frames_in_use(machine: &Machine) -> u64 {
    machine.pmap.settle_all();
    machine.pmap.totals().frames
}

#[test]
fn whole_pages_are_moved_by_mapping_and_belong_to_both() {
    let (machine, sender, receiver) = pair(MERGEABLE, Transfer::Always);
    let data = pattern(4 * 4096);
    sender.guest.write(DATA, &data);
    sender.guest.write(0x9000, &sender.ethernet(receiver.mac));
    // The header in a descriptor of its own, then pages.
    receiver.post(0, &[(0x9000, HEADER + 14), (DATA + 0x8000, 4 * 4096)]);
    sender.send(&[(0x9000, 14), (DATA, 4 * 4096)]);
    receiver.wake();
    assert_eq!(receiver.guest.used(), [(0, HEADER + 14 + 4 * 4096)]);
    assert_eq!(receiver.guest.read(DATA + 0x8000, data.len()), data);
    assert_eq!(receiver.guest.read(0x9000 + 10, 2), [1, 0], "num_buffers");
    // Four frames for eight pages.
    assert_eq!(frames_in_use(&machine), 4);
    for page in 0..4 {
        let here = sender.state(DATA + page * PAGE);
        let PageState::Mapped(frame, Mechanism::Network) = here else {
            panic!("{here:?}");
        };
        let there = receiver.state(DATA + 0x8000 + page * PAGE);
        assert_eq!(there, PageState::Mapped(frame, Mechanism::Network));
    }
    assert_eq!(
        (sender.stats().made_pages, sender.stats().shared_pages),
        (4, 4)
    );
    assert_eq!(receiver.stats().mapped_pages, 4);
    // Writes of either are its own.
    sender.guest.write(DATA, b"sender");
    receiver.guest.write(DATA + 0x9000, b"receiver");
    assert_eq!(receiver.guest.read(DATA + 0x8000, 4096), data[..4096]);
    assert_eq!(sender.guest.read(DATA + PAGE, 4096), data[4096..8192]);
    // The same pages again: those that still name frames cost nothing.
    receiver.post(2, &[(0x9000, HEADER + 14), (DATA + 0x10_000, 4 * 4096)]);
    sender.send(&[(0x9000, 14), (DATA, 4 * 4096)]);
    receiver.wake();
    assert_eq!(sender.stats().named_pages, 3);
    assert_eq!(sender.stats().made_pages, 5);
    assert_eq!(receiver.guest.read(DATA + 0x10_000, 6), b"sender");
}

#[test]
fn a_block_of_a_shared_disk_is_sent_without_any_copy() {
    let machine = Machine::new();
    let network = network();
    let file = file(&pattern(8 * 4096));
    let (reader, _) = machine.guest(7, &open(file.path()));
    reader.request(IN, 0, &[(DATA, 8 * 4096)]);
    let before = frames_in_use(&machine);
    let (server, client) = (
        Station::new(&machine, &network, 1, MERGEABLE, Transfer::Always),
        Station::new(&machine, &network, 2, MERGEABLE, Transfer::Always),
    );
    // The server's buffer cache: the same blocks.
    let access = reader.space.access();
    let run = mirrorball_pmap::PpnRun::new(Ppn(16), 8);
    let lent = access.lend(run, |_| false).lent;
    drop(access);
    let cache = server.guest.space.access();
    cache
        .map_frames(Ppn(32), &lent[0].frames, Mechanism::Disk)
        .unwrap();
    drop((cache, lent));
    server.guest.write(0x9000, &server.ethernet(client.mac));
    client.post(0, &[(0x9000, 26), (DATA, 8 * 4096)]);
    server.send(&[(0x9000, 14), (32 * PAGE, 8 * 4096)]);
    client.wake();
    assert_eq!(client.guest.read(DATA, 8 * 4096), pattern(8 * 4096));
    assert_eq!(frames_in_use(&machine), before, "not one more page");
    let stats = server.stats();
    assert_eq!(
        (stats.named_pages, stats.made_pages, stats.sent_copied),
        (8, 0, 14)
    );
    assert_eq!(
        machine.pmap.totals().by_mechanism[Mechanism::Network.index()],
        8
    );
}

#[test]
fn never_copies_and_maps_nothing() {
    let (machine, sender, receiver) = pair(0, Transfer::Never);
    let data = pattern(2 * 4096);
    sender.guest.write(DATA, &data);
    sender.guest.write(0x9000, &sender.ethernet(receiver.mac));
    receiver.post(0, &[(0x9000, 26), (DATA, 2 * 4096)]);
    sender.send(&[(0x9000, 14), (DATA, 2 * 4096)]);
    receiver.wake();
    assert_eq!(receiver.guest.read(DATA, data.len()), data);
    assert_eq!(frames_in_use(&machine), 0);
    assert_eq!(receiver.stats().received_copied, 26 + 2 * 4096);
    // A scanner is told where to look: at both ends, and at whole pages only.
    let pages = PpnRun::new(Ppn(u32::try_from(DATA / PAGE).unwrap()), 2);
    for station in [&sender, &receiver] {
        assert_eq!(station.guest.space.take_carried(), [pages]);
        assert!(station.guest.space.take_carried().is_empty(), "told once");
    }
}

#[test]
fn other_groups_get_copies() {
    let (machine, network) = (Machine::new(), network());
    let sender = Station::new(&machine, &network, 1, 0, Transfer::Always);
    let config = NetConfig {
        port: PortConfig::station(Mac::numbered(2)),
        mtu: 1500,
        transfer: Transfer::Always,
        pairs: 1,
    };
    let device = Arc::new(NetDevice::new(&network, config).unwrap());
    let space = machine
        .pmap
        .create_space(VmId(2), GroupId(5), MEMORY)
        .unwrap();
    let guest = Guest::with_space(space, Arc::clone(&device) as Arc<dyn Device>);
    guest.start(MODERN, 16);
    let stranger = Station {
        guest,
        device,
        mac: Mac::numbered(2),
        features: 0,
    };
    sender.guest.write(DATA, &pattern(4096));
    sender.guest.write(0x9000, &sender.ethernet(stranger.mac));
    stranger.post(0, &[(0x9000, 26), (DATA, 4096)]);
    sender.send(&[(0x9000, 14), (DATA, 4096)]);
    stranger.wake();
    assert_eq!(stranger.guest.read(DATA, 4096), pattern(4096));
    assert_eq!(stranger.state(DATA), PageState::Private);
}

#[test]
fn a_receiver_whose_room_meets_no_pages_is_sent_no_frames_by_cost() {
    let (_machine, sender, receiver) = pair(MERGEABLE, Transfer::Cost);
    let data = pattern(8 * 4096);
    sender.guest.write(0x9000, &sender.ethernet(receiver.mac));
    for round in 0..8 {
        sender.guest.write(DATA, &data);
        // The header and the payload one after the other, as Linux has them.
        receiver.post(round, &[(DATA + 0x20_000, 9 * 4096)]);
        sender.send(&[(0x9000, 14), (DATA, 8 * 4096)]);
        receiver.wake();
        let payload = DATA + 0x20_000 + u64::from(HEADER) + 14;
        assert_eq!(receiver.guest.read(payload, data.len()), data);
    }
    let stats = sender.stats();
    assert_eq!(stats.made_pages, 8, "only before anything was known");
}

#[test]
fn packets_wait_for_buffers_in_order_and_are_merged_over_them() {
    let (_machine, sender, receiver) = pair(MERGEABLE, Transfer::Cost);
    let mut packet = sender.ethernet(receiver.mac);
    packet.extend(pattern(3000));
    sender.guest.write(DATA, &packet);
    sender.send(&[(DATA, 3014)]);
    sender.guest.write(DATA + 14, b"second");
    sender.send(&[(DATA, 64)]);
    receiver.wake();
    assert_eq!(receiver.guest.used(), []);
    receiver.post(0, &[(DATA, 1024)]);
    receiver.post(1, &[(DATA + 0x1000, 1024)]);
    assert_eq!(receiver.guest.used(), [], "not enough for the first");
    receiver.post(2, &[(DATA + 0x2000, 1024)]);
    assert_eq!(
        receiver.guest.used(),
        [(0, 1024), (1, 1024), (2, 3026 - 2048)]
    );
    assert_eq!(receiver.guest.read(DATA + 10, 2), [3, 0]);
    let mut all = receiver.guest.read(DATA + 12, 1012);
    all.extend(receiver.guest.read(DATA + 0x1000, 1024));
    all.extend(receiver.guest.read(DATA + 0x2000, 3026 - 2048));
    assert_eq!(all, packet);
    receiver.post(3, &[(DATA, 1024)]);
    assert_eq!(receiver.guest.used().last(), Some(&(3, 76)));
    assert_eq!(receiver.guest.read(DATA + 26, 6), b"second");
}

#[test]
fn what_fits_nowhere_is_dropped_and_the_next_goes_on() {
    let (_machine, sender, receiver) = pair(0, Transfer::Cost);
    sender.guest.write(DATA, &sender.ethernet(receiver.mac));
    receiver.post(0, &[(DATA, 100)]);
    sender.send(&[(DATA, 89)]);
    sender.send(&[(DATA, 88)]);
    receiver.wake();
    assert_eq!(receiver.guest.used(), [(0, 100)]);
    assert_eq!(receiver.stats().unfit, 1);
    // No packet at all: too short, too long, with a header that was not offered.
    sender.send(&[(DATA, 13)]);
    sender.send(&[(0, 1 << 20), (0, 1 << 20)]);
    sender.guest.write(NET_HEADER, &[0, 1]);
    sender.chain(TX, 0, &[(NET_HEADER, HEADER), (DATA, 60)], 0);
    sender.guest.transport.process(1).unwrap();
    assert_eq!((sender.stats().malformed, sender.stats().port.sent), (3, 2));
}

#[test]
fn a_packet_without_its_header_ends_the_sender() {
    let (_machine, sender, _) = pair(0, Transfer::Always);
    sender.chain(TX, 0, &[(DATA, 11)], 0);
    let fault = sender.guest.transport.process(1).unwrap_err().to_string();
    assert!(fault.starts_with("virtio network, queue 1: "), "{fault}");
}

#[test]
fn a_forger_reaches_nobody() {
    let (_machine, hostile, other) = pair(0, Transfer::Always);
    let forged = [&other.mac.0[..], &other.mac.0, &[8, 0]].concat();
    hostile.guest.write(DATA, &forged);
    hostile.send(&[(DATA, 64)]);
    assert!(
        other.guest.transport.doorbells()[0].read().is_ok(),
        "rung by its start"
    );
    other.guest.transport.process(0).unwrap();
    assert_eq!(hostile.stats().port.forged, 1);
    assert!(!other.device.port().has_packet_in(0));
}

#[test]
fn a_guest_that_takes_nothing_costs_no_more_than_the_bound() {
    let machine = Machine::new();
    let bounds = Bounds {
        packets: 3,
        bytes: 1 << 20,
    };
    let network = Network::new(
        "net",
        &NetworkConfig {
            bounds,
            ..NetworkConfig::default()
        },
    );
    let sender = Station::new(&machine, &network, 1, 0, Transfer::Always);
    let deaf = Station::new(&machine, &network, 2, 0, Transfer::Always);
    sender.guest.write(DATA, &sender.ethernet(deaf.mac));
    for _ in 0..10 {
        sender.send(&[(DATA, 60)]);
    }
    assert_eq!(deaf.stats().port.full, 7);
    deaf.guest.start(MODERN, 16);
    assert!(
        !deaf.device.port().has_packet_in(0),
        "a reset forgets what waits"
    );
}

#[test]
fn checksums_are_completed_for_those_who_can_not() {
    for features in [0, GUEST_CSUM] {
        let (machine, network) = (Machine::new(), network());
        let sender = Station::new(&machine, &network, 1, CSUM, Transfer::Always);
        let receiver = Station::new(&machine, &network, 2, features, Transfer::Always);
        let mut packet = sender.ethernet(receiver.mac);
        packet.extend([0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7, 0, 0]);
        sender.guest.write(DATA, &packet);
        receiver.post(0, &[(DATA, 100)]);
        sender
            .guest
            .write(NET_HEADER, &[1, 0, 0, 0, 0, 0, 14, 0, 8, 0, 0, 0]);
        sender.chain(TX, 0, &[(NET_HEADER, HEADER), (DATA, 24)], 0);
        sender.guest.transport.process(1).unwrap();
        receiver.wake();
        let got = receiver.guest.read(DATA, 36);
        if receiver.features & GUEST_CSUM == 0 {
            assert_eq!((got[0], &got[34..]), (0, &[0x22, 0x0d][..]));
        } else {
            assert_eq!((got[0], got[6], got[8]), (1, 14, 8));
            assert_eq!(got[34..], [0, 0]);
        }
    }
}

#[test]
fn the_configuration_tells_address_link_and_mtu() {
    let (_machine, station, _) = pair(MERGEABLE, Transfer::Cost);
    let mut config = [0xee; 14];
    station.guest.transport.read(0x100, &mut config);
    assert_eq!(config[..6], station.mac.0);
    assert_eq!(config[6..12], [1, 0, 1, 0, 40, 35]);
    assert_eq!(config[12..], [0, 0], "nothing behind");
    let generation = station.guest.get(0xfc);
    station.device.set_link(false);
    assert_ne!(station.guest.get(0xfc), generation);
    station.guest.transport.read(0x106, &mut config[..2]);
    assert_eq!(config[..2], [0, 0]);
}

/// Buffers that together hold `bytes` bytes, cut and aligned in many ways.
fn layout(bytes: u32) -> impl Strategy<Value = Vec<(u64, u32)>> {
    let cut = prop_oneof![Just(4096), Just(14), 1..9000_u32, Just(65536)];
    let offset = prop_oneof![3 => Just(0), 1 => 1..4096_u64];
    proptest::collection::vec((cut, offset), 1..12).prop_map(move |parts| {
        let (mut left, mut at) = (bytes, DATA);
        let mut buffers = Vec::new();
        let last = parts.len() - 1;
        for (index, (cut, offset)) in parts.into_iter().enumerate() {
            let len = if index == last { left } else { cut.min(left) };
            if len > 0 {
                buffers.push((at + offset, len));
                at = (at + offset + u64::from(len)).next_multiple_of(PAGE);
                left -= len;
            }
        }
        buffers
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However both sides cut and align their buffers, the bytes arrive, and both sides' writes
    /// right after sending change nothing of the other's.
    #[test]
    fn bytes_arrive_whatever_the_layout(
        (bytes, from, to) in (14..200_000_u32).prop_flat_map(|bytes| {
            (Just(bytes), layout(bytes), layout(bytes + HEADER))
        }),
        transfer in prop_oneof![Just(Transfer::Always), Just(Transfer::Never), Just(Transfer::Cost)],
        again in any::<bool>(),
    ) {
        let (_machine, sender, receiver) = pair(0, transfer);
        let rounds = if again { 2 } else { 1 };
        for round in 0..rounds {
            let mut packet = sender.ethernet(receiver.mac);
            packet.extend(pattern(bytes as usize - 14).iter().map(|byte| byte.wrapping_add(round)));
            let mut sent = 0;
            for &(address, len) in &from {
                sender.guest.write(address, &packet[sent..sent + len as usize]);
                sent += len as usize;
            }
            receiver.post(0, &to);
            sender.send(&from);
            // The buffers are the sender's again.
            for &(address, len) in &from {
                sender.guest.write(address, &vec![0xdd; len as usize / 2]);
            }
            receiver.wake();
            let mut got = Vec::new();
            for &(address, len) in &to {
                got.extend(receiver.guest.read(address, len as usize));
            }
            prop_assert_eq!(&got[12..], &packet[..]);
            for &(address, len) in &to {
                receiver.guest.write(address, &vec![0xcc; len as usize]);
            }
            for &(address, len) in &from {
                let half = sender.guest.read(address, len as usize / 2);
                prop_assert!(half.iter().all(|byte| *byte == 0xdd));
            }
        }
    }
}

#[test]
fn blocks_are_mapped_at_once_for_a_guest_that_sends_them_on() {
    let machine = Machine::of(|pmap| BlockCache::with_rest(pmap, Rest::default()));
    let network = network();
    let file = file(&pattern(8 * 4096));
    let (reader, _) = machine.guest(1, &open(file.path()));
    reader.space.expect_lending();
    reader.request(IN, 0, &[(DATA, 8 * 4096)]);
    let before = frames_in_use(&machine);
    let state = reader.space.state(Ppn(16));
    assert!(
        matches!(state, PageState::Mapped(_, Mechanism::Disk)),
        "{state:?}"
    );
    // A second device of the same guest; its queues have the place of the disk's.
    let config = NetConfig {
        port: PortConfig::station(Mac::numbered(1)),
        mtu: 1500,
        transfer: Transfer::Always,
        pairs: 1,
    };
    let device = Arc::new(NetDevice::new(&network, config).unwrap());
    let space = Arc::clone(&reader.space);
    let guest = Guest::with_space(space, Arc::clone(&device) as Arc<dyn Device>);
    for queue in 0..2 {
        guest.write(TABLE + SECOND * queue, &[0; 0x3000]);
    }
    guest.start(MODERN, 16);
    let server = Station {
        guest,
        device,
        mac: Mac::numbered(1),
        features: 0,
    };
    let client = Station::new(&machine, &network, 2, MERGEABLE, Transfer::Always);
    server.guest.write(0x9000, &server.ethernet(client.mac));
    client.post(0, &[(0x9000, 26), (DATA, 8 * 4096)]);
    server.send(&[(0x9000, 14), (DATA, 8 * 4096)]);
    client.wake();
    assert_eq!(client.guest.read(DATA, 8 * 4096), pattern(8 * 4096));
    assert_eq!(
        (server.stats().named_pages, server.stats().made_pages),
        (8, 0)
    );
    assert_eq!(frames_in_use(&machine), before);
}
