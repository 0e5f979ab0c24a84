//! Virtual networks, and the guests' places on them.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use mirrorball_monitor::uplink::LONGEST_NAME;
use mirrorball_virtio::Transfer;
use mirrorball_vnet::{Bounds, Limits, Mac};
use serde::{Serialize, Serializer};

use super::describe::{Field, Map, Shape};
use super::reader::{At, Fields, FromMap, FromNode, Word, from_map};
use super::text::{Key, Node};
use super::units::{Bandwidth, Count, Size, Switch, Time};

from_map!(NetworkSpec, GuestNetwork);

/// Least MTU that a device may tell (virtio 1.2, clause 5.1.4.1).
const LEAST_MTU: u32 = 68;

/// A virtual network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NetworkSpec {
    /// How whole pages get from guest to guest.
    #[serde(serialize_with = "word")]
    pub transfer: Transfer,
    /// Longest payload that guests are told to send.
    pub mtu: u16,
    /// Most bytes that wait from one guest for another.
    pub queue: Size,
    /// Whether all packets are written to a file.
    pub capture: Switch,
    /// Name of the host's TAP device that it is connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
}

impl NetworkSpec {
    /// What may wait from each guest for each other.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            bytes: usize::try_from(self.queue.0).unwrap_or(usize::MAX),
            ..Bounds::default()
        }
    }
}

fn word<S: Serializer>(transfer: &Transfer, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(transfer)
}

/// A guest's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestNetwork {
    /// Id of the network.
    pub name: String,
    /// The guest's address, if it is not to be one of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Address>,
    /// Bytes that each guest sends in a second at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Bandwidth>,
    /// Time that its packets take.
    pub delay: Time,
    /// Most that is added to that by chance.
    pub jitter: Time,
}

impl GuestNetwork {
    /// The limits of the place of the `number`th guest.
    #[must_use]
    pub fn limits(&self, seed: u64, number: u32) -> Option<Limits> {
        let limits = Limits {
            rate: self.rate.and_then(|rate| NonZeroU64::new(rate.0)),
            delay: self.delay.0,
            jitter: self.jitter.0,
            seed: seed ^ u64::from(number) << 32,
        };
        let limited = limits.rate.is_some() || !(limits.delay + limits.jitter).is_zero();
        limited.then_some(limits)
    }
}

/// An Ethernet address as a file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub Mac);

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl FromNode for Address {
    fn shape() -> Shape {
        Shape::Text {
            name: "Ethernet address",
            pattern: "^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$",
        }
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let text = String::from_node(at, node)?;
        match text.parse::<Mac>() {
            Ok(mac) => Some(Self(mac)),
            Err(_) => {
                let problem = at.problem(format!("`{text}` is no Ethernet address"));
                at.report(problem.expected("six bytes, such as `52:54:00:00:00:01`"))
            }
        }
    }
}

impl Word for Transfer {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        (
            "always",
            Self::Always,
            "each is mapped into the receiver wherever it meets a whole page there, and is one with the sender's",
        ),
        ("never", Self::Never, "all bytes are copied"),
        (
            "cost",
            Self::Cost,
            "mapped where it pays by what was measured: pages that stay with the receiver, not those whose room comes back at once",
        ),
    ];
}

impl FromMap for NetworkSpec {
    fn map() -> Map {
        let fields = vec![
            Field::or::<Transfer>(
                "transfer",
                "cost",
                "how whole pages get from guest to guest",
            ),
            Field::or::<Count>(
                "mtu",
                "65535",
                "longest payload that guests are told to send, 68 to 65535 bytes; thin guests send what fits the receiver's buffers",
            ),
            Field::or::<Size>(
                "queue",
                "16 MiB",
                "most that waits from one guest for another; what comes beyond is dropped and counted",
            ),
            Field::maybe::<String>(
                "uplink",
                "none",
                "name of a TAP device of the host's that the network is connected to; it is made if it is not there, which needs root. What the host does with it is the host's business",
            ),
            Field::or::<Switch>(
                "capture",
                "off",
                "every packet goes to `captures/<cell>-run<run>-<network>.pcapng` in the results folder",
            ),
        ];
        let about =
            "A virtual network, isolated from all others. Guests send with their own address only";
        Map::new("network", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (transfer, queue) = (fields.get("transfer"), fields.get("queue"));
        let (mtu, capture) = (fields.get::<Count>("mtu"), fields.get("capture"));
        let mtu = mtu?.0;
        let told = u16::try_from(mtu).ok().filter(|_| mtu >= LEAST_MTU);
        if let (None, Some((at, _))) = (told, fields.node("mtu")) {
            let problem = at.problem(format!("an MTU of {mtu} bytes"));
            at.report::<()>(problem.expected(format!("{LEAST_MTU} to {}", u16::MAX)));
        }
        Some(Self {
            transfer: transfer?,
            mtu: told?,
            queue: queue?,
            capture: capture?,
            uplink: uplink(fields),
        })
    }
}

/// The name of a TAP device.
fn uplink(fields: &Fields<'_>) -> Option<String> {
    let name = fields.get::<String>("uplink")?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
        let (at, _) = fields.node("uplink")?;
        let problem = at.problem(format!("`{name}` is no name of an interface"));
        return at.report(problem.expected(format!(
            "1 to {LONGEST_NAME} letters, digits, `-`, `_`, `.`, such as `tap0`"
        )));
    }
    Some(name)
}

impl FromMap for GuestNetwork {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<String>("name", "an id of `networks`"),
            Field::maybe::<Address>(
                "mac",
                "one of ours",
                "the guest's Ethernet address; for a single guest only. Those of others begin with `02:4d`",
            ),
            Field::maybe::<Bandwidth>(
                "rate",
                "no limit",
                "most that each guest of the group sends in a second",
            ),
            Field::or::<Time>(
                "delay",
                "0 s",
                "time that what it sends takes; what is on its way is bound by the network's `queue`",
            ),
            Field::or::<Time>(
                "jitter",
                "0 s",
                "most that is added to the delay by chance, by the experiment's seed; packets stay in order",
            ),
        ];
        Map::new("guest network", "A guest's place on a network", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (name, mac) = (fields.get("name"), fields.get("mac"));
        let (rate, delay, jitter) = (
            fields.get("rate"),
            fields.get("delay"),
            fields.get("jitter"),
        );
        Some(Self {
            name: name?,
            mac,
            rate,
            delay: delay?,
            jitter: jitter?,
        })
    }
}

/// Networks by their ids.
#[derive(Default)]
pub(super) struct Networks(pub(super) BTreeMap<String, NetworkSpec>);

impl FromNode for Networks {
    fn shape() -> Shape {
        Shape::ById(Box::new(NetworkSpec::shape()))
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let entries = at.entries(node, "a map from a network's id to what it is like")?;
        let read = |(at, key, node): (At<'_>, &Key, &Node)| {
            Some((key.name.clone(), NetworkSpec::from_node(&at, node)?))
        };
        Some(Self(entries.into_iter().filter_map(read).collect()))
    }
}
