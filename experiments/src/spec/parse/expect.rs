//! Claims: what figures should come to.

use super::super::describe::{Absent, Field, Map, Shape};
use super::super::model::{Bound, Expectation, Importance, Statistic};
use super::super::reader::{At, Fields, FromMap, FromNode, Word, from_map};
use super::super::text::{Node, Value};
use super::super::units::{Percent, Size, Time};
use super::Name;
use super::results::MetricPath;

from_map!(Expectation, Near, Ratio);

impl Word for Importance {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        ("fail", Self::Fail, "not met: exit code 6"),
        (
            "warn",
            Self::Warn,
            "not met: it is told, and the exit code is 0",
        ),
        ("info", Self::Info, "only written to the result"),
    ];
}

impl Word for Statistic {
    const WORDS: &'static [(&'static str, Self, &'static str)] = &[
        ("median", Self::Median, "the median of the runs"),
        ("mean", Self::Mean, "their mean"),
        ("least", Self::Least, "the least of them"),
        ("most", Self::Most, "the most of them"),
    ];
}

/// A bound among several.
fn bound<T: FromNode>(name: &'static str, about: &'static str) -> Field {
    let mut field = Field::needed::<T>(name, about);
    field.absent = Absent::Means("another bound");
    field
}

impl FromMap for Expectation {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<Name>("id", "unique"),
            Field::needed::<MetricPath>(
                "metric",
                "a metric of [experiments.md](experiments.md#metrics)",
            ),
            bound::<Quantity>("at-least", "the figure is no less"),
            bound::<Quantity>("at-most", "the figure is no more"),
            bound::<Pair>("between", "the figure is in this range: `[least, most]`"),
            bound::<Quantity>(
                "equals",
                "the figure is exactly this in every run; for counts",
            ),
            bound::<Within>(
                "within",
                "the figure is near to a value: a percentage is the largest distance from `published`, as a part of it",
            ),
            bound::<Ratio>("ratio", "the figure stands so to that of another cell"),
            bound::<String>(
                "increases-with",
                "the figure is more at each higher value of this swept field, a path of `sweep`",
            ),
            bound::<String>(
                "decreases-with",
                "the figure is less at each higher value of this swept field",
            ),
            bound::<Vec<String>>(
                "order",
                "the figure is more in each of these cells than in the one before; of mechanism sets in a sweep, at every point",
            ),
            Field::maybe::<String>(
                "cell",
                "all cells",
                "a cell of this experiment; in a sweep also a mechanism set, for all its cells",
            ),
            Field::or::<Statistic>("statistic", "median", "of the figure in several runs"),
            Field::or::<Importance>("severity", "fail", "what it means if it is not met"),
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
                     not measured makes the claim inconclusive, never met; so does one whose 95 % \
                     interval lies on both sides of the bound";
        let one = &[
            "at-least",
            "at-most",
            "between",
            "equals",
            "within",
            "ratio",
            "increases-with",
            "decreases-with",
            "order",
        ];
        Map::new("expectation", about, fields).one_of(one)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let (id, metric) = (fields.get::<Name>("id"), fields.get::<MetricPath>("metric"));
        let (claim, cell) = (fields.get("claim"), fields.get("cell"));
        let published = fields.get::<Quantity>("published").map(|q| q.0);
        let source = fields.get("source");
        let (statistic, severity) = (fields.get("statistic"), fields.get("severity"));
        let ratio = fields.get::<Ratio>("ratio");
        let equals = fields.get::<Quantity>("equals").map(|q| Bound::Equals(q.0));
        let bound = range(fields)
            .or(equals)
            .or_else(|| near(fields, published))
            .or_else(|| shape(fields));
        let (ratio_to, bound) = match ratio {
            Some(ratio) => (Some(ratio.to), Some(ratio.bound)),
            None => (None, bound),
        };
        Some(Self {
            id: id?.0,
            claim,
            metric: metric?.0,
            cell,
            ratio_to,
            statistic: statistic?,
            severity: severity?,
            bound: bound?,
            published,
            source,
        })
    }
}

/// A curve's direction, or the order of cells.
fn shape(fields: &Fields<'_>) -> Option<Bound> {
    let along = |name, bound: fn(String) -> Bound| fields.get::<String>(name).map(bound);
    along("increases-with", Bound::IncreasesWith)
        .or_else(|| along("decreases-with", Bound::DecreasesWith))
        .or_else(|| fields.get::<Vec<String>>("order").map(Bound::Order))
}

