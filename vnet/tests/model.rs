//! The switch against a small model of it, and what its ports promise each other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mirrorball_vnet::{
    AttachError, Bounds, Mac, Network, NetworkConfig, Offload, Packet, Piece, Port, PortConfig,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const PORTS: usize = 6;
/// The first ports learn: they are bridges.
const BRIDGES: usize = 2;
const BOUND: usize = 5;

fn station(index: usize) -> Mac {
    Mac::numbered(u32::try_from(index).unwrap())
}

/// A station behind a bridge.
fn distant(index: usize) -> Mac {
    station(100 + index)
}

fn packet(to: Mac, from: Mac, payload: &[u8]) -> Packet {
    let bytes = [&to.0[..], &from.0, &[0x88, 0xb5], payload].concat();
    Packet::new(vec![Piece::Bytes(bytes)], Offload::default()).unwrap()
}

fn config(index: usize) -> PortConfig {
    PortConfig {
        learns: index < BRIDGES,
        ..PortConfig::station(station(index))
    }
}

fn network(bound: usize) -> Arc<Network> {
    let bounds = Bounds {
        packets: bound,
        bytes: usize::MAX,
    };
    Network::new(
        "test",
        &NetworkConfig {
            ports: PORTS,
            bounds,
        },
    )
}

fn bytes_of(packet: &Packet) -> Vec<u8> {
    let mut bytes = vec![0; packet.bytes()];
    packet.copy_to(&mut bytes);
    bytes
}

#[derive(Clone, Debug)]
enum Step {
    Send { port: usize, from: Mac, to: Mac },
    Receive(usize),
    Leave(usize),
    Come(usize),
    Link(usize, bool),
}

fn address() -> impl Strategy<Value = Mac> {
    prop_oneof![
        4 => (0..PORTS).prop_map(station),
        2 => (0..4_usize).prop_map(distant),
        1 => Just(Mac::BROADCAST),
        1 => Just(Mac([0x33, 0x33, 0, 0, 0, 1])),
        1 => Just(Mac([0; 6])),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..PORTS, address(), address(), any::<bool>()).prop_map(|(port, from, to, own)| {
            let from = if own { station(port) } else { from };
            Step::Send { port, from, to }
        }),
        4 => (0..PORTS).prop_map(Step::Receive),
        1 => (0..PORTS).prop_map(Step::Leave),
        2 => (0..PORTS).prop_map(Step::Come),
        1 => (0..PORTS, any::<bool>()).prop_map(|(port, up)| Step::Link(port, up)),
    ]
}

#[derive(Default)]
struct ModelPort {
    id: u64,
    down: bool,
    waiting: BTreeMap<u64, VecDeque<Vec<u8>>>,
    full: u64,
}

#[derive(Default)]
struct Model {
    came: u64,
    ports: BTreeMap<usize, ModelPort>,
    learnt: BTreeMap<Mac, usize>,
}

impl Model {
    fn send(&mut self, port: usize, from: Mac, to: Mac, bytes: &[u8]) {
        let Some(sender) = self.ports.get(&port) else {
            return;
        };
        if sender.down || from != station(port) && (port >= BRIDGES || !from.is_station()) {
            return;
        }
        if from != station(port) {
            self.learnt.insert(from, port);
        }
        let owner = (0..PORTS).find(|&index| station(index) == to);
        let given = owner.filter(|index| self.ports.contains_key(index));
        let id = sender.id;
        let target = given.or_else(|| self.learnt.get(&to).copied());
        for (&number, receiver) in &mut self.ports {
            let wanted =
                to.is_multicast() || target.map_or(number < BRIDGES, |target| target == number);
            if number == port || !wanted || receiver.down {
                continue;
            }
            let queue = receiver.waiting.entry(id).or_default();
            if queue.len() < BOUND {
                queue.push_back(bytes.to_vec());
            } else {
                receiver.full += 1;
            }
        }
    }

