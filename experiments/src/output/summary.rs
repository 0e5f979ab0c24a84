//! `summary.json`: the figures of every cell, for people's scripts.
//!
//! The names are fixed by the design; bytes, seconds, counts. What was not measured is `null`,
//! never 0.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::spec::{Bound, Expectation};

/// Version of the format; raised when a name changes or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// Every metric that an expectation can name: paths inside a cell.
pub const METRICS: &[&str] = &[
    "memory.guest_physical",
    "memory.touched",
    "memory.private",
    "memory.shared",
    "memory.reclaimed",
    "memory.zero",
    "memory.frames",
    "memory.ballooned",
    "memory.swapped",
    "memory.oracle_reclaimable",
    "memory.machine_used",
    "memory.overhead",
    "by_mechanism.disk",
    "by_mechanism.network",
    "by_mechanism.content",
    "by_mechanism.zero",
    "by_mechanism.ksm",
    "accounting.pmap",
    "accounting.kernel",
    "accounting.gap",
    "cpu_seconds.vcpu",
    "cpu_seconds.device",
    "cpu_seconds.scanner",
    "cpu_seconds.ksmd",
    "integrity.verified_pages",
    "integrity.mismatches",
    "workload.seconds",
    "workload.operations",
    "workload.bytes",
    "sharing.oracle_share",
    "sharing.vmas",
    "sharing.broken_pages",
    "sharing.hold_p99_seconds",
    "sharing.scans",
    "start.seconds",
    "start.host_memory_per_guest",
    "stop.seconds",
];

/// The whole result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The experiment's name.
    pub name: String,
    /// All in all.
    pub verdict: Verdict,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// Everything that keeps the verdict from being `met`.
    pub causes: Vec<String>,
    /// One for each mechanism set.
    pub cells: Vec<Cell>,
}

/// How an experiment, or an expectation, came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As expected.
    Met,
    /// Not as expected.
    NotMet,
    /// It can't be said.
    Inconclusive,
    /// A run failed.
    Failed,
    /// This host can't do it.
    NotSupported,
}

impl Verdict {
    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::NotMet => "not met",
            Self::Inconclusive => "inconclusive",
            Self::Failed => "failed",
            Self::NotSupported => "not supported here",
        }
    }
}

/// One cell: the medians over its runs that did not fail.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// Id of the mechanism set.
    pub id: String,
    /// Mechanisms that were on.
    pub mechanisms: Vec<String>,
    /// Guests at the start.
    pub guests: u64,
    /// Runs that did not fail.
    pub runs: u64,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Runs that failed.
    pub failures: Vec<Failure>,
    /// What was noticed on the way.
    pub warnings: Vec<String>,
    /// Expectations of this cell.
    pub expect: Vec<Outcome>,
}

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Number of the run in its cell, from 1.
    pub run: u32,
    /// `guest`, `workload`, `timeout`, `accounting`, `memory`, `not-supported`, `in-use`,
    /// `interrupted`.
    pub class: String,
    /// What happened.
    pub cause: String,
}

/// How an expectation came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its id.
    pub id: String,
    /// How it came out.
    pub verdict: Verdict,
    /// The value that was measured.
    pub value: Option<f64>,
    /// The value that a paper published.
    pub published: Option<f64>,
}

/// Figures of one run, or the medians of a cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Memory at the end of the quiet period, bytes.
    pub memory: Memory,
    /// Reclaimed bytes.
    pub by_mechanism: ByMechanism,
    /// The pmap's account against the kernel's.
    pub accounting: Accounting,
    /// CPU time.
    pub cpu_seconds: CpuSeconds,
    /// What the guests verified.
    pub integrity: Integrity,
    /// What the workload did.
    pub workload: Workload,
    /// How sharing went.
    pub sharing: Sharing,
    /// Starting the guests.
    pub start: Start,
    /// Stopping them.
    pub stop: Stop,
    /// The KSM baseline's own counters; `null` in cells without it.
    pub ksm: Option<Ksm>,
}

