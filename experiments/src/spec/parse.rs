//! Nodes to the typed experiment, field by field.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::model::{
    Bound, Capability, DiskMode, DiskSpec, Estimate, Event, Expectation, Experiment, GuestGroup, ImageSource,
    KsmSpec, MachineSpec, MechanismSet, Metrics, Outputs, Phases, Repeat, RunOrder, ScanOrder, ScannerSpec,
    Switchable, TimedEvent, WorkloadSpec,
};
use super::reader::{At, Fields, FromNode};
use super::text::{Node, Value};
use super::units::{Count, Size, Switch, Time};

/// Most bytes of dependency sources in an image, if the file does not say: tens of MB are wanted,
/// and 32 MiB of small files make an image that builds in a second.
const DEFAULT_SOURCES: Size = Size(32 << 20);

impl FromNode for Experiment {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "an experiment: a map with `version`, `name`, `machine`, `guests`")?;
        let version = fields.need::<u32>("version");
        if let Some(other) = version.filter(|version| *version != 1)
            && let Some((at, _)) = fields.node("version")
        {
            at.report::<()>(at.problem(format!("version {other} is not known")).expected("1"));
        }
        let experiment = Self {
            version: 1,
            name: fields.need::<Name>("name").map(|name| name.0).unwrap_or_default(),
            title: fields.get("title"),
            question: fields.get("question"),
            seed: fields.or("seed", 1),
            estimate: fields.get("estimate"),
            machine: fields
                .need("machine")
                .unwrap_or(MachineSpec { memory: Size(u64::MAX), requires: Vec::new() }),
            images: images(&fields),
            guests: fields.need("guests").unwrap_or_default(),
            matrix: matrix(&fields),
            scanner: fields.or("scanner", ScannerSpec::default()),
            ksm: fields.or("ksm", KsmSpec::default()),
            phases: fields.or("phases", Phases::default()),
            timeline: fields.or("timeline", Vec::new()),
            repeat: fields.or("repeat", Repeat { runs: 1, order: RunOrder::Interleaved }),
            metrics: fields.or("metrics", Metrics { sample: Time(Duration::from_millis(100)) }),
            expect: fields.or("expect", Vec::new()),
            outputs: fields.or("outputs", Outputs { directory: PathBuf::from("results/runs") }),
        };
        not_empty(&fields, "guests", "at least one guest group");
        fields.finish();
        Some(experiment)
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
        let estimate = Self { time: fields.get("time"), memory: fields.get("memory"), disk: fields.get("disk") };
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
    let Some((at, node)) = fields.node("images") else { return images };
    let Some(entries) = at.fields(node, "a map from an image's id to its source") else { return images };
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
        let directory = fields.get::<String>("directory").map(|path| Self::Directory(path.into()));
        let file = fields.get::<String>("file").map(|path| Self::File(path.into()));
        let given = ["sources", "directory", "file"].iter().filter(|name| fields.has(name)).count();
        if given != 1 {
            return at.report(at.problem(format!("{given} sources are given")).expected(EXPECTED));
        }
        if fields.has("limit") && !fields.has("sources") {
            return at.report(at.problem("`limit` is for `sources` only").expected("no `limit`"));
        }
        fields.finish();
        sources.map(|()| Self::CargoRegistry { limit }).or(directory).or(file)
    }
}

impl FromNode for GuestGroup {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `id`, `count`, `memory`, `workload`")?;
        if let Some((at, node)) = fields.node("kind") {
            at.word(node, &[("splash", ())]);
        }
        let (id, count) = (fields.need::<Name>("id"), fields.need::<Count>("count"));
        let vcpus = fields.or("vcpus", 1_u32);
        let memory = fields.need::<Size>("memory");
        let group = fields.or("group", 0);
        let disks = fields.or("disks", Vec::new());
        let stagger = fields.get::<Start>("start").map(|start| start.0).unwrap_or_default();
        let workload = fields.need::<WorkloadSpec>("workload");
        fields.finish();
        Some(Self {
            id: id?.0,
            count: count?.0,
            vcpus,
            memory: memory?,
            group,
            disks,
            stagger,
            workload: workload?,
        })
    }
}

/// How the guests of a group start.
struct Start(Time);

impl FromNode for Start {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `stagger`")?;
        let stagger = fields.need("stagger");
        fields.finish();
        stagger.map(Self)
    }
}

