//! How often cells are run, and in which order.

use super::super::describe::{Field, Map, Shape};
use super::super::model::{Precision, Repeat, RunOrder, Runs};
use super::super::reader::{At, Fields, FromMap, FromNode, Word, from_map};
use super::super::text::{Node, Value};
use super::super::units::{Count, Percent};
use super::results::MetricPath;

from_map!(Repeat, Enough, Precision);

impl Word for RunOrder {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        ("interleaved", Self::Interleaved, "A B, then B A, ..."),
        ("blocked", Self::Blocked, "A A, then B B, ..."),
        (
            "shuffled",
            Self::Shuffled,
            "each repeat in a random order of its own, from the seed",
        ),
    ];
}

impl FromMap for Repeat {
    fn map() -> Map {
        let fields = vec![
            Field::or::<u32>(
                "warmup",
                "0",
                "runs of each cell before those that count: kept, marked, and in no statistic",
            ),
            Field::or::<Runs>("runs", "1", "runs of each cell that count"),
            Field::or::<RunOrder>("order", "interleaved", "their order"),
            Field::or::<u32>(
                "retries",
                "0",
                "how often a run is made again that failed by the host's fault (`host`, `in-use`); what guests do wrong is a result and stands",
            ),
        ];
        let about = "How often each cell is run. Each repeat has a seed of its own, the same in all \
                     cells: the first the experiment's, the others made from it";
        Map::new("repeat", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        Some(Self {
            warmup: fields.get("warmup")?,
            runs: fields.get("runs")?,
            order: fields.get("order")?,
            retries: fields.get("retries")?,
        })
    }
}

impl FromNode for Runs {
    fn shape() -> Shape {
        Shape::Either(vec![Count::shape(), Enough::shape()])
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Enough::from_node(at, node).map(|enough| Self::Until(enough.0)),
            _ => Count::from_node(at, node).map(|count| Self::Fixed(count.0)),
        }
    }
}

/// As many runs as it takes.
struct Enough(Precision);

impl FromMap for Enough {
    fn map() -> Map {
        let fields = vec![
            Field::or::<Count>("min", "5", "runs at least; 3 or more"),
            Field::or::<Count>("max", "30", "runs at most"),
            Field::needed::<Precision>("until", "what ends them between the two"),
        ];
        let about = "As many runs as a figure needs to be known well enough, cell by cell; why they \
                     ended is in `summary.json`";
        Map::new("enough", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (min, max) = (fields.get::<Count>("min")?.0, fields.get::<Count>("max")?.0);
        let until = fields.get::<Precision>("until");
        if min < 3
            && let Some((at, _)) = fields.node("min")
        {
            at.report::<()>(
                at.problem("fewer than three runs have no interval")
                    .expected("3 or more"),
            );
        }
        if max < min {
            let problem = match fields.node("max").or(fields.node("min")) {
                Some((at, _)) => at.problem(format!("at most {max} runs, and at least {min}")),
                None => fields.problem("`max` is below `min`"),
            };
            return fields.report(problem.expected("`max` no less than `min`"));
        }
        Some(Self(Precision { min, max, ..until? }))
    }
}

impl FromMap for Precision {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<MetricPath>(
                "metric",
                "a metric of [experiments.md](experiments.md#metrics)",
            ),
            Field::needed::<Percent>(
                "relative-half-width",
                "half the width of the 95 % t interval of its mean, in percent of the mean",
            ),
        ];
        Map::new("precision", "When a figure is known well enough", fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let metric = fields.get::<MetricPath>("metric");
        let width = fields.get::<Percent>("relative-half-width");
        Some(Self {
            min: 0,
            max: 0,
            metric: metric?.0,
            relative_half_width: width?.0 / 100.0,
        })
    }
}
