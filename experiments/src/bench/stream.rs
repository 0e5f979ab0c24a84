//! A stream from one thin guest to another: pages moved by mapping against the same copied, and
//! against the same guests' traffic through the host, two TAP devices on a bridge.

use std::sync::Arc;
use std::time::Instant;

use mirrorball_abi::WorkloadKind;
use mirrorball_monitor::VmNetwork;
use mirrorball_monitor::uplink::Uplink;
use mirrorball_virtio::{NetConfig, Transfer};
use mirrorball_vnet::{Mac, Network, NetworkConfig, PortConfig};

use super::bridge::{self, Bridge};
use super::rig::{self, Rig};
use super::{Bench, BenchError, Log, Row, Wanted};

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "stream",
    what: "throughput from a guest to another, pages mapped, copied, and over a Linux bridge",
    measure,
};

/// Bytes of a stream.
const BYTES: u64 = 1 << 30;
/// Pages of 64 KiB.
const PAGES: u64 = 16;
/// Pages of the longest message that an Ethernet device of Linux's carries (its MTU is below 64 KiB).
const BRIDGED_PAGES: u64 = 15;
/// Memory of each guest.
const MEMORY: u64 = 64 << 20;
/// As fast as copying, within noise.
const NOISE: f64 = 0.95;
/// The roles of the workload.
const SENDS: u64 = 1;
const RECEIVES: u64 = 2;
/// The largest that TAP devices take (`MAX_MTU` less a header, drivers/net/tun.c).
const LONGEST_MTU: &str = "65521";

/// One stream.
#[derive(Clone, Copy)]
struct Stream {
    bytes: u64,
    pages: u64,
    /// Percent of pages that the sender writes before each message.
    written: u64,
}

/// Streams of each kind in one run, in turns: what else the host does, and where it puts threads, changes
/// within seconds, and is to meet all kinds alike.
const TURNS: usize = 6;

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    let wanted = Wanted::AtLeast(1.0);
    for _ in 0..log.runs {
        for (id, what, written, wish) in [
            (
                "stream",
                "pages mapped over copied, 64 KiB messages, unchanged pages",
                0,
                Some(wanted),
            ),
            (
                "stream-written",
                "the same, all pages written before each message",
                100,
                None,
            ),
        ] {
            let stream = Stream {
                bytes: BYTES,
                pages: PAGES,
                written,
            };
            let [mapped, copied, by_cost] = in_turns([
                &|| switched(Transfer::Always, stream),
                &|| switched(Transfer::Never, stream),
                &|| switched(Transfer::Cost, stream),
            ])?;
            let row = Row {
                wanted: wish,
                ..Row::detail(id, what, "")
            };
            log.add(&row, mapped / copied);
            let mut rate = |name: &str, what, value| {
                log.add(&Row::detail(&format!("{id}-{name}"), what, "MiB/s"), value);
            };
            rate("mapped", "pages mapped", mapped);
            rate("copied", "pages copied", copied);
            rate("cost", "mapped or copied, by cost", by_cost);
            let what = "the default policy, by cost, over copied";
            let row = Row::new(&format!("{id}-by-cost"), what, "", Wanted::AtLeast(NOISE));
            log.add(&row, by_cost / copied);
        }
    }
    for _ in 0..log.runs {
        let stream = Stream {
            bytes: BYTES,
            pages: BRIDGED_PAGES,
            written: 0,
        };
        let [mapped, bridged] =
            in_turns([&|| switched(Transfer::Always, stream), &|| bridged(stream)])?;
        let what = "pages mapped over two TAP devices and a Linux bridge, 60 KiB messages";
        log.add(
            &Row::new("stream-bridge", what, "", Wanted::AtLeast(2.0)),
            mapped / bridged,
        );
        log.add(
            &Row::detail("stream-bridged", "over the bridge", "MiB/s"),
            bridged,
        );
    }
    Ok(())
}

/// The rate of each kind, MiB a second over all of its streams; each answers one stream's.
fn in_turns<const KINDS: usize>(
    kinds: [&dyn Fn() -> Result<f64, BenchError>; KINDS],
) -> Result<[f64; KINDS], BenchError> {
    // Streams are of one length: their time for a MiB is to be added, not their rates.
    let mut pace = [0.0; KINDS];
    for turn in 0..TURNS {
        for place in 0..KINDS {
            let kind = (turn + place) % KINDS;
            pace[kind] += kinds[kind]()?.recip();
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "a few turns")]
    Ok(pace.map(|pace| TURNS as f64 / pace))
}

fn place(network: &Arc<Network>, number: u32, transfer: Transfer) -> VmNetwork {
    let mac = Mac::numbered(number);
    VmNetwork {
        network: Arc::clone(network),
        config: NetConfig {
            port: PortConfig::station(mac),
            mtu: u16::MAX,
            transfer,
            pairs: 1,
        },
    }
}

/// MiB a second on one network.
fn switched(transfer: Transfer, stream: Stream) -> Result<f64, BenchError> {
    let network = Network::new("stream", &NetworkConfig::default());
    let places = vec![place(&network, 1, transfer), place(&network, 2, transfer)];
    throughput(&Rig::on_networks(places, MEMORY)?, stream)
}

/// MiB a second from one network to another, over TAP devices and a bridge.
fn bridged(stream: Stream) -> Result<f64, BenchError> {
    let names = bridge::tap_names();
    let networks = [0, 1].map(|_| Network::new("uplinked", &NetworkConfig::default()));
    let mut uplinks = Vec::new();
    for (number, (network, name)) in (100..).zip(networks.iter().zip(&names)) {
        let uplink = Uplink::start(network, name, Mac::numbered(number));
        uplinks.push(uplink.map_err(|error| BenchError(error.to_string()))?);
    }
    let bridge = Bridge::between(&names, LONGEST_MTU)?;
    let places = (1..).zip(&networks);
    let places = places.map(|(number, network)| place(network, number, Transfer::Never));
    let rate = throughput(&Rig::on_networks(places.collect(), MEMORY)?, stream);
    drop(bridge);
    // The TAP devices go with their files.
    drop(uplinks);
    rate
}

/// MiB a second, from the command to the sender's end.
fn throughput(rig: &Rig, stream: Stream) -> Result<f64, BenchError> {
    let command = |role| {
        let params = [role, stream.bytes, stream.pages, stream.written];
        rig::workload(WorkloadKind::Stream, &params)
    };
    let [receiver, sender] = rig.vms() else {
        return Err(BenchError("a stream has two ends".into()));
    };
    let receives = receiver.command(&command(RECEIVES));
    let start = Instant::now();
    let status = rig::done(sender, sender.command(&command(SENDS)))?;
    let seconds = start.elapsed().as_secs_f64();
    rig::done(receiver, receives)?;
    if status.bytes < stream.bytes {
        let (sent, all) = (status.bytes, stream.bytes);
        return Err(BenchError(format!("{sent} of {all} bytes arrived")));
    }
    #[allow(clippy::cast_precision_loss, reason = "some gigabytes")]
    let mib = status.bytes as f64 / f64::from(1 << 20);
    Ok(mib / seconds)
}
