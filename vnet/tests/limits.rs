//! Ports with limits: what they send arrives later, whole and in order, or is counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may panic"
)]

use mirrorball_vnet::{
    Bounds, Limits, Mac, Network, NetworkConfig, Offload, Packet, Piece, Port, PortConfig,
};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn packet(from: u32, to: u32, bytes: usize) -> Packet {
    let mut all = [Mac::numbered(to).0, Mac::numbered(from).0].concat();
    all.resize(bytes, 0);
    Packet::new(vec![Piece::Bytes(all)], Offload::default()).unwrap()
}

fn network(bytes: usize) -> Arc<Network> {
    let bounds = Bounds {
        bytes,
        ..Bounds::default()
    };
    Network::new(
        "slow",
        &NetworkConfig {
            bounds,
            ..NetworkConfig::default()
        },
    )
}

/// A slow port with number 1, and one with number 2 that says when something comes.
fn pair(network: &Arc<Network>, limits: Limits) -> (Port, Port, Receiver<()>) {
    let config = PortConfig {
        limits: Some(limits),
        ..PortConfig::station(Mac::numbered(1))
    };
    let slow = network.attach(config, || {}).unwrap();
    let (came, wait) = channel();
    let wake = move || {
        let _ = came.send(());
    };
    let other = PortConfig::station(Mac::numbered(2));
    (slow, network.attach(other, wake).unwrap(), wait)
}

fn next(port: &Port, wait: &Receiver<()>) -> usize {
    loop {
        if let Some(packet) = port.receive() {
            return packet.bytes();
        }
        wait.recv_timeout(PATIENCE)
            .expect("a packet that was sent arrives");
    }
}

#[test]
fn late_packets_come_in_order_and_not_too_early() {
    let limits = Limits {
        rate: NonZeroU64::new(1_000_000),
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(5),
        seed: 9,
    };
    let network = network(1 << 20);
    let (slow, other, wait) = pair(&network, limits);
    let start = Instant::now();
    for bytes in 100..110 {
        slow.send(packet(1, 2, bytes * 10));
    }
    assert!(other.receive().is_none());
    let came: Vec<_> = (0..10).map(|_| next(&other, &wait)).collect();
    assert_eq!(came, (100..110).map(|bytes| bytes * 10).collect::<Vec<_>>());
    // Some ten thousand bytes at a million a second, and the delay.
    assert!(
        start.elapsed() >= Duration::from_millis(30),
        "{:?}",
        start.elapsed()
    );
    // The other way there are no limits: no thread is between.
    other.send(packet(2, 1, 60));
    assert_eq!(slow.receive().unwrap().bytes(), 60);
}

#[test]
fn what_has_no_room_on_its_way_is_counted() {
    let limits = Limits {
        delay: Duration::from_secs(3600),
        ..Limits::default()
    };
    let network = network(10_000);
    let (slow, other, _wait) = pair(&network, limits);
    for _ in 0..5 {
        slow.send(packet(1, 2, 3000));
    }
    assert_eq!((slow.counts().sent, slow.counts().limited), (3, 2));
    assert_eq!(slow.counts().dropped(), 2);
    // A port that leaves and a network that ends take what is on its way with them.
    drop(slow);
    drop(network);
    assert!(other.receive().is_none());
}
