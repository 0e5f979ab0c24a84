//! What is measured, what it should come to, and where it goes.

use std::time::Duration;

use super::super::describe::{Absent, Field, Map, Shape};
use super::super::model::{Bound, Expectation, Metrics, Outputs};
use super::super::reader::{At, Fields, FromMap, FromNode, from_map};
use super::super::text::{Node, Value};
use super::super::units::{Percent, Size, Time};
use super::Name;
use crate::output::summary;

from_map!(Metrics, Expectation, Outputs);

impl FromMap for Metrics {
    fn map() -> Map {
        let about = "period of the sampling grid; at least 10 ms";
        let fields = vec![Field::needed::<Time>("sample", about)];
        Map::new("metrics", "What is sampled when", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let sample = fields.get::<Time>("sample");
        if let Some(period) = sample
            && period.0 < Duration::from_millis(10)
            && let Some((at, _)) = fields.node("sample")
        {
            at.report::<()>(
                at.problem("sampling this often would measure itself")
                    .expected("at least 10 ms"),
            );
        }
        sample.map(|sample| Self { sample })
    }
}

impl FromMap for Expectation {
    fn map() -> Map {
        let bound = |name, about| {
            let mut field = Field::needed::<Quantity>(name, about);
            field.absent = Absent::Means("another bound");
            field
        };
        let fields = vec![
            Field::needed::<Name>("id", "unique"),
            Field::needed::<MetricPath>(
                "metric",
                "a metric of [experiments.md](experiments.md#metrics)",
            ),
            bound("at-least", "the figure is no less"),
            bound("at-most", "the figure is no more"),
            bound("equals", "the figure is exactly this; for counts"),
            Field::maybe::<Percent>(
                "within",
                "another bound",
                "the figure differs from `published` by no more than this part of it",
            ),
            Field::maybe::<String>("cell", "all cells", "a cell of this experiment"),
            Field::maybe::<String>("claim", "none", "one sentence, for readers"),
            Field::maybe::<Quantity>(
                "published",
                "none",
                "the value a paper gives; copied to the result",
            ),
            Field::maybe::<String>(
                "source",
                "none",
                "where it was published: paper, section, figure",
            ),
        ];
        let about = "What a figure should be; judged in each cell it applies to. A figure that was \
                     not measured makes the claim inconclusive, never met";
        Map::new("expectation", about, fields).one_of(&["at-least", "at-most", "equals", "within"])
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (id, metric) = (fields.get::<Name>("id"), fields.get::<MetricPath>("metric"));
        let (claim, cell) = (fields.get("claim"), fields.get("cell"));
        let published = fields.get::<Quantity>("published").map(|q| q.0);
        let source = fields.get("source");
        let bound =
            |name, bound: fn(f64) -> Bound| fields.get::<Quantity>(name).map(|q| bound(q.0));
        let within = fields.get::<Percent>("within").map(|part| part.0 / 100.0);
        if let (Some((at, _)), None) = (fields.node("within"), published) {
            let problem = at.problem("there is no published value to be near to");
            return at.report(problem.expected("`published` beside `within`"));
        }
        let near = within.zip(published);
        let bound = bound("at-least", Bound::AtLeast)
            .or(bound("at-most", Bound::AtMost))
            .or(bound("equals", Bound::Equals))
            .or(near.map(|(part, of)| Bound::Within { part, of }));
        Some(Self {
            id: id?.0,
            claim,
            metric: metric?.0,
            cell,
            bound: bound?,
            published,
            source,
        })
    }
}

/// The path of a metric. Whether there is such a one is checked with the other claims.
pub(super) struct MetricPath(pub(super) String);

impl FromNode for MetricPath {
    fn shape() -> Shape {
        let words = summary::METRICS.iter().map(|metric| (*metric, "a figure"));
        Shape::Words(words.collect())
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        String::from_node(at, node).map(Self)
    }
}

/// A number, a size in bytes, a time in seconds or a fraction given in percent.
struct Quantity(f64);

impl FromNode for Quantity {
    fn shape() -> Shape {
        Shape::Either(vec![
            Shape::Decimal,
            Size::shape(),
            Time::shape(),
            Percent::shape(),
        ])
    }

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

impl FromMap for Outputs {
    fn map() -> Map {
        let about = "gets one folder for each `run`; relative to the current folder. 64 MiB must be \
                     free";
        let fields = vec![Field::needed::<String>("directory", about)];
        Map::new("outputs", "Where results go", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let directory = fields.get::<String>("directory")?;
        Some(Self {
            directory: directory.into(),
        })
    }
}
