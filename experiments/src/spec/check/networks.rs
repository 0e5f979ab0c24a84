//! Checks of networks and the guests' places on them.

use std::collections::BTreeMap;

use mirrorball_vnet::{MOST_PORTS, Mac};

use super::super::model::{Event, GuestGroup};
use super::super::networks::GuestNetwork;
use super::{Checks, list};

/// How the addresses begin that guests get who are given none.
const OURS: [u8; 2] = [0x02, 0x4d];

impl Checks<'_> {
    pub(super) fn networks(&mut self) {
        let (groups, networks) = (&self.experiment.guests, &self.experiment.networks);
        let mut ports: BTreeMap<&str, u64> = BTreeMap::new();
        let mut taken: Vec<(&str, Mac)> = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            let path = format!("guests[{index}]");
            let Some(network) = &group.network else {
                continue;
            };
            *ports.entry(network.name.as_str()).or_default() += u64::from(group.count);
            // By its mark: a network that could not be read is there all the same.
            if !self
                .marks
                .contains_key(&format!("networks.{}", network.name))
            {
                let known = networks.keys().map(String::as_str).collect::<Vec<_>>();
                let text = format!("there is no network `{}`", network.name);
                let problem = self.problem(&format!("{path}.network.name"), text);
                let problem = problem.expected(format!("an id of `networks`: {}", list(&known)));
                self.add(problem.nearest(&network.name, known));
            }
            self.address(&path, group, network, &mut taken);
            self.started(group, network);
        }
        for (name, spec) in networks {
            let asked = ports.get(name.as_str()).copied().unwrap_or(0);
            let path = format!("networks.{name}");
            if !ports.contains_key(name.as_str()) && !groups.is_empty() {
                let problem = self.problem(&path, "no guest is on this network");
                self.add(problem.expected("a guest with `network`, or no such network"));
            } else if asked > MOST_PORTS as u64 {
                let problem = self.problem(&path, format!("{asked} guests are on it"));
                self.add(problem.expected(format!("at most {MOST_PORTS}")));
            }
            if spec.queue.0 == 0 {
                let problem = self.problem(&format!("{path}.queue"), "nothing could wait");
                self.add(problem.expected("a size over 0"));
            }
        }
    }

    /// Whether the timeline starts a second guest with a first one's address.
    fn started(&mut self, group: &GuestGroup, network: &GuestNetwork) {
        if network.mac.is_none() {
            return;
        }
        let mut events: Vec<_> = self.experiment.timeline.iter().enumerate().collect();
        events.sort_by_key(|(_, timed)| timed.at);
        let mut there = group.count;
        for (index, timed) in events {
            match &timed.event {
                Event::StopGuests { guests, count } if *guests == group.id => {
                    there = there.saturating_sub(*count);
                }
                Event::StartGuests { guests, count } if *guests == group.id => {
                    there = there.saturating_add(*count);
                    if there > 1 {
                        let path = format!("timeline[{index}].start-guests");
                        let text = format!("then {there} guests have the one `mac` of `{guests}`");
                        let problem = self.problem(&path, text);
                        self.add(problem.expected("a group without `mac`, or one guest at a time"));
                    }
                }
                _ => {}
            }
        }
    }

    fn address<'a>(
        &mut self,
        path: &str,
        group: &GuestGroup,
        network: &'a GuestNetwork,
        taken: &mut Vec<(&'a str, Mac)>,
    ) {
        let Some(mac) = network.mac.map(|address| address.0) else {
            return;
        };
        let at = format!("{path}.network.mac");
        if !mac.is_station() {
            let what = if mac.is_multicast() {
                "a multicast address"
            } else {
                "nobody's address"
            };
            let problem = self.problem(&at, format!("`{mac}` is {what}"));
            self.add(problem.expected("the address of one guest, such as `52:54:00:00:00:01`"));
        } else if mac.0[..2] == OURS {
            let problem = self.problem(&at, format!("`{mac}` may be another guest's"));
            self.add(problem.expected("an address that does not begin with `02:4d`"));
        }
        if group.count > 1 {
            let problem = self.problem(&at, "several guests can't have one address");
            self.add(problem.expected("no `mac`, or a group of one guest"));
        }
        if taken.contains(&(network.name.as_str(), mac)) {
            let text = format!("`{mac}` was used before on network `{}`", network.name);
            let problem = self.problem(&at, text);
            self.add(problem.expected("an address of its own"));
        }
        taken.push((network.name.as_str(), mac));
    }
}
