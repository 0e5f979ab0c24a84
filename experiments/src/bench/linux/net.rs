//! A stream of TCP between two Linux guests: our switch against QEMU's network devices on a Linux
//! bridge, a TAP device for each guest. Both have Ethernet's usual MTU, and leave segments and
//! checksums to each other.

use std::path::Path;

use mirrorball_debian::Root;
use mirrorball_vnet::{Network, NetworkConfig};

use super::super::bridge::{self, Bridge};
use super::super::{Bench, BenchError, Log, Row, Wanted};
use super::guest::{Channel, Place, Plan, Talk};
use super::ours::Ours;
use super::qemu::Qemu;
use super::{image_for, scratch};

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "linux-net",
    what: "TCP between two Linux guests against two of QEMU's microvm on a Linux bridge",
    measure,
};

/// What the first guest runs: it goes on in the background.
const SERVE: &str = "iperf3 -s -D >/dev/null 2>&1";
/// What the second runs. The first second, in which windows open, does not count.
const STREAM: &str = "iperf3 -c 10.77.0.1 -t 5 -O 1 -J";

/// A root that has iperf3.
pub fn root() -> (Root, Option<u64>) {
    let packages = vec!["iperf3".to_owned()];
    let sources = Vec::new();
    (Root::Full { packages, sources }, Some(256 << 20))
}

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    let image = image_for(BENCH.id)?;
    let folder = scratch()?;
    let names = bridge::tap_names();
    let plan = |number: u32, command: &str| Plan {
        image: image.clone(),
        disks: Vec::new(),
        commands: vec![command.to_owned()],
        place: Some(Place {
            network: Network::new("bench", &NetworkConfig::default()),
            tap: names[number as usize - 1].clone(),
            number,
        }),
    };
    let plans = [plan(1, SERVE), plan(2, STREAM)];
    let folders = ["server", "client"].map(|name| folder.path().join(name));
    for (folder, plan) in folders.iter().zip(&plans) {
        std::fs::create_dir(folder).map_err(BenchError::of("no folder for a guest"))?;
        Qemu::initramfs(plan, folder)?;
    }
    for run in 0..log.runs {
        let (ours, theirs) = if run % 2 == 0 {
            let ours = ours(&plans, folder.path())?;
            (ours, qemu(&plans, &folders, &names)?)
        } else {
            let theirs = qemu(&plans, &folders, &names)?;
            (ours(&plans, folder.path())?, theirs)
        };
        let what = "TCP between two guests over that of QEMU microvm's on a bridge";
        let row = Row::new("linux-net", what, "", Wanted::AtLeast(1.0));
        log.add(&row, ours / theirs);
        let row = Row::detail("linux-net-ours", "TCP between two guests of ours", "MiB/s");
        log.add(&row, ours);
        let row = Row::detail(
            "linux-net-qemu",
            "TCP between two guests of QEMU's",
            "MiB/s",
        );
        log.add(&row, theirs);
    }
    Ok(())
}

fn ours(plans: &[Plan; 2], folder: &Path) -> Result<f64, BenchError> {
    let network = Network::new("bench", &NetworkConfig::default());
    let machine = Ours::new(true, true, folder)?;
    let talks = plans.clone().map(|mut plan| {
        if let Some(place) = &mut plan.place {
            place.network = network.clone();
        }
        machine.start(&plan)
    });
    let [server, client] = talks;
    let (rate, channels) = stream(server?, client?)?;
    for channel in channels {
        channel.wait_off()?;
    }
    Ok(rate)
}

fn qemu(
    plans: &[Plan; 2],
    folders: &[std::path::PathBuf; 2],
    names: &[String; 2],
) -> Result<f64, BenchError> {
    let bridge = Bridge::with_taps(names)?;
    let server = Qemu::start(&plans[0], &folders[0])?;
    let client = Qemu::start(&plans[1], &folders[1])?;
    let (rate, channels) = stream(server, client)?;
    for mut channel in channels {
        channel.wait_off()?;
    }
    drop(bridge);
    Ok(rate)
}

/// MiB each second that a client's stream to its server had, and both guests' channels; they were told
/// to power off.
fn stream<C: Channel>(
    mut server: Talk<C>,
    mut client: Talk<C>,
) -> Result<(f64, [C; 2]), BenchError> {
    server.ready()?;
    client.ready()?;
    server.go()?;
    server.done()?;
    client.go()?;
    let said = client.done()?;
    let rate = rate(said.first().map_or(&[][..], |record| &record.output))?;
    Ok((rate, [server.off()?, client.off()?]))
}

/// What the receiver had, as iperf3 says it.
fn rate(output: &[u8]) -> Result<f64, BenchError> {
    let report: Option<serde_json::Value> = serde_json::from_slice(output).ok();
    let bits = report.and_then(|report| report["end"]["sum_received"]["bits_per_second"].as_f64());
    let bits = bits.filter(|bits| *bits > 0.0);
    bits.map(|bits| bits / 8.0 / f64::from(1 << 20))
        .ok_or_else(|| {
            let said = String::from_utf8_lossy(output);
            BenchError(format!("iperf3 told no rate: {}", said.trim()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_receivers() {
        let text = r#"{"end": {"sum_sent": {"bits_per_second": 1e12}, "sum_received": {"bits_per_second": 838860800}}}"#;
        assert_eq!(rate(text.as_bytes()).unwrap(), 100.0);
        let error = rate(b"iperf3: error").unwrap_err();
        assert!(error.to_string().contains("iperf3: error"));
    }
}