    fn leave(&mut self, port: usize) {
        self.ports.remove(&port);
        self.learnt.retain(|_, behind| *behind != port);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Each packet reaches exactly those ports that the model says, in the order of its sender.
    #[test]
    fn packets_go_where_the_model_says(steps in proptest::collection::vec(step(), 1..200)) {
        let network = network(BOUND);
        let mut model = Model::default();
        let mut ports: BTreeMap<usize, Port> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Come(index) => {
                    let came = network.attach(config(index), || {});
                    prop_assert_eq!(came.is_ok(), !ports.contains_key(&index));
                    if let Ok(port) = came {
                        ports.insert(index, port);
                        model.came += 1;
                        let id = model.came;
                        let new = ModelPort { id, ..ModelPort::default() };
                        model.ports.insert(index, new);
                    }
                }
                Step::Leave(index) => {
                    ports.remove(&index);
                    model.leave(index);
                }
                Step::Link(index, up) => {
                    if let Some(port) = ports.get(&index) {
                        port.set_link(up);
                        model.ports.get_mut(&index).unwrap().down = !up;
                    }
                }
                Step::Send { port, from, to } => {
                    let packet = packet(to, from, &number.to_le_bytes());
                    let bytes = bytes_of(&packet);
                    if let Some(sender) = ports.get(&port) {
                        sender.send(packet);
                    }
                    model.send(port, from, to, &bytes);
                }
                Step::Receive(index) => {
                    let Some(port) = ports.get(&index) else { continue };
                    let waiting = &mut model.ports.get_mut(&index).unwrap().waiting;
                    waiting.retain(|_, queue| !queue.is_empty());
                    match port.receive() {
                        None => prop_assert!(waiting.is_empty()),
                        Some(packet) => {
                            let bytes = bytes_of(&packet);
                            let from = waiting.values_mut().find(|queue| queue[0] == bytes);
                            prop_assert!(from.is_some(), "{:?}", bytes);
                            from.unwrap().pop_front();
                        }
                    }
                }
            }
        }
        for (index, port) in &ports {
            let model = &model.ports[index];
            prop_assert_eq!(port.counts().full, model.full);
            let mut left = model.waiting.values().map(VecDeque::len).sum::<usize>();
            while port.receive().is_some() {
                left -= 1;
            }
            prop_assert_eq!(left, 0);
        }
    }
}

#[test]
fn networks_are_isolated() {
    let (one, other) = (network(BOUND), network(BOUND));
    let sender = one.attach(config(0), || {}).unwrap();
    let here = one.attach(config(3), || {}).unwrap();
    let there = other.attach(config(3), || {}).unwrap();
    sender.send(packet(Mac::BROADCAST, station(0), b"all"));
    sender.send(packet(station(3), station(0), b"one"));
    assert!(here.receive().is_some() && here.receive().is_some());
    assert!(there.receive().is_none());
}

#[test]
fn a_forged_source_is_dropped_and_hijacks_nothing() {
    let network = network(BOUND);
    let victim = network.attach(config(3), || {}).unwrap();
    let hostile = network.attach(config(4), || {}).unwrap();
    let other = network.attach(config(5), || {}).unwrap();
    hostile.send(packet(station(5), station(3), b"I am the victim"));
    hostile.send(packet(station(5), Mac::BROADCAST, b"I am everybody"));
    assert!(other.receive().is_none());
    assert_eq!((hostile.counts().forged, hostile.counts().sent), (2, 0));
    other.send(packet(station(3), station(5), b"for the victim"));
    assert!(hostile.receive().is_none());
    assert!(victim.receive().is_some());
}

#[test]
fn impossible_ports_are_refused_in_words() {
    let network = network(BOUND);
    let refused = |mac| {
        let config = PortConfig::station(mac);
        network.attach(config, || {}).map(drop).unwrap_err()
    };
    assert_eq!(
        refused(Mac::BROADCAST),
        AttachError::NoStation(Mac::BROADCAST)
    );
    assert_eq!(refused(Mac([0; 6])), AttachError::NoStation(Mac([0; 6])));
    let _ports: Vec<_> = (0..PORTS)
        .map(|index| network.attach(config(index), || {}).unwrap())
        .collect();
    assert_eq!(
        refused(station(2)).to_string(),
        "another port of network test has the address 02:4d:00:00:00:02"
    );
    assert_eq!(
        refused(station(50)).to_string(),
        "network test has no more than 6 ports"
    );
}

/// Full load from several threads, and ports that come and go meanwhile: nothing is lost that no
/// bound says, nothing is told twice, and each sender's packets keep their order.
#[test]
fn nothing_is_lost_between_threads() {
    const PACKETS: u32 = 20_000;
    let network = network(usize::MAX);
    let woken = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&woken);
    let wake = move || {
        count.fetch_add(1, Ordering::SeqCst);
    };
    let receiver = network.attach(config(3), wake).unwrap();
    std::thread::scope(|scope| {
        for index in [4, 5] {
            let network = &network;
            scope.spawn(move || {
                let port = network.attach(config(index), || {}).unwrap();
                for number in 0..PACKETS {
                    port.send(packet(station(3), station(index), &number.to_le_bytes()));
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..500 {
                drop(network.attach(config(0), || {}).unwrap());
            }
        });
        let mut next = BTreeMap::from([(station(4), 0), (station(5), 0)]);
        let mut taken = 0;
        while taken < 2 * PACKETS {
            let Some(packet) = receiver.receive() else {
                std::thread::yield_now();
                continue;
            };
            let bytes = bytes_of(&packet);
            let number = u32::from_le_bytes(bytes[14..].try_into().unwrap());
            let expected = next.get_mut(&packet.source()).unwrap();
            assert_eq!(number, *expected);
            *expected += 1;
            taken += 1;
        }
    });
    assert!(receiver.receive().is_none());
    assert_eq!(receiver.counts().dropped(), 0);
    let woken = woken.load(Ordering::SeqCst);
    assert!((1..=2 * PACKETS).contains(&woken));
}
