//! Which mechanisms are on, and the settings of the scanners.

use mirrorball_report::figure::Published;

use super::super::model::{KsmSpec, MechanismSet, ScanOrder, ScannerSpec, Sweep, Switchable};
use super::super::reader::{At, Fields, FromNode};
use super::super::text::Node;
use super::super::units::{Count, Percent, Switch};
use super::not_empty;

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

impl FromNode for MechanismSet {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let words = Self::KNOWN;
        at.word(node, &words).map(Self::new)
    }
}

/// The mechanism sets at each point of the sweep, if there is one.
pub(super) fn points(sets: Vec<MechanismSet>, sweep: Option<&Sweep>) -> Vec<MechanismSet> {
    let Some(sweep) = sweep else {
        return sets;
    };
    let point = |set: &MechanismSet| {
        if !sweep.sets.is_empty() && !sweep.sets.contains(&set.id) {
            return vec![set.clone()];
        }
        let counts = sweep.count.iter();
        let sets = counts.map(|count| set.with_count(&sweep.guests, *count));
        sets.collect()
    };
    sets.iter().flat_map(point).collect()
}

impl FromNode for Sweep {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `guests` (an id) and `count` (a list)")?;
        let guests = fields.need::<String>("guests");
        let count = fields.need::<Vec<Count>>("count");
        not_empty(&fields, "count", "at least one number of guests");
        let sets = fields.or("sets", Vec::<MechanismSet>::new());
        let published = fields.get("published");
        fields.finish();
        Some(Self {
            guests: guests?,
            count: count?.into_iter().map(|count| count.0).collect(),
            sets: sets.into_iter().map(|set| set.id).collect(),
            published,
        })
    }
}

impl FromNode for Published {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(
            node,
            "a map with `source`, `count`, and lists of percentages",
        )?;
        let source = fields.need::<String>("source");
        let count = fields.need::<Vec<Count>>("count");
        let [shared, reclaimed, zero] = ["shared", "reclaimed", "zero"].map(|name| {
            let values = fields.or(name, Vec::<Percent>::new());
            values.into_iter().map(|value| value.0).collect::<Vec<_>>()
        });
        fields.finish();
        Some(Self {
            source: source?,
            count: count?.into_iter().map(|count| count.0).collect(),
            shared,
            reclaimed,
            zero,
        })
    }
}

/// The mechanisms of an experiment without a matrix.
struct Sharing(MechanismSet);

impl FromNode for Sharing {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(
            node,
            "a map of `disk`, `zero`, `content`, `ksm`, each `on` or `off`",
        )?;
        let on = ["disk", "zero", "content", "ksm"].map(|name| fields.or(name, Switch(false)).0);
        fields.finish();
        let set = MechanismSet::new(on);
        if set.ksm && set.scans() {
            let problem =
                at.problem("two scanners on the same pages can't be told apart in the results");
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
            nice: fields.or("nice", default.nice),
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
            use_zero_pages: fields
                .or("use-zero-pages", Switch(default.use_zero_pages))
                .0,
            max_page_sharing: fields.get::<Count>("max-page-sharing").map(|most| most.0),
        };
        fields.finish();
        Some(ksm)
    }
}

impl FromNode for Switchable {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        at.word(
            node,
            &[
                ("disk", Self::Disk),
                ("zero", Self::Zero),
                ("content", Self::Content),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_that_are_not_swept_run_once() {
        let known = |id: &str| {
            let (_, on) = MechanismSet::KNOWN
                .iter()
                .find(|(name, _)| *name == id)
                .unwrap();
            MechanismSet::new(*on)
        };
        let ids = |swept: &[&str]| {
            let sweep = Sweep {
                guests: "linux".to_owned(),
                count: vec![1, 4],
                sets: swept.iter().map(|&id| id.to_owned()).collect(),
                published: None,
            };
            let cells = points(vec![known("none"), known("all")], Some(&sweep));
            cells.into_iter().map(|cell| cell.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&[]), ["none-1", "none-4", "all-1", "all-4"]);
        assert_eq!(ids(&["all"]), ["none", "all-1", "all-4"]);
    }
}