impl FromNode for DiskSpec {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `image`, `mode`, `scratch`")?;
        let image = fields.need("image");
        let mode = match fields.node("mode") {
            Some((at, node)) => at.word(
                node,
                &[("nonpersistent", DiskMode::Nonpersistent), ("persistent", DiskMode::Persistent)],
            ),
            None => Some(DiskMode::Nonpersistent),
        };
        let scratch = fields.or("scratch", Size(0));
        fields.finish();
        Some(Self { image: image?, mode: mode?, scratch })
    }
}

/// The mechanism sets: `matrix`, or the one of `sharing`.
fn matrix(fields: &Fields<'_>) -> Vec<MechanismSet> {
    let sharing = fields.get::<Sharing>("sharing").map(|sharing| sharing.0);
    let matrix = fields.get::<Vec<MechanismSet>>("matrix");
    if let (Some((at, _)), true) = (fields.node("sharing"), fields.has("matrix")) {
        let problem = at.problem("`sharing` and `matrix` both say which mechanisms are on");
        at.report::<()>(problem.expected("one of the two"));
    }
    not_empty(fields, "matrix", "at least one mechanism set");
    if fields.has("matrix") || fields.has("sharing") {
        return matrix.or_else(|| sharing.map(|set| vec![set])).unwrap_or_default();
    }
    vec![MechanismSet::new([true, true, true, false])]
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

impl FromNode for MechanismSet {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let words = Self::KNOWN;
        at.word(node, &words).map(Self::new)
    }
}

/// The mechanisms of an experiment without a matrix.
struct Sharing(MechanismSet);

impl FromNode for Sharing {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map of `disk`, `zero`, `content`, `ksm`, each `on` or `off`")?;
        let on = ["disk", "zero", "content", "ksm"].map(|name| fields.or(name, Switch(false)).0);
        fields.finish();
        let set = MechanismSet::new(on);
        if set.ksm && set.scans() {
            let problem = at.problem("two scanners on the same pages can't be told apart in the results");
            return at.report(problem.expected("`ksm`, or `zero` and `content`"));
        }
        Some(Self(set))
    }
}

impl FromNode for ScannerSpec {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map of the scanner's settings")?;
        let default = Self::default();
        let order = fields.node("order").and_then(|(at, node)| {
            let words = [
                ("dirty-aware", ScanOrder::DirtyAware),
                ("sequential", ScanOrder::Sequential),
                ("esx-random", ScanOrder::EsxRandom),
            ];
            at.word(node, &words)
        });
        let scanner = Self {
            order: order.unwrap_or(default.order),
            rate: fields.get("rate"),
            cpu_budget: fields.get("cpu-budget"),
            interval: fields.or("interval", default.interval),
            settle: fields.or("settle", default.settle),
            hints: fields.or("hints", Switch(default.hints)).0,
            threads: fields.or("threads", default.threads),
        };
        fields.finish();
        Some(scanner)
    }
}

impl FromNode for KsmSpec {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map of KSM's settings")?;
        let default = Self::default();
        let ksm = Self {
            pages_to_scan: fields.or("pages-to-scan", Count(default.pages_to_scan)).0,
            sleep: fields.or("sleep", default.sleep),
            smart_scan: fields.get::<Switch>("smart-scan").map(|on| on.0),
            use_zero_pages: fields.or("use-zero-pages", Switch(default.use_zero_pages)).0,
            max_page_sharing: fields.get::<Count>("max-page-sharing").map(|most| most.0),
        };
        fields.finish();
        Some(ksm)
    }
}

impl FromNode for Phases {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return at.wrong_kind(node, "a list of phases: start, workload, settle, stop");
        };
        let mut phases = Self::default();
        let mut last = None;
        for (index, item) in items.iter().enumerate() {
            let at = at.item(index, item);
            let Some(fields) = at.fields(item, "a map with `id`") else { continue };
            let Some((id_at, id_node)) = fields.node("id") else {
                at.report::<()>(at.problem("`id` is missing").expected("`id`: start, workload, settle or stop"));
                continue;
            };
            let Some(id) = id_at.word(id_node, &[("start", 0), ("workload", 1), ("settle", 2), ("stop", 3)]) else {
                continue;
            };
            if last >= Some(id) {
                let problem = id_at.problem("phases are out of order");
                id_at.report::<()>(problem.expected("start, workload, settle, stop, each at most once"));
            }
            last = Some(id);
            phases.read(id, &fields);
            fields.finish();
        }
        Some(phases)
    }
}

impl Phases {
    fn read(&mut self, id: u32, fields: &Fields<'_>) {
        let timeout = match id {
            0 => &mut self.start_timeout,
            1 => &mut self.workload_timeout,
            2 => &mut self.settle_timeout,
            _ => &mut self.stop_timeout,
        };
        *timeout = fields.or("timeout", *timeout);
        if id == 1 {
            self.workload_for = fields.get("for");
        }
        if id == 2
            && let Some((at, node)) = fields.node("until")
            && let Some(until) = at.fields(node, "a map with `scans`")
        {
            self.settle_scans = until.or("scans", self.settle_scans);
            until.finish();
        }
    }
}

