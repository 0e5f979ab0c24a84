//! Several pairs of queues: commands of the driver's, and which pair a packet comes to.

use crate::driver::*;
use crate::station::*;
use mirrorball_virtio::{Device, NetConfig, NetDevice, Transfer};
use mirrorball_vnet::{Mac, Network, Offload, Packet, Piece, Port, PortConfig};
use std::sync::Arc;

const MQ: u64 = 1 << 22;
const CTRL_VQ: u64 = 1 << 17;
/// Beyond the rings of all queues.
const ROOM: u64 = 0x40_000;
const COMMAND: u64 = 0x30_000;

fn station(network: &Arc<Network>, machine: &Machine, features: u64) -> Station {
    let config = NetConfig {
        port: PortConfig::station(Mac::numbered(1)),
        mtu: 1500,
        transfer: Transfer::Never,
        pairs: 2,
    };
    let device = Arc::new(NetDevice::new(network, config).unwrap());
    let guest = Guest::new(&machine.pmap, 1, Arc::clone(&device) as Arc<dyn Device>);
    guest.start(MODERN | features, 16);
    Station {
        guest,
        device,
        mac: Mac::numbered(1),
        features,
    }
}

/// What the device answers to a command in a queue.
fn command(station: &Station, queue: u64, bytes: &[u8]) -> u8 {
    station.guest.write(COMMAND, bytes);
    station.guest.write(COMMAND + 0x100, &[0xee]);
    let asked = Desc(COMMAND, u32::try_from(bytes.len()).unwrap(), NEXT, 1);
    let room = Desc(COMMAND + 0x100, 1, WRITE, 0);
    station.describe(queue, 0, &[asked, room]);
    station.guest.offer_in(queue, 0);
    let queue = usize::try_from(queue).unwrap();
    station.guest.transport.process(queue).unwrap();
    station.guest.read(COMMAND + 0x100, 1)[0]
}

/// Sends a packet of a connection to the station.
fn send(from: &Port, to: Mac, port: u8) {
    let mut packet = [&to.0[..], &from.mac().0, &[8, 0, 0x45]].concat();
    packet.resize(60, 0);
    packet[23] = 6;
    packet[35] = port;
    from.send(Packet::new(vec![Piece::Bytes(packet)], Offload::default()).unwrap());
}

/// The connections whose packets have come to a pair.
fn came(station: &Station, pair: u64) -> Vec<u8> {
    for slot in 0..8_u16 {
        let at = ROOM + 0x10_000 * pair + 0x800 * u64::from(slot);
        station.chain(2 * pair, slot, &[(at, 0x800)], WRITE);
    }
    let queue = usize::try_from(2 * pair).unwrap();
    station.guest.transport.process(queue).unwrap();
    let used = station.guest.word(USED + SECOND * 2 * pair + 2);
    let at = |slot: u64| ROOM + 0x10_000 * pair + 0x800 * slot;
    (0..u64::from(used))
        .map(|slot| station.guest.read(at(slot) + 12 + 35, 1)[0])
        .collect()
}

#[test]
fn connections_are_spread_over_the_pairs_that_the_driver_asked_for() {
    let (machine, network) = (Machine::new(), network());
    let station = station(&network, &machine, MQ | CTRL_VQ);
    let mut pairs = [0; 2];
    station.guest.transport.read(0x108, &mut pairs);
    assert_eq!(pairs, [2, 0]);
    assert_eq!(command(&station, 4, &[4, 0, 2, 0]), 0);
    let other = network
        .attach(PortConfig::station(Mac::numbered(2)), || {})
        .unwrap();
    for port in [1, 2, 3, 4, 1, 2, 3, 4] {
        send(&other, station.mac, port);
    }
    let (first, second) = (came(&station, 0), came(&station, 1));
    assert_eq!(first.len() + second.len(), 8);
    assert!(
        !first.is_empty() && !second.is_empty(),
        "{first:?} {second:?}"
    );
    assert!(
        first.iter().all(|port| !second.contains(port)),
        "a connection in two pairs"
    );
    let stats = station.device.stats();
    assert_eq!((stats.port.received, stats.port.dropped()), (8, 0));
}

#[test]
fn until_it_asks_there_is_one_pair_and_after_a_reset_again() {
    let (machine, network) = (Machine::new(), network());
    let station = station(&network, &machine, MQ | CTRL_VQ);
    let other = network
        .attach(PortConfig::station(Mac::numbered(2)), || {})
        .unwrap();
    for round in 0..2 {
        for port in 1..=8 {
            send(&other, station.mac, port);
        }
        assert_eq!(came(&station, 0), [1, 2, 3, 4, 5, 6, 7, 8], "round {round}");
        assert!(!station.device.port().has_packet_in(1));
        assert_eq!(command(&station, 4, &[4, 0, 2, 0]), 0);
        for queue in 0..5 {
            station.guest.write(TABLE + SECOND * queue, &[0; 0x3000]);
        }
        station.guest.start(MODERN | MQ | CTRL_VQ, 16);
    }
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    let (machine, network) = (Machine::new(), network());
    let other = network
        .attach(PortConfig::station(Mac::numbered(2)), || {})
        .unwrap();
    let station = station(&network, &machine, MQ | CTRL_VQ);
    for bad in [
        &[4, 0, 0, 0][..],
        &[4, 0, 3, 0],
        &[4, 0, 0xff, 0xff],
        &[4, 1, 2, 0],
        &[0, 0, 1, 0],
        &[4, 0, 2],
    ] {
        assert_eq!(command(&station, 4, bad), 1, "{bad:?}");
    }
    (1..=8).for_each(|port| send(&other, station.mac, port));
    assert_eq!(came(&station, 0).len(), 8, "still one pair");
}

#[test]
fn without_several_pairs_the_control_queue_follows_the_first() {
    let (machine, network) = (Machine::new(), network());
    let station = station(&network, &machine, CTRL_VQ);
    assert_eq!(command(&station, 2, &[4, 0, 1, 0]), 1, "nothing to ask for");
}

#[test]
fn nothing_is_lost_when_a_driver_gives_pairs_up() {
    let (machine, network) = (Machine::new(), network());
    let station = station(&network, &machine, MQ | CTRL_VQ);
    assert_eq!(command(&station, 4, &[4, 0, 2, 0]), 0);
    let other = network
        .attach(PortConfig::station(Mac::numbered(2)), || {})
        .unwrap();
    (1..=8).for_each(|port| send(&other, station.mac, port));
    // The second pair's worker has one in hand, for which there is no room.
    station.guest.transport.process(2).unwrap();
    assert_eq!(command(&station, 4, &[4, 0, 1, 0]), 0);
    let mut all = came(&station, 0);
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(!station.device.port().has_packet_in(1));
}
