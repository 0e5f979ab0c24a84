//! Which mechanisms are on, and the settings of the scanners.

use super::super::describe::{Field, Map, Shape};
use super::super::model::{KsmSpec, MechanismSet, ScanOrder, ScannerSpec};
use super::super::reader::{At, Fields, FromMap, FromNode, Word, from_map};
use super::super::text::Node;
use super::super::units::{Count, Niceness, PagesPerSecond, Percent, Switch, Time};
use super::not_empty;

from_map!(Sharing, ScannerSpec, KsmSpec);

/// The mechanism sets: `matrix`, or the one of `sharing`.
pub(super) fn matrix(fields: &Fields<'_>) -> Vec<MechanismSet> {
    let sharing = fields.get::<Sharing>("sharing").map(|sharing| sharing.0);
    let matrix = fields.get::<Vec<MechanismSet>>("matrix");
    if let (Some((at, _)), true) = (fields.node("sharing"), fields.has("matrix")) {
        let problem = at.problem("`sharing` and `matrix` both say which mechanisms are on");
        at.report::<()>(problem.expected("one of the two"));
    }
    not_empty(fields, "matrix", "at least one mechanism set");
    if fields.has("matrix") || fields.has("sharing") {
        return matrix
            .or_else(|| sharing.map(|set| vec![set]))
            .unwrap_or_default();
    }
    vec![MechanismSet::new([true, true, true, false])]
}

/// A well-known mechanism set.
#[derive(Clone, Copy)]
struct Known([bool; 4]);

impl Word for Known {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &{
        let known = MechanismSet::KNOWN;
        let about = [
            "nothing is shared: boot images are copied into the guests too",
            "Disco's copy-on-write disk",
            "zero pages need no frame",
            "content scanning",
            "disk, zero and content",
            "Linux's own scanner instead of ours",
        ];
        [
            (known[0].0, Self(known[0].1), about[0]),
            (known[1].0, Self(known[1].1), about[1]),
            (known[2].0, Self(known[2].1), about[2]),
            (known[3].0, Self(known[3].1), about[3]),
            (known[4].0, Self(known[4].1), about[4]),
            (known[5].0, Self(known[5].1), about[5]),
        ]
    };
}

impl FromNode for MechanismSet {
    fn shape() -> Shape {
        Known::shape()
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        Known::from_node(at, node).map(|known| Self::new(known.0))
    }
}

/// The mechanisms of an experiment without a matrix.
pub(super) struct Sharing(MechanismSet);

impl FromMap for Sharing {
    fn map() -> Map {
        let fields = vec![
            Field::or::<Switch>("disk", "off", "Disco's copy-on-write disk"),
            Field::or::<Switch>("zero", "off", "zero pages need no frame"),
            Field::or::<Switch>("content", "off", "content scanning"),
            Field::or::<Switch>(
                "ksm",
                "off",
                "Linux's own scanner; not with `zero` or `content`: two scanners on the same pages cannot be told apart",
            ),
        ];
        let about = "A mechanism set of your own. The cell's id is that of the set of `matrix` that \
                     it is, else the names joined by `+`, such as `disk+ksm`";
        Map::new("sharing", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let on = ["disk", "zero", "content", "ksm"]
            .map(|name| fields.get::<Switch>(name).is_some_and(|switch| switch.0));
        let set = MechanismSet::new(on);
        if set.ksm && set.scans() {
            let problem =
                fields.problem("two scanners on the same pages can't be told apart in the results");
            return fields.report(problem.expected("`ksm`, or `zero` and `content`"));
        }
        Some(Self(set))
    }
}

impl Word for ScanOrder {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        (
            "dirty-aware",
            Self::DirtyAware,
            "only what was written since the last pass",
        ),
        ("sequential", Self::Sequential, "all pages, in order"),
        ("esx-random", Self::EsxRandom, "pages at random, as ESX did"),
    ];
}

impl FromMap for ScannerSpec {
    fn map() -> Map {
        let fields = vec![
            Field::or::<ScanOrder>("order", "dirty-aware", "which pages are looked at"),
            Field::maybe::<PagesPerSecond>("rate", "no limit", "most pages hashed each second"),
            Field::maybe::<Percent>(
                "cpu-budget",
                "no limit",
                "most CPU time, in percent of one core, hashing threads included; 0 % is no limit",
            ),
            Field::or::<Percent>(
                "burden",
                "1 %",
                "most of busy guests' time that scanning may cost them, their faults included; 0 % is no \
                 limit",
            ),
            Field::or::<Niceness>("nice", "15", "how far the scanner gives way"),
            Field::or::<Time>("interval", "1 s", "pause between two passes"),
            Field::or::<u32>(
                "settle",
                "1",
                "passes that a page must stay unwritten before it is hashed",
            ),
            Field::or::<Switch>(
                "hints",
                "on",
                "pages seen once are remembered as hints; off: every page seen gets a frame",
            ),
            Field::or::<Switch>(
                "network-hints",
                "on",
                "pages that a network has just copied are looked at first, and need not settle",
            ),
            Field::or::<u32>(
                "threads",
                "0",
                "hashing threads; 0: one for each CPU, at most 4",
            ),
        ];
        let about = "Our scanner ([mechanisms/scanner.md](mechanisms/scanner.md))";
        Map::new("scanner", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        Some(Self {
            order: fields.get("order")?,
            rate: fields.get("rate"),
            cpu_budget: fields.get("cpu-budget"),
            burden: fields.get("burden")?,
            nice: fields.get("nice")?,
            interval: fields.get("interval")?,
            settle: fields.get("settle")?,
            hints: fields.get::<Switch>("hints")?.0,
            network_hints: fields.get::<Switch>("network-hints")?.0,
            threads: fields.get("threads")?,
        })
    }
}

impl FromMap for KsmSpec {
    fn map() -> Map {
        let fields = vec![
            Field::or::<Count>("pages-to-scan", "4000", "`pages_to_scan`"),
            Field::or::<Time>("sleep", "1 ms", "`sleep_millisecs`, in whole milliseconds"),
            Field::or::<Switch>("use-zero-pages", "on", "`use_zero_pages`"),
            Field::maybe::<Switch>("smart-scan", "the host's", "`smart_scan`"),
            Field::maybe::<Count>("max-page-sharing", "the host's", "`max_page_sharing`"),
        ];
        let about = "The KSM baseline ([mechanisms/ksm-baseline.md](mechanisms/ksm-baseline.md))";
        Map::new("ksm", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        Some(Self {
            pages_to_scan: fields.get::<Count>("pages-to-scan")?.0,
            sleep: fields.get("sleep")?,
            smart_scan: fields.get::<Switch>("smart-scan").map(|on| on.0),
            use_zero_pages: fields.get::<Switch>("use-zero-pages")?.0,
            max_page_sharing: fields.get::<Count>("max-page-sharing").map(|most| most.0),
        })
    }
}
