//! The timeline: what happens while guests work.

use serde::Serialize;

use super::describe::{Absent, Field, Map};
use super::model::{Experiment, GuestGroup, WorkloadSpec};
use super::parse::Name;
use super::reader::{Fields, FromMap, Word, from_map};
use super::units::{Count, Percent, Size, Time};

from_map!(TimedEvent, Selection, Target, ClaimChange, Work);

/// Something that happens at a time after the workload began.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimedEvent {
    /// When.
    pub at: Time,
    /// What.
    pub event: Event,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A mechanism is switched.
    Switch {
        /// Which.
        mechanism: Switchable,
        /// On or off.
        on: bool,
    },
    /// The oldest guests of a group are stopped.
    StopGuests {
        /// Id of the guest group.
        guests: String,
        /// How many.
        count: u32,
    },
    /// Guests of a group are asked to have so much memory in their balloons.
    SetBalloon {
        /// Id of the guest group.
        guests: String,
        /// How much.
        target: Size,
    },
    /// Guests of a group end their workload and get another.
    RunWorkload {
        /// Id of the guest group.
        guests: String,
        /// Which.
        workload: Box<WorkloadSpec>,
    },
    /// What the memory policy entitles a group's guests to changes.
    SetClaim(ClaimChange),
    /// The idle memory tax changes.
    SetIdleTax {
        /// In percent.
        tax: Percent,
    },
    /// Nothing; it is written to the events.
    Mark {
        /// Its name.
        name: String,
    },
    /// Everything is sampled under a name of its own.
    Checkpoint {
        /// The name.
        name: String,
    },
    /// New guests like those of a group are started and given its workload.
    StartGuests {
        /// Id of the guest group.
        guests: String,
        /// How many.
        count: u32,
    },
}

/// What a group's guests are entitled to from now on; what is not given stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimChange {
    /// Id of the guest group.
    pub guests: String,
    /// Weight of each guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u32>,
    /// What each is given whatever happens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Size>,
    /// What each gets at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Size>,
}

impl ClaimChange {
    /// The group as it is from then on.
    pub fn apply(&self, group: &mut GuestGroup) {
        group.shares = self.shares.or(group.shares);
        group.min = self.min.unwrap_or(group.min);
        group.max = self.max.or(group.max);
    }
}

impl Experiment {
    /// Whether thin guests of this group have a balloon: those who are never asked for memory have
    /// none, and pay nothing for it.
    #[must_use]
    pub fn has_balloon(&self, group: &str) -> bool {
        let asked = |timed: &TimedEvent| matches!(&timed.event, Event::SetBalloon { guests, .. } if guests == group);
        let by_policy = self.policy.as_ref().is_some_and(|policy| policy.balloon.0);
        by_policy || self.timeline.iter().any(asked)
    }
}

/// A mechanism that can be switched while guests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switchable {
    /// Disco's copy-on-write disk.
    Disk,
    /// Zero pages.
    Zero,
    /// Content scanning.
    Content,
}

impl Word for Switchable {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        ("disk", Self::Disk, "Disco's copy-on-write disk"),
        ("zero", Self::Zero, "zero pages"),
        ("content", Self::Content, "content scanning"),
    ];
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
                "guests of that group are asked to have so much memory in their balloons, and give what they can do without; without a `policy` that sets them",
            )),
            event(Field::needed::<ClaimChange>(
                "set-claim",
                "the policy entitles guests of that group to more or less; with `policy` only",
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
            "set-claim",
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
        let claim = fields.get("set-claim").map(Event::SetClaim);
        let work = fields.get::<Work>("run-workload").map(|work| work.0);
        let tax = fields.get::<Percent>("set-idle-tax");
        let tax = tax.map(|tax| Event::SetIdleTax { tax });
        let at = fields.get("at");
        let first = enable.or(disable).or(start).or(stop).or(checkpoint);
        Some(Self {
            at: at?,
            event: first.or(mark).or(balloon).or(claim).or(work).or(tax)?,
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

impl FromMap for ClaimChange {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<String>("guests", "an id of `guests`"),
            Field::maybe::<Count>("shares", "as it was", "weight of each guest"),
            Field::maybe::<Size>("min", "as it was", "what each is given whatever happens"),
            Field::maybe::<Size>(
                "max",
                "as it was",
                "what each gets at most, if memory is short",
            ),
        ];
        let about =
            "What guests are entitled to from now on; at least one of `shares`, `min` and `max`";
        Map::new("claim", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (guests, shares) = (fields.get("guests"), fields.get::<Count>("shares"));
        let (min, max) = (fields.get("min"), fields.get("max"));
        if !["shares", "min", "max"].iter().any(|name| fields.has(name)) {
            let problem = fields.problem("nothing changes");
            return fields.report(problem.expected("`shares`, `min` or `max` besides `guests`"));
        }
        Some(Self {
            guests: guests?,
            shares: shares.map(|shares| shares.0),
            min,
            max,
        })
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
