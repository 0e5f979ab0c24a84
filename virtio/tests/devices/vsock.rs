//! A stream through the rings: lines to the host, words to the guest, and guests that do neither.

use crate::driver::*;
use mirrorball_virtio::console::MAX_WAITING;
use mirrorball_virtio::vsock::{MAX_INPUT, SendError};
use mirrorball_virtio::{Device, Vsock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use vm_memory::{Bytes, GuestAddress};

const CID: u32 = 9;
const PORT: u32 = 1024;
/// Bytes of a header; where packets to send lie, and buffers to receive into.
const HEADER: u32 = 44;
const OUT: u64 = DATA;
const IN: u64 = DATA + 0x10_000;
const TX_TABLE: u64 = TABLE + 0x4000;

const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
const RESET: u16 = 3;
const SHUTDOWN: u16 = 4;
const RW: u16 = 5;
const CREDIT_UPDATE: u16 = 6;

struct Station {
    guest: Guest,
    device: Arc<Vsock>,
    told: Arc<AtomicU32>,
    /// Packets received.
    seen: usize,
}

/// A packet as the guest got it.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    port: u32,
    operation: u16,
    consumed: u32,
    payload: Vec<u8>,
}

fn field(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(raw[at..at + 4].try_into().unwrap())
}

impl Station {
    fn new(features: u64) -> Self {
        let told = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&told);
        let tell = Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let device = Arc::new(Vsock::new(CID, PORT, tell));
        let guest = Guest::new(
            &Machine::new().pmap,
            1,
            Arc::clone(&device) as Arc<dyn Device>,
        );
        guest.start(MODERN | features, 16);
        Self {
            guest,
            device,
            told,
            seen: 0,
        }
    }

    /// Has the guest send a packet from this port of its own, and serves it.
    fn send(&self, port: u32, operation: u16, payload: &[u8]) {
        self.offer(port, operation, payload);
        self.guest.transport.process(1).unwrap();
    }

    fn offer(&self, port: u32, operation: u16, payload: &[u8]) {
        let len = u32::try_from(payload.len()).unwrap();
        let mut raw = Vec::new();
        raw.extend(u64::from(CID).to_le_bytes());
        raw.extend(2_u64.to_le_bytes());
        for word in [port, PORT, len] {
            raw.extend(word.to_le_bytes());
        }
        raw.extend(1_u16.to_le_bytes());
        raw.extend(operation.to_le_bytes());
        // Flags: both directions of a SHUTDOWN. Credit: 4 KiB, nothing consumed.
        for word in [3_u32, 4096, 0] {
            raw.extend(word.to_le_bytes());
        }
        self.guest.write(OUT, &raw);
        self.guest.write(OUT + u64::from(HEADER), payload);
        let chain = [
            Desc(OUT, 20, NEXT, 1),
            Desc(OUT + 20, HEADER - 20 + len, 0, 0),
        ];
        for (at, descriptor) in (0..).zip(chain) {
            self.guest.write(TX_TABLE + 16 * at, &descriptor.bytes());
        }
        self.guest.offer_in(1, 0);
    }

    /// Gives the device a buffer, as Linux 6.1 does, and takes what it puts there.
    fn receive(&mut self) -> Option<Packet> {
        self.receive_in(&[
            Desc(IN, HEADER, WRITE | NEXT, 1),
            Desc(IN + 44, 4096, WRITE, 0),
        ])
    }

    fn receive_in(&mut self, chain: &[Desc]) -> Option<Packet> {
        self.guest.describe(0, chain);
        if self.guest.used().len() == self.seen && self.guest.word(AVAIL + 2) as usize == self.seen
        {
            self.guest.offer(0);
        }
        self.guest.kick().unwrap();
        let used = self.guest.word(USED + 2) as usize;
        if used == self.seen {
            return None;
        }
        self.seen = used;
        let last = (used as u64 - 1) % 16;
        let len = field(&self.guest.read(USED + 8 + 8 * last, 4), 0);
        let raw = self.guest.read(IN, len as usize);
        assert_eq!(field(&raw, 0), 2, "from the host");
        assert_eq!(field(&raw, 8), CID, "to the guest");
        assert_eq!(field(&raw, 24), len - HEADER);
        Some(Packet {
            port: field(&raw, 20),
            operation: u16::try_from(field(&raw, 28) >> 16).unwrap(),
            consumed: field(&raw, 40),
            payload: raw[44..].to_vec(),
        })
    }

    fn connect(&mut self, port: u32) {
        self.send(port, REQUEST, &[]);
        assert_eq!(self.receive().unwrap().operation, RESPONSE);
        assert!(self.device.connected());
    }

    /// Whether a queue's doorbell rings.
    fn rang(&self, queue: usize) -> bool {
        self.guest.transport.doorbells()[queue].read().is_ok()
    }
}

#[test]
fn the_guest_learns_its_number_and_that_there_are_streams() {
    let station = Station::new(0);
    assert_eq!((station.guest.get(8), station.guest.get(0x100)), (19, CID));
    station.guest.set(0x14, 0);
    assert_eq!(station.guest.get(0x10) & 3, 1, "streams, nothing else");
}

