//! Nodes to the typed experiment, field by field: the head of the file, machine and images.

mod guests;
mod mechanisms;
mod phases;
mod results;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::model::{
    Capability, Estimate, Experiment, ImageSource, KsmSpec, MachineSpec, Metrics, Outputs, Phases,
    Repeat, RunOrder, ScannerSpec, Sweep,
};
use super::reader::{At, Fields, FromNode};
use super::text::{Node, Value};
use super::units::{Size, Time};
use mechanisms::{matrix, points};

/// Most bytes of dependency sources in an image, if the file does not say: tens of MB are wanted,
/// and 32 MiB of small files make an image that builds in a second.
const DEFAULT_SOURCES: Size = Size(32 << 20);

impl FromNode for Experiment {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(
            node,
            "an experiment: a map with `version`, `name`, `machine`, `guests`",
        )?;
        check_version(&fields);
        let sweep = fields.get::<Sweep>("sweep");
        let experiment = Self {
            version: 1,
            name: fields
                .need::<Name>("name")
                .map(|name| name.0)
                .unwrap_or_default(),
            title: fields.get("title"),
            question: fields.get("question"),
            seed: fields.or("seed", 1),
            estimate: fields.get("estimate"),
            machine: fields.need("machine").unwrap_or(MachineSpec {
                memory: Size(u64::MAX),
                requires: Vec::new(),
            }),
            images: images(&fields),
            guests: fields.need("guests").unwrap_or_default(),
            matrix: points(matrix(&fields), sweep.as_ref()),
            sweep,
            scanner: fields.or("scanner", ScannerSpec::default()),
            ksm: fields.or("ksm", KsmSpec::default()),
            phases: fields.or("phases", Phases::default()),
            timeline: fields.or("timeline", Vec::new()),
            repeat: fields.or(
                "repeat",
                Repeat {
                    runs: 1,
                    order: RunOrder::Interleaved,
                },
            ),
            metrics: fields.or(
                "metrics",
                Metrics {
                    sample: Time(Duration::from_millis(100)),
                },
            ),
            expect: fields.or("expect", Vec::new()),
            outputs: fields.or(
                "outputs",
                Outputs {
                    directory: PathBuf::from("results/runs"),
                },
            ),
        };
        not_empty(&fields, "guests", "at least one guest group");
        fields.finish();
        Some(experiment)
    }
}

/// There is one version of the format so far.
fn check_version(fields: &Fields<'_>) {
    let version = fields.need::<u32>("version");
    if let Some(other) = version.filter(|version| *version != 1)
        && let Some((at, _)) = fields.node("version")
    {
        let problem = at.problem(format!("version {other} is not known"));
        at.report::<()>(problem.expected("1"));
    }
}

/// A short name that is also a file name.
struct Name(String);

impl FromNode for Name {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let name = String::from_node(at, node)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.len() > 64 || !name.chars().all(allowed) {
            let problem = at.problem(format!("`{name}` is used as a file name"));
            return at.report(problem.expected("at most 64 letters, digits, `-` and `_`"));
        }
        Some(Self(name))
    }
}

impl FromNode for Estimate {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `time`, `memory`, `disk`")?;
        let estimate = Self {
            time: fields.get("time"),
            memory: fields.get("memory"),
            disk: fields.get("disk"),
        };
        fields.finish();
        Some(estimate)
    }
}

impl FromNode for MachineSpec {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `memory` and `requires`")?;
        let machine = Self {
            memory: fields.need("memory").unwrap_or(Size(u64::MAX)),
            requires: fields.or("requires", Vec::new()),
        };
        fields.finish();
        Some(machine)
    }
}

impl FromNode for Capability {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        at.word(
            node,
            &[
                ("kvm", Self::Kvm),
                ("ksm", Self::Ksm),
                ("pagemap-scan", Self::PagemapScan),
                ("userfaultfd", Self::Userfaultfd),
                ("root", Self::Root),
            ],
        )
    }
}

fn images(fields: &Fields<'_>) -> BTreeMap<String, ImageSource> {
    let mut images = BTreeMap::new();
    let Some((at, node)) = fields.node("images") else {
        return images;
    };
    let Some(entries) = at.fields(node, "a map from an image's id to its source") else {
        return images;
    };
    for (key, node) in entries.entries() {
        let at = at.below(at.path_of(&key.name), node);
        if let Some(source) = ImageSource::from_node(&at, node) {
            images.insert(key.name.clone(), source);
        }
    }
    images
}

impl FromNode for ImageSource {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        const EXPECTED: &str = "one of `sources: cargo-registry`, `directory: PATH`, `file: PATH`";
        let fields = at.fields(node, EXPECTED)?;
        let sources = match fields.node("sources") {
            Some((at, node)) => at.word(node, &[("cargo-registry", ())]),
            None => None,
        };
        let limit = fields.or("limit", DEFAULT_SOURCES);
        let directory = fields
            .get::<String>("directory")
            .map(|path| Self::Directory(path.into()));
        let file = fields
            .get::<String>("file")
            .map(|path| Self::File(path.into()));
        fields.need_one_of(&["sources", "directory", "file"], "sources", EXPECTED)?;
        if fields.has("limit") && !fields.has("sources") {
            return at.report(
                at.problem("`limit` is for `sources` only")
                    .expected("no `limit`"),
            );
        }
        fields.finish();
        sources
            .map(|()| Self::CargoRegistry { limit })
            .or(directory)
            .or(file)
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
