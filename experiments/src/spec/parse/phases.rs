//! Phases, the timeline and repeats.

use super::super::model::{Event, Phases, Repeat, RunOrder, Switchable, TimedEvent};
use super::super::reader::{At, Fields, FromNode};
use super::super::text::{Node, Value};
use super::super::units::Count;

impl FromNode for Phases {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return at.wrong_kind(node, "a list of phases: start, workload, settle, stop");
        };
        let mut phases = Self::default();
        let mut last = None;
        for (index, item) in items.iter().enumerate() {
            let at = at.item(index, item);
            let Some(fields) = at.fields(item, "a map with `id`") else {
                continue;
            };
            let Some((id_at, id_node)) = fields.node("id") else {
                at.report::<()>(
                    at.problem("`id` is missing")
                        .expected("`id`: start, workload, settle or stop"),
                );
                continue;
            };
            let Some(id) = id_at.word(
                id_node,
                &[("start", 0), ("workload", 1), ("settle", 2), ("stop", 3)],
            ) else {
                continue;
            };
            if last >= Some(id) {
                let problem = id_at.problem("phases are out of order");
                id_at.report::<()>(
                    problem.expected("start, workload, settle, stop, each at most once"),
                );
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
        let names = ["enable", "disable", "stop-guests", "start-guests"];
        let one = fields.need_one_of(&names, "events", EXPECTED);
        fields.finish();
        one?;
        Some(Self {
            at: time?,
            event: events.pop()?,
        })
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
        Some(Self {
            guests: guests?,
            count: count.0,
        })
    }
}

impl FromNode for Repeat {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `runs` and `order`")?;
        let order = fields.node("order").and_then(|(at, node)| {
            at.word(
                node,
                &[
                    ("interleaved", RunOrder::Interleaved),
                    ("blocked", RunOrder::Blocked),
                ],
            )
        });
        let runs = fields.or("runs", Count(1)).0;
        fields.finish();
        Some(Self {
            runs,
            order: order.unwrap_or(RunOrder::Interleaved),
        })
    }
}