/// Memory at the end of the quiet period, bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Size of all guests.
    pub guest_physical: Option<u64>,
    /// Pages that were ever used.
    pub touched: Option<u64>,
    /// Pages of one guest only.
    pub private: Option<u64>,
    /// Pages that map a frame with more than one reference, or the zero page.
    pub shared: Option<u64>,
    /// Shared minus the frames that back them.
    pub reclaimed: Option<u64>,
    /// Pages that are the zero page.
    pub zero: Option<u64>,
    /// Frames of the frame store.
    pub frames: Option<u64>,
    /// Given back by the balloon; `null` as long as there is none.
    pub ballooned: Option<u64>,
    /// Swapped out by the monitor; `null` as long as it does not swap.
    pub swapped: Option<u64>,
    /// What perfect sharing would reclaim at that instant, what is reclaimed already included.
    pub oracle_reclaimable: Option<u64>,
    /// Machine memory that guests use: private pages and frames.
    pub machine_used: Option<u64>,
    /// The monitor's own bookkeeping.
    pub overhead: Option<u64>,
}

/// Reclaimed bytes by mechanism.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ByMechanism {
    /// Copy-on-write disk and boot images.
    pub disk: Option<u64>,
    /// Network; `null` as long as guests have none.
    pub network: Option<u64>,
    /// Content scanning.
    pub content: Option<u64>,
    /// Zero pages.
    pub zero: Option<u64>,
    /// KSM, its zero pages included; the pmap's mechanisms are blind to it.
    pub ksm: Option<u64>,
}

/// The pmap's account of machine memory against the kernel's, bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accounting {
    /// Private pages and frames by the pmap.
    pub pmap: Option<u64>,
    /// Proportional set size of guest regions, and resident frames.
    pub kernel: Option<u64>,
    /// Their difference as a fraction of the kernel's figure.
    pub gap: Option<f64>,
}

/// CPU time by component, seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuSeconds {
    /// vCPU threads.
    pub vcpu: Option<f64>,
    /// Device workers.
    pub device: Option<f64>,
    /// Our scanner.
    pub scanner: Option<f64>,
    /// The kernel's.
    pub ksmd: Option<f64>,
}

/// What guests verified.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Integrity {
    /// Pages whose every byte was compared.
    pub verified_pages: Option<u64>,
    /// Pages that held a wrong byte.
    pub mismatches: Option<u64>,
}

/// What the workload did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// From the command to the last guest's end.
    pub seconds: Option<f64>,
    /// Units of work of all guests.
    pub operations: Option<u64>,
    /// Bytes worked on.
    pub bytes: Option<u64>,
}

/// How sharing went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sharing {
    /// Reclaimed as a fraction of what perfect sharing would reclaim.
    pub oracle_share: Option<f64>,
    /// Mappings in use.
    pub vmas: Option<u64>,
    /// Shared pages that were broken by a write; `null` with KSM, whose breaks nobody counts.
    pub broken_pages: Option<u64>,
    /// Time that writers were held, 99th percentile.
    pub hold_p99_seconds: Option<f64>,
    /// Passes of the scanner, or full scans of KSM.
    pub scans: Option<u64>,
}

/// Starting the guests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Until the last was ready.
    pub seconds: Option<f64>,
    /// Memory that the host had less of afterwards, for each guest, its own pages included; other
    /// programs of the host blur it.
    pub host_memory_per_guest: Option<u64>,
}

/// Stopping the guests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// Until the last was gone.
    pub seconds: Option<f64>,
}

/// KSM's own counters at the end of the quiet period.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ksm {
    /// Frames that KSM keeps.
    pub pages_shared: u64,
    /// Pages beyond the first that use them.
    pub pages_sharing: u64,
    /// Pages that KSM made the zero page.
    pub zero_pages: u64,
    /// Bytes saved less KSM's bookkeeping, by the kernel; may be negative; `null` before 6.4.
    pub net_saved: Option<i64>,
}

/// The median of several runs' figures, leaf by leaf; integrity is summed, and the accounting is
/// the worst run's.
#[must_use]
pub fn median(runs: &[Figures]) -> Figures {
    let trees = runs
        .iter()
        .filter_map(|run| serde_json::to_value(run).ok())
        .collect::<Vec<_>>();
    let tree = median_tree(&trees.iter().collect::<Vec<_>>());
    let mut figures: Figures = serde_json::from_value(tree).unwrap_or_default();
    let sum = |field: fn(&Integrity) -> Option<u64>| {
        runs.iter()
            .filter_map(|run| field(&run.integrity))
            .reduce(u64::saturating_add)
    };
    figures.integrity = Integrity {
        verified_pages: sum(|i| i.verified_pages),
        mismatches: sum(|i| i.mismatches),
    };
    let gap = |run: &&Figures| run.accounting.gap.unwrap_or(0.0);
    if let Some(worst) = runs.iter().max_by(|a, b| gap(a).total_cmp(&gap(b))) {
        figures.accounting = worst.accounting.clone();
    }
    figures
}

