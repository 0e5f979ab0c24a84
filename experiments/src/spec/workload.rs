//! The workloads' parameters: their names, units and positions in [`mirrorball_abi::Workload`].

use std::collections::BTreeMap;

use mirrorball_abi::WorkloadKind;

use super::describe::{Field, Map, Shape};
use super::model::WorkloadSpec;
use super::reader::{At, Fields, FromNode, Word};
use super::text::Node;
use super::units::{Percent, Size, Time};

/// How a parameter is written, and what the guest gets.
#[derive(Clone, Copy, Debug)]
enum Unit {
    /// A number, as it is.
    Number,
    /// A size, in bytes.
    Bytes,
    /// A size, in pages.
    Pages,
    /// A time, in microseconds.
    Micros,
    /// A time, in milliseconds.
    Millis,
    /// A percentage, in whole percent.
    Percent,
    /// Where files are.
    Place,
    /// Which files.
    Files,
    /// Which end of a stream.
    Role,
    /// Which end of an echo.
    End,
}

/// Where a workload's files are; the number is the guest's for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Disk = 1,
    Network = 2,
}

impl Word for Place {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        ("disk", Self::Disk, "on the guest's first disk"),
        (
            "network",
            Self::Network,
            "at a guest with `fileserver` on the same network",
        ),
    ];
}

/// Which of a disk's files are served; the number is the guest's for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Files {
    All = 1,
    Sources = 2,
}

impl Word for Files {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        ("all", Self::All, "all, the largest first"),
        ("sources", Self::Sources, "all but the table of `scan`"),
    ];
}

/// The ends of a stream; the number is the guest's for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Send = 1,
    Receive = 2,
}

impl Word for Role {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        ("send", Self::Send, "it sends"),
        ("receive", Self::Receive, "it receives"),
    ];
}

/// The ends of an echo; the number is the guest's for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Answer = 1,
    Ask = 2,
}

impl Word for End {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        ("answer", Self::Answer, "it gives back what comes"),
        ("ask", Self::Ask, "it sends, and verifies what comes back"),
    ];
}