impl FromNode for TimedEvent {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        const EXPECTED: &str = "`at` and one of `enable`, `disable`, `start-guests`, `stop-guests`";
        let fields = at.fields(node, EXPECTED)?;
        let time = fields.need("at");
        let mut events = Vec::new();
        for (name, on) in [("enable", true), ("disable", false)] {
            if let Some(mechanism) = fields.get::<Switchable>(name) {
                events.push(Event::Switch { mechanism, on });
            }
        }
        if let Some(Selection { guests, count }) = fields.get("stop-guests") {
            events.push(Event::StopGuests { guests, count });
        }
        if let Some(Selection { guests, count }) = fields.get("start-guests") {
            events.push(Event::StartGuests { guests, count });
        }
        let given = ["enable", "disable", "stop-guests", "start-guests"].iter().filter(|name| fields.has(name)).count();
        fields.finish();
        if given != 1 {
            return at.report(at.problem(format!("{given} events are given")).expected(EXPECTED));
        }
        Some(Self { at: time?, event: events.pop()? })
    }
}

/// Some guests of a group.
struct Selection {
    guests: String,
    count: u32,
}

impl FromNode for Selection {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `guests` (the group's id) and `count`")?;
        let (guests, count) = (fields.need("guests"), fields.or("count", Count(1)));
        fields.finish();
        Some(Self { guests: guests?, count: count.0 })
    }
}

impl FromNode for Switchable {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        at.word(node, &[("disk", Self::Disk), ("zero", Self::Zero), ("content", Self::Content)])
    }
}

impl FromNode for Repeat {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `runs` and `order`")?;
        let order = fields.node("order").and_then(|(at, node)| {
            at.word(node, &[("interleaved", RunOrder::Interleaved), ("blocked", RunOrder::Blocked)])
        });
        let runs = fields.or("runs", Count(1)).0;
        fields.finish();
        Some(Self { runs, order: order.unwrap_or(RunOrder::Interleaved) })
    }
}

impl FromNode for Metrics {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `sample`")?;
        let sample = fields.need::<Time>("sample");
        if let Some(period) = sample
            && period.0 < Duration::from_millis(10)
            && let Some((at, _)) = fields.node("sample")
        {
            at.report::<()>(at.problem("sampling this often would measure itself").expected("at least 10 ms"));
        }
        fields.finish();
        sample.map(|sample| Self { sample })
    }
}

impl FromNode for Expectation {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        const EXPECTED: &str = "one of `at-least`, `at-most`, `equals`";
        let fields = at.fields(node, "a map with `id`, `metric` and a bound")?;
        let (id, metric) = (fields.need::<Name>("id"), fields.need::<String>("metric"));
        let (claim, cell) = (fields.get("claim"), fields.get("cell"));
        let published = fields.get("published");
        let least = fields.get::<Quantity>("at-least").map(|q| Bound::AtLeast(q.0));
        let most = fields.get::<Quantity>("at-most").map(|q| Bound::AtMost(q.0));
        let equals = fields.get::<Quantity>("equals").map(|q| Bound::Equals(q.0));
        let given = ["at-least", "at-most", "equals"].iter().filter(|name| fields.has(name)).count();
        fields.finish();
        if given != 1 {
            return at.report(at.problem(format!("{given} bounds are given")).expected(EXPECTED));
        }
        Some(Self { id: id?.0, claim, metric: metric?, cell, bound: least.or(most).or(equals)?, published })
    }
}

/// A number, a size in bytes, a time in seconds or a fraction given in percent.
struct Quantity(f64);

impl FromNode for Quantity {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let Value::Text(text) = &node.value else { return f64::from_node(at, node).map(Self) };
        if text.ends_with('%') {
            return super::units::Percent::from_node(at, node).map(|percent| Self(percent.0 / 100.0));
        }
        if text.ends_with('B') {
            #[allow(clippy::cast_precision_loss, reason = "a bound written by hand; 53 bits are enough")]
            return Size::from_node(at, node).map(|size| Self(size.0 as f64));
        }
        Time::from_node(at, node).map(|time| Self(time.0.as_secs_f64()))
    }
}

impl FromNode for Outputs {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `directory`")?;
        let directory = fields.need::<String>("directory");
        fields.finish();
        directory.map(|directory| Self { directory: directory.into() })
    }
}