#[test]
fn lines_arrive_whole_and_words_go_back() {
    for features in [0, EVENT_IDX] {
        let mut station = Station::new(features);
        assert_eq!(station.device.send(b"go\n"), Err(SendError::NotConnected));
        station.connect(70);
        station.send(70, RW, b"mb ready 1.5\nmb be");
        assert_eq!(station.device.take_lines(), ["mb ready 1.5"]);
        station.send(70, RW, b"gin 0 2\n");
        assert_eq!(station.told.load(Ordering::SeqCst), 2);
        assert_eq!(station.device.take_lines(), ["mb begin 0 2"]);
        while station.rang(0) {}
        station.device.send(b"go\n").unwrap();
        assert!(station.rang(0), "the worker is called");
        let packet = station.receive().unwrap();
        let expected = Packet {
            port: 70,
            operation: RW,
            consumed: 26,
            payload: b"go\n".to_vec(),
        };
        assert_eq!(packet, expected);
        station.send(70, SHUTDOWN, &[]);
        assert_eq!(station.receive().unwrap().operation, RESET);
        assert!(!station.device.connected());
        // What a stream left unfinished is not the beginning of the next one's line.
        station.connect(71);
        station.send(71, RW, b"half");
        station.send(71, RESET, &[]);
        station.connect(72);
        station.send(72, RW, b"whole\n");
        assert_eq!(station.device.take_lines(), ["whole"]);
    }
}

#[test]
fn a_guest_that_is_not_heard_waits_and_nothing_is_lost() {
    let mut station = Station::new(0);
    station.connect(5);
    let line = [[b'x'; 99].as_slice(), b"\n"].concat().repeat(40);
    let (mut sent, mut consumed) = (0_u32, 0);
    let mut fill = |station: &mut Station| {
        loop {
            while let Some(packet) = station.receive() {
                assert_eq!(packet.operation, CREDIT_UPDATE);
                consumed = packet.consumed;
            }
            if sent - consumed + 4000 > 16 << 10 {
                return sent;
            }
            station.send(5, RW, &line);
            sent += 4000;
        }
    };
    let first = fill(&mut station);
    assert!(first > 300_000 && (first as usize) < MAX_WAITING, "{first}");
    let lines = station.device.take_lines().len();
    assert_eq!(lines, first as usize / 100);
    let second = fill(&mut station) - first;
    assert!(second > 300_000, "it goes on when it is heard");
    assert_eq!(station.device.take_lines().len(), second as usize / 100);
    assert_eq!(station.device.damaged_lines(), 0);
    // More than it was told that there is room for ends it.
    for _ in 0..200 {
        station.send(5, RW, &line);
    }
    assert!(!station.device.connected());
}

#[test]
fn answers_that_the_guest_does_not_take_hold_its_packets_up() {
    for features in [0, EVENT_IDX] {
        let mut station = Station::new(features);
        // The device takes 64; the ring holds the rest.
        for _ in 0..80 {
            station.offer(1, RW, &[]);
            station.guest.transport.process(1).unwrap();
        }
        let space = Arc::clone(&station.guest.space);
        let taken = || {
            let used = GuestAddress(USED + 0x4000 + 2);
            space.access().memory().read_obj::<u16>(used).unwrap()
        };
        assert_eq!(taken(), 64);
        while station.rang(1) {}
        let mut resets = 0;
        while let Some(packet) = station.receive() {
            assert_eq!(packet.operation, RESET);
            resets += 1;
            if station.rang(1) {
                station.guest.transport.process(1).unwrap();
            }
        }
        assert_eq!((resets, taken()), (80, 80));
    }
}

#[test]
fn what_waits_for_a_guest_is_bounded_and_comes_in_order() {
    let mut station = Station::new(0);
    station.connect(3);
    let bytes: Vec<u8> = pattern(MAX_INPUT);
    station.device.send(&bytes).unwrap();
    let full = SendError::Full { waiting: MAX_INPUT };
    assert_eq!(station.device.send(b"x"), Err(full));
    // All in one descriptor, as Linux 6.12 has it, and no more than the guest has room for.
    let packet = station.receive_in(&[Desc(IN, 8192, WRITE, 0)]).unwrap();
    assert_eq!(packet.payload, bytes[..4096]);
    assert_eq!(station.receive(), None);
    station.guest.set(0x70, 0);
    assert!(!station.device.connected(), "a reset ends the stream");
    assert_eq!(station.device.send(b"x"), Err(SendError::NotConnected));
}

#[test]
fn chains_that_hold_no_packet_come_back_and_change_nothing() {
    let mut station = Station::new(0);
    station.connect(3);
    // Too short for a header, empty, and writable.
    for chain in [
        Desc(OUT, 43, 0, 0),
        Desc(OUT, 0, 0, 0),
        Desc(OUT, 99, WRITE, 0),
    ] {
        let before = station.guest.word(USED + 0x4000 + 2);
        station.guest.write(TX_TABLE, &chain.bytes());
        station.guest.offer_in(1, 0);
        station.guest.transport.process(1).unwrap();
        assert_eq!(station.guest.word(USED + 0x4000 + 2), before + 1);
    }
    assert!(station.device.connected());
    // No room for a header: the packet waits for a better buffer.
    station.device.send(b"word").unwrap();
    station.guest.describe(0, &[Desc(IN, 43, WRITE, 0)]);
    station.guest.offer(0);
    station.guest.kick().unwrap();
    let (_, len) = *station.guest.used().last().unwrap();
    assert_eq!(len, 0);
    station.seen = station.guest.word(USED + 2) as usize;
    assert_eq!(station.receive().unwrap().payload, b"word");
    // A malformed chain is a fault, as with any device.
    station
        .guest
        .write(TX_TABLE, &Desc(u64::MAX, 44, 0, 0).bytes());
    station.guest.offer_in(1, 0);
    let fault = station.guest.transport.process(1).unwrap_err().to_string();
    assert!(fault.contains("virtio socket, queue 1"), "{fault}");
}
