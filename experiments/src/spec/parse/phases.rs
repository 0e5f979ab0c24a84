//! Phases.

use super::super::describe::{Field, Map, Shape};
use super::super::model::{Phases, Stable};
use super::super::reader::{At, Fields, FromMap, FromNode, Word, from_map};
use super::super::text::{Node, Value};
use super::super::units::{Size, Time};

from_map!(Until, Stable);

/// The phases, in their order.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum PhaseId {
    Start,
    Workload,
    Settle,
    Stop,
}

impl Word for PhaseId {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        ("start", Self::Start, "ends when every guest is ready"),
        ("workload", Self::Workload, "ends when every guest is done"),
        (
            "settle",
            Self::Settle,
            "ends when the scanner has made its full scans",
        ),
        ("stop", Self::Stop, "ends when all guests have stopped"),
    ];
}

impl PhaseId {
    fn map(self) -> Map {
        let failing = |time| Field::or::<Time>("timeout", time, "then the run fails");
        let warning = |time| Field::or::<Time>("timeout", time, "then there is a warning");
        let (name, about, fields) = match self {
            Self::Start => (
                "phase start",
                "Until every guest is ready",
                vec![failing("30 s")],
            ),
            Self::Workload => (
                "phase workload",
                "Until every guest is done",
                vec![
                    failing("300 s"),
                    Field::maybe::<Time>(
                        "for",
                        "until all are done",
                        "guests are asked to end after it; the phase lasts at least so long",
                    ),
                    Field::maybe::<Time>(
                        "measure-after",
                        "no rate is measured",
                        "guests have their memory by then: `workload.rate` is what thin guests do in a second from then on; needs a longer `for`",
                    ),
                ],
            ),
            Self::Settle => (
                "phase settle",
                "Until the scanner has looked at the quiet guests often enough. Then the figures are taken (`measure` in `samples.csv`), while the scanner stands still",
                vec![
                    warning("30 s"),
                    Field::or::<Until>("until", "{ scans: 2 }", "what ends it"),
                ],
            ),
            Self::Stop => (
                "phase stop",
                "Until all guests have stopped",
                vec![warning("30 s")],
            ),
        };
        let id = Field::needed::<Self>("id", "the phase");
        Map::new(name, about, std::iter::once(id).chain(fields).collect())
    }
}

impl FromNode for Phases {
    fn shape() -> Shape {
        let maps = PhaseId::WORDS.iter().map(|(_, id, _)| id.map());
        Shape::List(Box::new(Shape::Tagged {
            tag: "id",
            maps: maps.collect(),
        }))
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return at.wrong_kind(node, "a list of phases: start, workload, settle, stop");
        };
        let mut phases = Self::default();
        let mut last = None;
        for (index, item) in items.iter().enumerate() {
            let at = at.item(index, item);
            // The id first: it says which fields there are.
            let Some(tag) = at.fields(item, PhaseId::Start.map()) else {
                continue;
            };
            let Some(id) = tag.get::<PhaseId>("id") else {
                continue;
            };
            if last >= Some(id)
                && let Some((at, _)) = tag.node("id")
            {
                let problem = at.problem("phases are out of order");
                at.report::<()>(
                    problem.expected("start, workload, settle, stop, each at most once"),
                );
            }
            last = Some(id);
            if let Some(fields) = at.again(item, id.map()) {
                phases.read(id, &fields);
                fields.finish();
            }
        }
        Some(phases)
    }
}

impl Phases {
    fn read(&mut self, id: PhaseId, fields: &Fields<'_>) {
        let timeout = match id {
            PhaseId::Start => &mut self.start_timeout,
            PhaseId::Workload => &mut self.workload_timeout,
            PhaseId::Settle => &mut self.settle_timeout,
            PhaseId::Stop => &mut self.stop_timeout,
        };
        *timeout = fields.get("timeout").unwrap_or(*timeout);
        match id {
            PhaseId::Workload => {
                self.workload_for = fields.get("for");
                self.measure_after = fields.get("measure-after");
                if let (Some(after), Some((at, _))) =
                    (self.measure_after, fields.node("measure-after"))
                    && self.workload_for.is_none_or(|length| length.0 <= after.0)
                {
                    let problem = at.problem("nothing is left to be measured");
                    at.report::<()>(problem.expected("less than the phase's `for`"));
                }
            }
            PhaseId::Settle => {
                if let Some(until) = fields.get::<Until>("until") {
                    (self.settle_scans, self.settle_stable) = (until.scans, until.stable);
                }
            }
            PhaseId::Start | PhaseId::Stop => {}
        }
    }
}

/// What ends the quiet phase.
struct Until {
    scans: u32,
    stable: Option<Stable>,
}

impl FromMap for Until {
    fn map() -> Map {
        let about = "full scans, not counting the one under way";
        let fields = vec![
            Field::or::<u32>("scans", "2", about),
            Field::maybe::<Stable>(
                "stable",
                "no such condition",
                "besides, what is saved rests",
            ),
        ];
        let about = "What ends the phase `settle`. A run in which it takes longer than the phase's \
                     `timeout` is marked as not converged";
        Map::new("until", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        Some(Self {
            scans: fields.get("scans")?,
            stable: fields.get("stable"),
        })
    }
}

impl FromMap for Stable {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<Time>("for", "how long"),
            Field::or::<Size>("within", "0 B", "it changes by no more in that time"),
        ];
        Map::new("stable", "When what is saved rests", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        Some(Self {
            time: fields.get("for")?,
            within: fields.get("within")?,
        })
    }
}
