//! Nodes to the typed experiment, field by field: the head of the file, machine and images.

mod curves;
mod expect;
mod guests;
mod mechanisms;
mod phases;
mod repeat;
mod results;

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::describe::{Field, Map, Shape};
use super::model::{
    Capability, CpuList, EmulatedClock, Estimate, Expectation, Experiment, GuestGroup, ImageSource,
    KsmSpec, MachineSpec, MechanismSet, Metrics, Outputs, Phases, Repeat, ScannerSpec, TimedEvent,
};
use super::networks::Networks;
use super::policy::PolicySpec;
use super::reader::{At, Fields, FromMap, FromNode, Word, from_map};
use super::sweep::Sweep;
use super::text::{Node, Value};
use super::units::{Size, Switch, Time};
use mechanisms::{Sharing, matrix};
use mirrorball_report::figure::PublishedFigure;

from_map!(Experiment, Estimate, MachineSpec, ImageSource);

impl FromMap for Experiment {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<u32>("version", "version of the format; 1"),
            Field::needed::<Name>("name", "names the results folder"),
            Field::maybe::<String>("title", "none", "title of the figures"),
            Field::maybe::<String>("question", "none", "for readers; copied to `run.json`"),
            Field::or::<u64>("seed", "1", "all randomness comes from it"),
            Field::maybe::<Estimate>(
                "estimate",
                "none",
                "for readers; the time is shown when a run starts",
            ),
            Field::needed::<MachineSpec>("machine", "what the machine must have"),
            Field::maybe::<PolicySpec>(
                "policy",
                "nothing is taken back, and a run that needs more than `machine.memory` fails",
                "how guests are treated that want more memory than `machine.memory`",
            ),
            Field::maybe::<Images>(
                "images",
                "no images",
                "disk images, by an id of your choice",
            ),
            Field::maybe::<Networks>(
                "networks",
                "no networks",
                "virtual networks, by an id of your choice",
            ),
            Field::needed::<Vec<GuestGroup>>("guests", "groups of guests that are alike"),
            Field::maybe::<Sharing>(
                "sharing",
                "all but KSM",
                "one mechanism set of your own; not with `matrix`",
            ),
            Field::maybe::<Vec<MechanismSet>>(
                "matrix",
                "one cell, `all`",
                "mechanism sets to compare; each is a cell",
            ),
            Field::maybe::<Sweep>(
                "sweep",
                "none",
                "how fields change from cell to cell; one block, or a list of them",
            ),
            Field::or::<ScannerSpec>("scanner", "{}", "for cells with `zero` or `content`"),
            Field::or::<KsmSpec>("ksm", "{}", "for cells with `ksm`; KSM's own names"),
            Field::or::<Phases>(
                "phases",
                "[]",
                "in the order `start`, `workload`, `settle`, `stop`, each at most once; one that is left out has its defaults",
            ),
            Field::or::<Vec<TimedEvent>>(
                "timeline",
                "[]",
                "what happens while the workload runs, in this order",
            ),
            Field::or::<Repeat>(
                "repeat",
                "{}",
                "how often each cell is run, and in which order",
            ),
            Field::or::<Metrics>("metrics", "{ sample: 100 ms }", "what is sampled when"),
            Field::or::<Vec<PublishedFigure>>(
                "curves",
                "[]",
                "figures of papers, drawn beside ours",
            ),
            Field::or::<Vec<Expectation>>("expect", "[]", "what the figures should be"),
            Field::or::<Outputs>("outputs", "{ directory: results/runs }", "where results go"),
        ];
        Map::new("experiment", "An experiment file of Mirrorball", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        check_version(fields);
        let sweep = fields.get::<Sweep>("sweep");
        let name = fields.get::<Name>("name");
        let machine = fields.get("machine");
        let experiment = Self {
            version: 1,
            name: name.map(|name| name.0).unwrap_or_default(),
            title: fields.get("title"),
            question: fields.get("question"),
            seed: fields.get("seed")?,
            estimate: fields.get("estimate"),
            machine: machine.unwrap_or(MachineSpec {
                memory: Size(u64::MAX),
                requires: Vec::new(),
                cpus: None,
                numa_node: None,
                large_pages: false,
                emulated_clock: EmulatedClock::Real,
            }),
            policy: fields.get("policy"),
            images: fields.get::<Images>("images").unwrap_or_default().0,
            networks: fields.get::<Networks>("networks").unwrap_or_default().0,
            guests: fields.get("guests").unwrap_or_default(),
            matrix: matrix(fields),
            sweep,
            scanner: fields.get("scanner")?,
            ksm: fields.get("ksm")?,
            phases: fields.get("phases")?,
            timeline: fields.get("timeline")?,
            repeat: fields.get("repeat")?,
            metrics: fields.get("metrics")?,
            curves: fields.get("curves")?,
            expect: fields.get("expect")?,
            outputs: fields.get("outputs")?,
        };
        not_empty(fields, "guests", "at least one guest group");
        Some(experiment)
    }
}

/// There is one version of the format so far.
pub(super) fn check_version(fields: &Fields<'_>) {
    let version = fields.get::<u32>("version");
    if let Some(other) = version.filter(|version| *version != 1)
        && let Some((at, _)) = fields.node("version")
    {
        let problem = at.problem(format!("version {other} is not known"));
        at.report::<()>(problem.expected("1"));
    }
}

/// A short name that is also a file name.
pub(in crate::spec) struct Name(pub(in crate::spec) String);

impl FromNode for Name {
    fn shape() -> Shape {
        Shape::Text {
            name: "name",
            pattern: "^[A-Za-z0-9_-]{1,64}$",
        }
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let name = String::from_node(at, node)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.len() > 64 || !name.chars().all(allowed) {
            let problem = at.problem(format!("`{name}` can't be a part of file names"));
            return at.report(problem.expected("at most 64 letters, digits, `-` and `_`"));
        }
        Some(Self(name))
    }
}