fn median_tree(trees: &[&Value]) -> Value {
    if let Some(map) = trees.iter().find_map(|tree| tree.as_object()) {
        let below = |key: &String| {
            let values = trees
                .iter()
                .filter_map(|tree| tree.get(key))
                .collect::<Vec<_>>();
            (key.clone(), median_tree(&values))
        };
        return Value::Object(map.keys().map(below).collect());
    }
    let mut numbers = trees
        .iter()
        .filter(|tree| tree.is_number())
        .collect::<Vec<_>>();
    numbers.sort_by(|a, b| {
        a.as_f64()
            .unwrap_or(0.0)
            .total_cmp(&b.as_f64().unwrap_or(0.0))
    });
    let Some(upper) = numbers.get(numbers.len() / 2) else {
        return Value::Null;
    };
    let lower = numbers[(numbers.len() - 1) / 2];
    match (
        lower.as_i64(),
        upper.as_i64(),
        lower.as_f64(),
        upper.as_f64(),
    ) {
        (Some(a), Some(b), ..) => Value::from(a.midpoint(b)),
        (_, _, Some(a), Some(b)) => Value::from(f64::midpoint(a, b)),
        _ => Value::Null,
    }
}

/// How an expectation came out in a cell.
#[must_use]
pub fn judge(expectation: &Expectation, figures: &Figures) -> Outcome {
    let value = metric(figures, &expectation.metric);
    let verdict = match value {
        None => Verdict::Inconclusive,
        Some(value) => {
            let met = match expectation.bound {
                Bound::AtLeast(bound) => value >= bound,
                Bound::AtMost(bound) => value <= bound,
                Bound::Equals(bound) => (value - bound).abs() < f64::EPSILON * bound.abs().max(1.0),
            };
            if met { Verdict::Met } else { Verdict::NotMet }
        }
    };
    Outcome {
        id: expectation.id.clone(),
        verdict,
        value,
        published: expectation.published,
    }
}

/// The value of a metric by its path.
#[must_use]
pub fn metric(figures: &Figures, path: &str) -> Option<f64> {
    let tree = serde_json::to_value(figures).ok()?;
    path.split('.')
        .try_fold(&tree, |tree, name| tree.get(name))?
        .as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(reclaimed: u64, seconds: f64, gap: f64) -> Figures {
        let mut figures = Figures::default();
        figures.memory.reclaimed = Some(reclaimed);
        figures.workload.seconds = Some(seconds);
        figures.accounting.gap = Some(gap);
        figures.integrity.verified_pages = Some(10);
        figures
    }

    #[test]
    fn medians_sums_and_the_worst_gap() {
        let median = median(&[
            figures(5, 1.0, 0.001),
            figures(1, 4.0, 0.02),
            figures(3, 2.0, 0.0),
        ]);
        assert_eq!(median.memory.reclaimed, Some(3));
        assert_eq!(median.workload.seconds, Some(2.0));
        assert_eq!(median.accounting.gap, Some(0.02));
        assert_eq!(median.integrity.verified_pages, Some(30));
        assert_eq!(median.memory.touched, None, "not measured is not 0");
        assert_eq!(
            super::median(&[figures(2, 1.0, 0.0), figures(4, 2.0, 0.0)])
                .workload
                .seconds,
            Some(1.5)
        );
    }

    #[test]
    fn every_metric_of_the_list_is_in_the_figures() {
        let tree = serde_json::to_value(Figures::default()).unwrap();
        for path in METRICS {
            let found = path.split('.').try_fold(&tree, |tree, name| tree.get(name));
            assert!(found.is_some(), "{path}");
        }
    }

    #[test]
    fn expectations_are_met_or_not_or_unknown() {
        let expect = |metric: &str, bound| {
            let expectation = Expectation {
                id: "x".into(),
                claim: None,
                metric: metric.into(),
                cell: None,
                bound,
                published: None,
            };
            judge(&expectation, &figures(100, 1.0, 0.0)).verdict
        };
        assert_eq!(
            expect("memory.reclaimed", Bound::AtLeast(100.0)),
            Verdict::Met
        );
        assert_eq!(
            expect("memory.reclaimed", Bound::AtMost(99.0)),
            Verdict::NotMet
        );
        assert_eq!(
            expect("memory.reclaimed", Bound::Equals(100.0)),
            Verdict::Met
        );
        assert_eq!(
            expect("memory.touched", Bound::AtLeast(0.0)),
            Verdict::Inconclusive
        );
    }
}
