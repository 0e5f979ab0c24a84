//! What is measured, what it should come to, and where it goes.

use std::time::Duration;

use super::super::model::{Bound, Expectation, Metrics, Outputs};
use super::super::reader::{At, FromNode};
use super::super::text::{Node, Value};
use super::super::units::{Percent, Size, Time};
use super::Name;

impl FromNode for Metrics {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `sample`")?;
        let sample = fields.need::<Time>("sample");
        if let Some(period) = sample
            && period.0 < Duration::from_millis(10)
            && let Some((at, _)) = fields.node("sample")
        {
            at.report::<()>(
                at.problem("sampling this often would measure itself")
                    .expected("at least 10 ms"),
            );
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
        let least = fields
            .get::<Quantity>("at-least")
            .map(|q| Bound::AtLeast(q.0));
        let most = fields
            .get::<Quantity>("at-most")
            .map(|q| Bound::AtMost(q.0));
        let equals = fields.get::<Quantity>("equals").map(|q| Bound::Equals(q.0));
        let names = ["at-least", "at-most", "equals"];
        let one = fields.need_one_of(&names, "bounds", EXPECTED);
        fields.finish();
        one?;
        Some(Self {
            id: id?.0,
            claim,
            metric: metric?,
            cell,
            bound: least.or(most).or(equals)?,
            published,
        })
    }
}

/// A number, a size in bytes, a time in seconds or a fraction given in percent.
struct Quantity(f64);

impl FromNode for Quantity {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let Value::Text(text) = &node.value else {
            return f64::from_node(at, node).map(Self);
        };
        if text.ends_with('%') {
            return Percent::from_node(at, node).map(|percent| Self(percent.0 / 100.0));
        }
        if text.ends_with('B') {
            #[allow(
                clippy::cast_precision_loss,
                reason = "a bound written by hand; 53 bits are enough"
            )]
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
        directory.map(|directory| Self {
            directory: directory.into(),
        })
    }
}