/// `at-least`, `at-most` or `between`.
fn range(fields: &Fields<'_>) -> Option<Bound> {
    let bound = |name, bound: fn(f64) -> Bound| fields.get::<Quantity>(name).map(|q| bound(q.0));
    let between = fields.get::<Pair>("between").map(|pair| Bound::Between {
        low: pair.0,
        high: pair.1,
    });
    bound("at-least", Bound::AtLeast)
        .or(bound("at-most", Bound::AtMost))
        .or(between)
}

/// `within`, of a value of its own or of the published one.
fn near(fields: &Fields<'_>, published: Option<f64>) -> Option<Bound> {
    let within = fields.get::<Within>("within")?;
    let own = match &within {
        Within::Part(_) => None,
        Within::Near(near) => near.of,
    };
    let Some(of) = own.or(published) else {
        let (at, _) = fields.node("within")?;
        let problem = at.problem("there is no published value to be near to");
        return at.report(problem.expected("`published` beside `within`, or `of` in it"));
    };
    Some(match within {
        Within::Part(part) => Bound::Within { part, of },
        Within::Near(near) => match near.distance {
            Distance::Part(part) => Bound::Within { part, of },
            Distance::Absolute(by) => Bound::Around { by, of },
        },
    })
}

/// How near to a value a figure should be.
enum Within {
    Part(f64),
    Near(Near),
}

impl FromNode for Within {
    fn shape() -> Shape {
        Shape::Either(vec![Percent::shape(), Near::shape()])
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Near::from_node(at, node).map(Self::Near),
            _ => Percent::from_node(at, node).map(|part| Self::Part(part.0 / 100.0)),
        }
    }
}

struct Near {
    of: Option<f64>,
    distance: Distance,
}

enum Distance {
    Part(f64),
    Absolute(f64),
}

impl FromMap for Near {
    fn map() -> Map {
        let mut relative = Field::needed::<Percent>("relative", "most distance, as a part of it");
        relative.absent = Absent::Means("`absolute`");
        let mut absolute = Field::needed::<Quantity>("absolute", "most distance");
        absolute.absent = Absent::Means("`relative`");
        let fields = vec![
            Field::maybe::<Quantity>("of", "the `published` value", "the value to be near to"),
            relative,
            absolute,
        ];
        Map::new("near", "How near a figure is to a value", fields)
            .one_of(&["relative", "absolute"])
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let of = fields.get::<Quantity>("of").map(|q| q.0);
        let part = fields.get::<Percent>("relative");
        let absolute = fields.get::<Quantity>("absolute");
        let distance = part
            .map(|part| Distance::Part(part.0 / 100.0))
            .or(absolute.map(|by| Distance::Absolute(by.0)));
        Some(Self {
            of,
            distance: distance?,
        })
    }
}

/// How a figure stands to that of another cell.
struct Ratio {
    to: String,
    bound: Bound,
}

impl FromMap for Ratio {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<String>(
                "to",
                "the other cell; in a sweep also a mechanism set, for its cell at the same point",
            ),
            bound::<Quantity>("at-least", "the ratio is no less"),
            bound::<Quantity>("at-most", "the ratio is no more"),
            bound::<Pair>("between", "the ratio is in this range: `[least, most]`"),
        ];
        let about = "How a figure stands to that of another cell: the ratio of each repeat's two \
                     runs, never one of two medians";
        Map::new("ratio", about, fields).one_of(&["at-least", "at-most", "between"])
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let to = fields.get("to");
        let bound = range(fields);
        Some(Self {
            to: to?,
            bound: bound?,
        })
    }
}

/// The ends of a range.
struct Pair(f64, f64);

impl FromNode for Pair {
    fn shape() -> Shape {
        Shape::List(Box::new(Quantity::shape()))
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let expected = "a list of two values, the lesser first, such as `[10 MiB, 20 MiB]`";
        let ends = Vec::<Quantity>::from_node(at, node)?;
        match ends[..] {
            [Quantity(low), Quantity(high)] if low <= high => Some(Self(low, high)),
            [_, _] => at.report(at.problem("the lesser comes first").expected(expected)),
            _ => at.report(
                at.problem(format!("this has {} values", ends.len()))
                    .expected(expected),
            ),
        }
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
