//! The virtual networks of one run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use mirrorball_monitor::VmNetwork;
use mirrorball_monitor::uplink::Uplink;
use mirrorball_virtio::{MOST_PAIRS, NetConfig, NetStats};
use mirrorball_vnet::{Capture, MOST_PORTS, Mac, Network, NetworkConfig, PortConfig};

use super::RunError;
use crate::spec::{Experiment, GuestNetwork, NetworkSpec};

/// Bytes of each packet that a capture keeps: more than any protocol's headers, and no whole files.
const CAPTURED: usize = 256;

/// The networks by their ids, and the addresses given out.
#[derive(Debug)]
pub(super) struct Networks {
    networks: BTreeMap<String, (Arc<Network>, NetworkSpec)>,
    uplinks: Vec<Uplink>,
    captures: Vec<Arc<Capture>>,
    seed: u64,
    given: u32,
}

impl Networks {
    /// The networks of an experiment, without guests; captures go to a folder of the results'.
    ///
    /// # Errors
    /// A capture's file can't be made, or an uplink's TAP device not be had.
    pub(super) fn new(
        experiment: &Experiment,
        folder: &Path,
        label: &str,
    ) -> Result<Self, RunError> {
        let mut made = Self {
            networks: BTreeMap::new(),
            uplinks: Vec::new(),
            captures: Vec::new(),
            seed: experiment.seed,
            given: 0,
        };
        for (id, spec) in &experiment.networks {
            let config = NetworkConfig {
                ports: MOST_PORTS,
                bounds: spec.bounds(),
            };
            let network = Network::new(id, &config);
            if spec.capture.0 {
                let capture = capture(folder, label, id).map_err(RunError::Capture)?;
                network.set_capture(Arc::clone(&capture));
                made.captures.push(capture);
            }
            if let Some(tap) = &spec.uplink {
                // Guests' addresses count up from 1, those of uplinks down.
                let number = u32::try_from(made.uplinks.len()).unwrap_or(0);
                let mac = Mac::numbered(u32::MAX - number);
                made.uplinks.push(Uplink::start(&network, tap, mac)?);
            }
            made.networks.insert(id.clone(), (network, spec.clone()));
        }
        Ok(made)
    }

    /// The next guest's place; it may use a pair of queues for each vCPU.
    ///
    /// # Errors
    /// There is no such network.
    pub(super) fn place(
        &mut self,
        place: Option<&GuestNetwork>,
        vcpus: u32,
    ) -> Result<Option<VmNetwork>, RunError> {
        let Some(place) = place else {
            return Ok(None);
        };
        let found = self.networks.get(&place.name);
        let (network, spec) = found.ok_or_else(|| RunError::NoNetwork(place.name.clone()))?;
        self.given += 1;
        let mac = place
            .mac
            .map_or(Mac::numbered(self.given), |address| address.0);
        let config = NetConfig {
            port: PortConfig {
                limits: place.limits(self.seed, self.given),
                ..PortConfig::station(mac)
            },
            mtu: spec.mtu,
            transfer: spec.transfer,
            pairs: u16::try_from(vcpus)
                .unwrap_or(MOST_PAIRS)
                .clamp(1, MOST_PAIRS),
        };
        Ok(Some(VmNetwork {
            network: Arc::clone(network),
            config,
        }))
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        self.uplinks.clear();
        for capture in &self.captures {
            if capture.flush().is_err() || capture.failed() {
                tracing::warn!("a capture is not complete");
            }
        }
    }
}

/// What was lost at a guest's network device, in words; `None` when nothing was.
pub(super) fn lost(guest: &str, stats: &NetStats) -> Option<String> {
    let port = &stats.port;
    let kinds = [
        ("for a full queue", port.full),
        ("with a forged address", port.forged),
        ("to nobody", port.nobody),
        ("while the link was down", port.down),
        ("for its own limits", port.limited),
        ("too large for its buffers", stats.unfit),
        ("malformed", stats.malformed),
    ];
    let lost = kinds.iter().filter(|(_, packets)| *packets > 0);
    let lost: Vec<_> = lost
        .map(|(why, packets)| format!("{packets} {why}"))
        .collect();
    (!lost.is_empty()).then(|| format!("{guest}: packets lost: {}", lost.join(", ")))
}

fn capture(folder: &Path, label: &str, id: &str) -> std::io::Result<Arc<Capture>> {
    let folder = folder.join("captures");
    std::fs::create_dir_all(&folder)?;
    let file = File::create(folder.join(format!("{label}-{id}.pcapng")))?;
    Ok(Arc::new(Capture::begin(
        Box::new(BufWriter::new(file)),
        id,
        CAPTURED,
    )?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_packets_are_told_by_their_reason() {
        let mut stats = NetStats::default();
        assert_eq!(lost("a-1", &stats), None);
        stats.port.full = 3;
        stats.unfit = 1;
        assert_eq!(
            lost("a-1", &stats).unwrap(),
            "a-1: packets lost: 3 for a full queue, 1 too large for its buffers"
        );
    }
}
