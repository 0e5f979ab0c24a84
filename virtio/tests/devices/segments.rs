//! Packets that stand for several: whole for receivers that can, cut for those that can't.

use crate::driver::*;
use crate::station::*;
use mirrorball_virtio::Transfer;

const GUEST_TSO4: u64 = 1 << 7;
const HOST_TSO4: u64 = 1 << 11;
const PAYLOAD: usize = 5000;

/// A TCP segment over IPv4 of more than one packet's length.
fn long(from: &Station, to: &Station) -> Vec<u8> {
    let mut packet = from.ethernet(to.mac);
    packet[12..].copy_from_slice(&[8, 0]);
    packet.extend([
        0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2,
    ]);
    packet.extend([
        0, 7, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ]);
    packet.extend(pattern(PAYLOAD));
    packet
}

fn send(sender: &Station, header: [u8; 12], packet: &[u8]) {
    let bytes = u32::try_from(packet.len()).unwrap();
    sender.guest.write(DATA, packet);
    sender.guest.write(NET_HEADER, &header);
    sender.chain(TX, 0, &[(NET_HEADER, HEADER), (DATA, bytes)], 0);
    sender.guest.transport.process(1).unwrap();
}

/// TCP over IPv4 in segments of 1448 bytes, its checksum to be completed.
const LEFT_UNDONE: [u8; 12] = [1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];

fn stations(features: u64) -> (Machine, Station, Station) {
    let (machine, network) = (Machine::new(), network());
    let sending = CSUM | HOST_TSO4;
    let sender = Station::new(&machine, &network, 1, sending, Transfer::Cost);
    let receiver = Station::new(&machine, &network, 2, features, Transfer::Cost);
    (machine, sender, receiver)
}

#[test]
fn a_receiver_that_can_gets_the_packet_as_it_was_sent() {
    let (_machine, sender, receiver) = stations(MERGEABLE | GUEST_CSUM | GUEST_TSO4);
    let packet = long(&sender, &receiver);
    receiver.post(0, &[(DATA, 8192)]);
    send(&sender, LEFT_UNDONE, &packet);
    receiver.wake();
    let whole = u32::try_from(packet.len()).unwrap() + HEADER;
    assert_eq!(receiver.guest.used(), [(0, whole)]);
    let mut header = LEFT_UNDONE;
    header[10] = 1;
    assert_eq!(receiver.guest.read(DATA, 12), header);
    assert_eq!(receiver.guest.read(DATA + 12, packet.len()), packet);
}

#[test]
fn a_receiver_that_can_not_gets_packets_complete_in_themselves() {
    let (_machine, sender, receiver) = stations(0);
    let packet = long(&sender, &receiver);
    for number in 0..2 {
        receiver.post(number, &[(DATA + u64::from(number) * PAGE, 2048)]);
    }
    send(&sender, LEFT_UNDONE, &packet);
    receiver.wake();
    let full = 12 + 54 + 1448;
    assert_eq!(receiver.guest.used(), [(0, full), (1, full)]);
    // The rest waits for room.
    for number in 2..4 {
        receiver.post(number, &[(DATA + u64::from(number) * PAGE, 2048)]);
    }
    let last = 12 + 54 + 5000 - 3 * 1448;
    assert_eq!(receiver.guest.used()[2..], [(2, full), (3, last)]);
    let mut got = Vec::new();
    for (number, (_, len)) in (0..).zip(receiver.guest.used()) {
        let bytes = receiver.guest.read(DATA + number * PAGE, len as usize);
        assert_eq!(bytes[..10], [0; 10], "nothing is left undone");
        got.extend_from_slice(&bytes[66..]);
    }
    assert_eq!(got, packet[54..]);
}

#[test]
fn what_is_not_as_its_header_says_goes_no_further() {
    let (_machine, sender, receiver) = stations(MERGEABLE | GUEST_CSUM | GUEST_TSO4);
    let packet = long(&sender, &receiver);
    for (at, value) in [(0, 0), (1, 4), (1, 3), (4, 0), (6, 30), (8, 6)] {
        let mut header = LEFT_UNDONE;
        header[at] = value;
        if at == 4 {
            header[5] = 0;
        }
        send(&sender, header, &packet);
    }
    send(&sender, LEFT_UNDONE, &packet[..53]);
    let stats = sender.stats();
    assert_eq!((stats.malformed, stats.port.sent), (7, 0), "{stats:?}");
}