/// A parameter: name, unit, default in words, purpose.
type Param = (&'static str, Unit, &'static str, &'static str);

/// A workload: name, kind, purpose and parameters, in the order of the guest interface.
type Workload = (&'static str, WorkloadKind, &'static str, &'static [Param]);

const WORKLOADS: &[Workload] = &[
    (
        "idle",
        WorkloadKind::Idle,
        "Nothing; it needs a `workload` phase with `for`",
        &[],
    ),
    (
        "pmake",
        WorkloadKind::Pmake,
        "A parallel make; it needs a disk with `scratch`",
        &[
            (
                "jobs",
                Unit::Number,
                "two for each vCPU",
                "files that are worked on at a time; at most 64",
            ),
            ("passes", Unit::Number, "1", "builds of everything"),
            ("files", Unit::Number, "all", "files to build"),
            ("pause", Unit::Micros, "none", "time between files"),
            (
                "source",
                Unit::Place,
                "disk",
                "where the sources are; objects are written to the disk",
            ),
        ],
    ),
    (
        "scan",
        WorkloadKind::Scan,
        "Aggregates over a table file; it needs a disk",
        &[
            ("passes", Unit::Number, "3", "times that the table is read"),
            (
                "table",
                Unit::Bytes,
                "the whole table",
                "bytes of it to read",
            ),
        ],
    ),
    (
        "splash",
        WorkloadKind::Splash,
        "A parallel radix sort over all vCPUs",
        &[
            ("keys", Unit::Number, "2^20 or what fits", "keys to sort"),
            ("passes", Unit::Number, "1", "sorts of new keys"),
        ],
    ),
    (
        "touch",
        WorkloadKind::Touch,
        "A working set that changes over time",
        &[
            (
                "working-set",
                Unit::Pages,
                "4 MiB",
                "memory that is touched; whole pages of 4 KiB",
            ),
            (
                "period",
                Unit::Millis,
                "1 s",
                "time in which all of it is touched once",
            ),
            ("moved", Unit::Percent, "10 %", "pages replaced each period"),
            ("written", Unit::Percent, "50 %", "touches that write"),
            ("zero", Unit::Percent, "0 %", "pages of zeros"),
            (
                "equal",
                Unit::Percent,
                "0 %",
                "pages equal in all guests of one seed",
            ),
            (
                "duration",
                Unit::Millis,
                "until asked to end",
                "when it ends by itself",
            ),
        ],
    ),
    (
        "torture",
        WorkloadKind::Torture,
        "Writes and verifies every byte; it needs a disk with `scratch`",
        &[
            ("pages", Unit::Number, "100,000", "pages to verify"),
            (
                "region",
                Unit::Pages,
                "a quarter of what is free",
                "memory that is worked on; whole pages of 4 KiB",
            ),
            (
                "blocks",
                Unit::Number,
                "256",
                "disk blocks that are worked on",
            ),
            (
                "equal",
                Unit::Percent,
                "50 %",
                "rewrites equal in all guests of one seed",
            ),
        ],
    ),
    (
        "fileserver",
        WorkloadKind::FileServer,
        "Serves its disk's files to guests with `fileclient`, until all have gone; it needs a disk and a network",
        &[
            (
                "clients",
                Unit::Number,
                "1",
                "clients that it waits for at least",
            ),
            ("most", Unit::Bytes, "all", "bytes of files to serve"),
            ("files", Unit::Files, "all", "which of the disk's files"),
        ],
    ),
    (
        "fileclient",
        WorkloadKind::FileClient,
        "Reads all files of a server into its own buffer cache and verifies every byte; it needs a network",
        &[
            (
                "passes",
                Unit::Number,
                "2",
                "times that all is read or, where it is in the cache, verified again",
            ),
            ("most", Unit::Bytes, "all", "bytes of files to read"),
            (
                "window",
                Unit::Number,
                "8",
                "requests under way at a time; at most 32",
            ),
        ],
    ),
    (
        "exchange",
        WorkloadKind::Exchange,
        "Messages of any length and alignment between guests, written to on both sides, and every byte verified; it needs a network",
        &[
            ("pages", Unit::Number, "100,000", "pages to verify"),
            (
                "guests",
                Unit::Number,
                "2",
                "guests that exchange messages, this one included",
            ),
            ("most", Unit::Bytes, "1 MiB", "longest message"),
            (
                "unchanged",
                Unit::Percent,
                "50 %",
                "messages from memory that was not written since the last",
            ),
        ],
    ),
    (
        "stream",
        WorkloadKind::Stream,
        "Messages from a sender to a receiver, as fast as they go; it needs a network with one of each",
        &[
            ("role", Unit::Role, "send", "which end this is"),
            ("bytes", Unit::Bytes, "1 GiB", "bytes to send"),
            (
                "pages",
                Unit::Number,
                "16",
                "pages of a message; at most 16",
            ),
            (
                "written",
                Unit::Percent,
                "0 %",
                "pages that are written before each message",
            ),
        ],
    ),
    (
        "echo",
        WorkloadKind::Echo,
        "TCP's echo service (port 7), with Linux or thin guests, and answers to pings; it needs a network",
        &[
            ("role", Unit::End, "answer", "which end this is"),
            (
                "connections",
                Unit::Number,
                "1",
                "connections that an answering end waits for",
            ),
            (
                "peer",
                Unit::Number,
                "1",
                "which guest is asked: the number of its address, 10.77.0.1 for 1",
            ),
            ("bytes", Unit::Bytes, "1 MiB", "bytes to send"),
        ],
    ),
    (
        "hostile",
        WorkloadKind::Hostile,
        "Attacks its devices",
        &[
            ("attacks", Unit::Number, "200", "how many"),
            (
                "which",
                Unit::Number,
                "all in turn",
                "only this attack, from 1",
            ),
            (
                "device",
                Unit::Number,
                "all",
                "only this device, by its virtio id: 1 network, 2 block, 3 console",
            ),
        ],
    ),
];

/// All workloads of the thin guest, each with what it does.
#[must_use]
pub fn workloads() -> Vec<(&'static str, &'static str)> {
    let all = WORKLOADS.iter();
    all.map(|(name, _, about, _)| (*name, *about)).collect()
}

/// The name of a workload.
#[derive(Clone, Copy)]
struct Name(usize);

impl FromNode for Name {
    fn shape() -> Shape {
        let words = WORKLOADS.iter().map(|(name, _, about, _)| (*name, *about));
        Shape::Words(words.collect())
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let names = WORKLOADS.iter().enumerate();
        let names = names.map(|(index, (name, ..))| (*name, Self(index)));
        at.word(node, &names.collect::<Vec<_>>())
    }
}

/// The description of a workload's map.
fn map((name, _, about, params): &Workload) -> Map {
    let common = [
        Field::needed::<Name>("name", "which workload"),
        Field::maybe::<u64>("seed", "the experiment's", "of this group's guests"),
        Field::maybe::<Percent>(
            "cache",
            "50 %",
            "most of the guest's memory for its buffer cache",
        ),
    ];
    let params = params
        .iter()
        .map(|(name, unit, default, about)| match unit {
            Unit::Number => Field::maybe::<u64>(name, default, about),
            Unit::Bytes | Unit::Pages => Field::maybe::<Size>(name, default, about),
            Unit::Micros | Unit::Millis => Field::maybe::<Time>(name, default, about),
            Unit::Percent => Field::maybe::<Percent>(name, default, about),
            Unit::Place => Field::maybe::<Place>(name, default, about),
            Unit::Files => Field::maybe::<Files>(name, default, about),
            Unit::Role => Field::maybe::<Role>(name, default, about),
            Unit::End => Field::maybe::<End>(name, default, about),
        });
    Map::new(name, about, common.into_iter().chain(params).collect())
}

impl WorkloadSpec {
    /// Whether its files are at a server on the network.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.named.get("source") == Some(&(Place::Network as u64))
    }
}

impl FromNode for WorkloadSpec {
    fn shape() -> Shape {
        Shape::Tagged {
            tag: "name",
            maps: WORKLOADS.iter().map(map).collect(),
        }
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        // The name first: it says which parameters there are.
        let name = at
            .fields(node, map(WORKLOADS.first()?))?
            .get::<Name>("name")?;
        let workload = WORKLOADS.get(name.0)?;
        let fields = at.again(node, map(workload))?;
        let (name, kind, _, params) = workload;
        let mut spec = Self {
            kind: *kind,
            name,
            seed: fields.get("seed"),
            cache_percent: 0,
            params: [0; 16],
            named: BTreeMap::new(),
        };
        if let Some(cache) = read(&fields, "cache", Unit::Percent) {
            spec.cache_percent = u32::try_from(cache).unwrap_or(0);
        }
        for (slot, (name, unit, ..)) in spec.params.iter_mut().zip(*params) {
            if let Some(value) = read(&fields, name, *unit) {
                *slot = value;
                spec.named.insert(name, value);
            }
        }
        fields.finish();
        Some(spec)
    }
}

fn read(fields: &Fields<'_>, name: &'static str, unit: Unit) -> Option<u64> {
    let time = |scale: u128| {
        let time = fields.get::<Time>(name)?.0;
        u64::try_from(time.as_nanos() / scale).ok()
    };
    let value = match unit {
        Unit::Number => fields.get::<u64>(name)?,
        Unit::Bytes => fields.get::<Size>(name)?.0,
        Unit::Pages => fields.get::<Size>(name)?.0 / 4096,
        Unit::Micros => time(1_000)?,
        Unit::Millis => time(1_000_000)?,
        Unit::Place => fields.get::<Place>(name)? as u64,
        Unit::Files => fields.get::<Files>(name)? as u64,
        Unit::Role => fields.get::<Role>(name)? as u64,
        Unit::End => fields.get::<End>(name)? as u64,
        Unit::Percent => {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "0 to 100, checked by Percent"
            )]
            let percent = fields.get::<Percent>(name)?.0.round() as u64;
            percent
        }
    };
    if value == 0 {
        let (at, _) = fields.node(name)?;
        let problem = at.problem("0 stands for the workload's own default");
        return at.report(problem.expected("a value over 0, or no such field"));
    }
    Some(value)
}
