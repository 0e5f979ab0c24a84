//! The workloads' parameters: their names, units and positions in [`mirrorball_abi::Workload`].

use std::collections::BTreeMap;

use mirrorball_abi::WorkloadKind;

use super::model::WorkloadSpec;
use super::reader::{At, Fields, FromNode};
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
}

type Params = &'static [(&'static str, Unit)];

/// Every workload with its parameters in the order of the guest interface.
const WORKLOADS: &[(&str, WorkloadKind, Params)] = &[
    ("idle", WorkloadKind::Idle, &[]),
    (
        "pmake",
        WorkloadKind::Pmake,
        &[
            ("jobs", Unit::Number),
            ("passes", Unit::Number),
            ("files", Unit::Number),
            ("pause", Unit::Micros),
        ],
    ),
    (
        "scan",
        WorkloadKind::Scan,
        &[("passes", Unit::Number), ("table", Unit::Bytes)],
    ),
    (
        "splash",
        WorkloadKind::Splash,
        &[("keys", Unit::Number), ("passes", Unit::Number)],
    ),
    (
        "touch",
        WorkloadKind::Touch,
        &[
            ("working-set", Unit::Pages),
            ("period", Unit::Millis),
            ("moved", Unit::Percent),
            ("written", Unit::Percent),
            ("zero", Unit::Percent),
            ("equal", Unit::Percent),
            ("duration", Unit::Millis),
        ],
    ),
    (
        "torture",
        WorkloadKind::Torture,
        &[
            ("pages", Unit::Number),
            ("region", Unit::Pages),
            ("blocks", Unit::Number),
            ("equal", Unit::Percent),
        ],
    ),
    (
        "hostile",
        WorkloadKind::Hostile,
        &[
            ("attacks", Unit::Number),
            ("which", Unit::Number),
            ("device", Unit::Number),
        ],
    ),
];

impl FromNode for WorkloadSpec {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `name` and the workload's parameters")?;
        let names = WORKLOADS
            .iter()
            .enumerate()
            .map(|(index, (name, ..))| (*name, index))
            .collect::<Vec<_>>();
        let Some((name_at, name_node)) = fields.node("name") else {
            let problem = at.problem("`name` is missing");
            let all = names
                .iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(", ");
            return at.report(problem.expected(format!("`name`: one of {all}")));
        };
        let (name, kind, params) = WORKLOADS.get(name_at.word(name_node, &names)?)?;
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
        for (slot, (name, unit)) in spec.params.iter_mut().zip(*params) {
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
