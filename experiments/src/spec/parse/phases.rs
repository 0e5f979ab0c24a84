//! Phases and the timeline.

use super::super::describe::{Absent, Field, Map, Shape};
use super::super::model::{Event, Phases, Stable, Switchable, TimedEvent, WorkloadSpec};
use super::super::reader::{At, Fields, FromMap, FromNode, Word, from_map};
use super::super::text::{Node, Value};
use super::super::units::{Count, Percent, Size, Time};
use super::Name;

from_map!(Until, Stable, TimedEvent, Selection, Target, Work);

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
            PhaseId::Workload => self.workload_for = fields.get("for"),
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

impl FromMap for TimedEvent {
    fn map() -> Map {
        let none = Absent::Means("another event");
        let event = |mut field: Field| {
            field.absent = none;
            field
        };
        let switched = "the mechanism is switched; what is shared stays shared. A cell whose scanner \
                        is KSM, or that has none, ignores `zero` and `content`; it has one if its set \
                        or any `enable` of the timeline asks for it";
        let fields = vec![
            Field::needed::<Time>(
                "at",
                "time after the workload began; before the `for` of the workload phase",
            ),
            event(Field::needed::<Switchable>("enable", switched)),
            event(Field::needed::<Switchable>("disable", switched)),
            event(Field::needed::<Selection>(
                "start-guests",
                "new guests of that group start and get its workload",
            )),
            event(Field::needed::<Selection>(
                "stop-guests",
                "the oldest guests of that group stop; what they verified counts",
            )),
            event(Field::needed::<Target>(
                "set-balloon",
                "guests of that group are asked to have so much memory in their balloons; `linux` only",
            )),
            event(Field::needed::<Work>(
                "run-workload",
                "guests of that group are asked to end their workload and get another; `splash` only",
            )),
            event(Field::needed::<Percent>(
                "set-idle-tax",
                "the idle memory tax changes; with `policy` only",
            )),
            event(Field::needed::<Name>(
                "mark",
                "nothing but a line in the events of the run",
            )),
            event(Field::needed::<Name>(
                "checkpoint",
                "a sample of the machine and of every VM, whose `phase` is this name",
            )),
        ];
        let about = "Something that happens while the workload runs, in the order of the list, also \
                     when the guests are done earlier";
        Map::new("event", about, fields).one_of(&[
            "enable",
            "disable",
            "start-guests",
            "stop-guests",
            "set-balloon",
            "run-workload",
            "set-idle-tax",
            "mark",
            "checkpoint",
        ])
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let switch = |name, on| {
            let mechanism = fields.get::<Switchable>(name)?;
            Some(Event::Switch { mechanism, on })
        };
        let (enable, disable) = (switch("enable", true), switch("disable", false));
        let start = fields.get::<Selection>("start-guests");
        let start = start.map(|Selection { guests, count }| Event::StartGuests { guests, count });
        let stop = fields.get::<Selection>("stop-guests");
        let stop = stop.map(|Selection { guests, count }| Event::StopGuests { guests, count });
        let checkpoint = fields.get::<Name>("checkpoint");
        let checkpoint = checkpoint.map(|name| Event::Checkpoint { name: name.0 });
        let mark = fields.get::<Name>("mark");
        let mark = mark.map(|name| Event::Mark { name: name.0 });
        let balloon = fields.get::<Target>("set-balloon").map(|target| target.0);
        let work = fields.get::<Work>("run-workload").map(|work| work.0);
        let tax = fields.get::<Percent>("set-idle-tax");
        let tax = tax.map(|tax| Event::SetIdleTax { tax });
        let at = fields.get("at");
        let first = enable.or(disable).or(start).or(stop).or(checkpoint);
        Some(Self {
            at: at?,
            event: first.or(mark).or(balloon).or(work).or(tax)?,
        })
    }
}

/// What the balloons of a group's guests should hold.
struct Target(Event);

impl FromMap for Target {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<String>("guests", "an id of `guests`"),
            Field::needed::<Size>("target", "memory in the balloon of each"),
        ];
        Map::new("target", "What balloons should hold", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (guests, target) = (fields.get("guests"), fields.get("target"));
        Some(Self(Event::SetBalloon {
            guests: guests?,
            target: target?,
        }))
    }
}

/// What a group's guests should do from now on.
struct Work(Event);

impl FromMap for Work {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<String>("guests", "an id of `guests`"),
            Field::needed::<WorkloadSpec>("workload", "what they do from now on"),
        ];
        Map::new("work", "Another workload", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let guests = fields.get("guests");
        let workload = fields.get("workload").map(Box::new);
        Some(Self(Event::RunWorkload {
            guests: guests?,
            workload: workload?,
        }))
    }
}

/// Some guests of a group.
struct Selection {
    guests: String,
    count: u32,
}

impl FromMap for Selection {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<String>("guests", "an id of `guests`"),
            Field::or::<Count>("count", "1", "how many"),
        ];
        Map::new("selection", "Some guests of a group", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (guests, count) = (fields.get("guests"), fields.get::<Count>("count"));
        Some(Self {
            guests: guests?,
            count: count?.0,
        })
    }
}