impl FromMap for Estimate {
    fn map() -> Map {
        let fields = vec![
            Field::maybe::<Time>("time", "none", "of all runs, after compilation"),
            Field::maybe::<Size>("memory", "none", "machine memory at most"),
            Field::maybe::<Size>("disk", "none", "images and results"),
        ];
        Map::new("estimate", "What an experiment takes", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        Some(Self {
            time: fields.get("time"),
            memory: fields.get("memory"),
            disk: fields.get("disk"),
        })
    }
}

impl FromMap for MachineSpec {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<Size>(
                "memory",
                "budget of machine memory: private pages and frames of all guests by the books. Looked at twice a second while guests start and work; above it the run fails (class `memory`), unless there is a `policy` to keep to it. More than the host has is a host error. What KSM saved is not subtracted here, and the monitor's own memory is not counted",
            ),
            Field::or::<Vec<Capability>>(
                "requires",
                "[]",
                "what is missing ends the command before anything starts, with exit code 4; `kvm` is always required",
            ),
            Field::maybe::<CpuList>(
                "cpus",
                "all that this process may have",
                "CPUs of the host that everything but ksmd runs on",
            ),
            Field::maybe::<u32>(
                "numa-node",
                "all nodes",
                "the host's NUMA node: everything but ksmd runs on its CPUs, and takes its memory there as long as there is any",
            ),
            Field::or::<Switch>(
                "large-pages",
                "off",
                "let the kernel back guests' private memory by pages of 2 MiB until parts of them are shared: guests take fewer faults and more memory ([large-pages.md](mechanisms/large-pages.md)). Without effect where the host can't track writes",
            ),
            Field::or::<EmulatedClock>(
                "emulated-clock",
                "real",
                "what time is on an emulated host ([emulated-host.md](emulated-host.md)); `--host-clock` comes before it, and elsewhere it has no effect",
            ),
        ];
        Map::new("machine", "What the machine must have", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        Some(Self {
            memory: fields.get("memory").unwrap_or(Size(u64::MAX)),
            requires: fields.get("requires")?,
            cpus: fields.get("cpus"),
            numa_node: fields.get("numa-node"),
            large_pages: fields.get::<Switch>("large-pages")?.0,
            emulated_clock: fields.get("emulated-clock")?,
        })
    }
}

impl Word for EmulatedClock {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        ("real", Self::Real, "this machine's"),
        (
            "instructions",
            Self::Instructions,
            "instructions executed, at 2 ns each: the same whatever else this machine does, and several times slower",
        ),
    ];
}

impl Word for Capability {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        ("kvm", Self::Kvm, "`/dev/kvm` that may be opened"),
        ("ksm", Self::Ksm, "KSM that may be set"),
        (
            "pagemap-scan",
            Self::PagemapScan,
            "`PAGEMAP_SCAN` (Linux 6.7)",
        ),
        (
            "userfaultfd",
            Self::Userfaultfd,
            "write tracking through userfaultfd",
        ),
        ("root", Self::Root, "being root"),
    ];
}

/// Images by their ids.
#[derive(Default)]
struct Images(BTreeMap<String, ImageSource>);

impl FromNode for Images {
    fn shape() -> Shape {
        Shape::ById(Box::new(ImageSource::shape()))
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let entries = at.entries(node, "a map from an image's id to its source")?;
        let read = |(at, key, node): (At<'_>, &super::text::Key, &Node)| {
            Some((key.name.clone(), ImageSource::from_node(&at, node)?))
        };
        Some(Self(entries.into_iter().filter_map(read).collect()))
    }
}

/// Sources that are known by a word.
#[derive(Clone, Copy)]
struct KnownSources;

impl Word for KnownSources {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[(
        "cargo-registry",
        Self,
        "the dependency sources that `Cargo.lock` pins, below `/src`",
    )];
}

impl FromMap for ImageSource {
    fn map() -> Map {
        let fields = vec![
            Field::maybe::<KnownSources>(
                "sources",
                "another source",
                "the dependency sources that `Cargo.lock` pins, below `/src`",
            ),
            // Tens of MB are wanted, and 32 MiB of small files make an image that builds in a second.
            Field::or::<Size>(
                "limit",
                "32 MiB",
                "with `sources` only: most bytes of files; 1 MiB to 1 GiB",
            ),
            Field::maybe::<String>("directory", "another source", "the files of a folder"),
            Field::maybe::<String>(
                "file",
                "another source",
                "an ext4 image as it is; refused if it is no ext4, cut off, or not unmounted cleanly",
            ),
        ];
        let about = "Where a disk image comes from; paths are relative to the experiment file";
        Map::new("image", about, fields).one_of(&["sources", "directory", "file"])
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let limit = fields.get("limit")?;
        if let (Some((at, _)), false) = (fields.node("limit"), fields.has("sources")) {
            let problem = at.problem("`limit` is for `sources` only");
            return at.report(problem.expected("no `limit`"));
        }
        let path = |name| fields.get::<String>(name).map(PathBuf::from);
        let sources = fields.get::<KnownSources>("sources");
        sources
            .map(|_| Self::CargoRegistry { limit })
            .or_else(|| path("directory").map(Self::Directory))
            .or_else(|| path("file").map(Self::File))
    }
}

/// Reports a list that was written but holds nothing.
fn not_empty(fields: &Fields<'_>, name: &'static str, expected: &str) {
    if let Some((at, node)) = fields.node(name)
        && let Value::List(items) = &node.value
        && items.is_empty()
    {
        at.report::<()>(at.problem(format!("`{name}` is empty")).expected(expected));
    }
}
