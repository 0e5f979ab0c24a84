//! Sweeps: how fields change from cell to cell.
//!
//! A sweep names fields by their paths, as `--set` does. Each of its points is the whole file with
//! those fields changed, read and checked like any other: whatever an experiment file can say can be
//! swept, and a value that is wrong is shown where it stands in the sweep.

mod expand;
mod points;

use serde::Serialize;

use super::describe::{Field, Map, Shape};
use super::diagnostic::Mark;
use super::model::MechanismSet;
use super::reader::{At, Fields, FromMap, FromNode, from_map};
use super::setting::Setting;
use super::text::{Node, Value};
use super::units::{Count, Percent};
use mirrorball_report::figure::{Published, PublishedFootprint};

pub(super) use expand::{Given, expand};

from_map!(Block, Published, PublishedFootprint);

/// How fields change from cell to cell.
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    /// Its blocks, one after the other.
    #[serde(skip)]
    pub(super) blocks: Vec<Block>,
    /// Paths of the fields that change.
    pub fields: Vec<String>,
    /// What others measured for such numbers of guests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
}

impl PartialEq for Sweep {
    fn eq(&self, other: &Self) -> bool {
        // The points are in the cells.
        self.fields == other.fields && self.published == other.published
    }
}

/// Some points.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Its path in the file.
    path: String,
    points: Vec<Point>,
    /// Ids of the mechanism sets that are swept; all where none is named.
    sets: Vec<String>,
    published: Option<Published>,
}

/// One combination of values.
#[derive(Clone, Debug)]
pub(super) struct Point {
    /// Its part of the cells' ids.
    label: String,
    /// What is changed.
    settings: Vec<Setting>,
    /// Where it was written.
    mark: Mark,
}

impl FromNode for Sweep {
    fn shape() -> Shape {
        let block = || Block::shape();
        Shape::Either(vec![block(), Shape::List(Box::new(block()))])
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let blocks = match &node.value {
            Value::List(_) => Vec::<Block>::from_node(at, node)?,
            _ => vec![Block::from_node(at, node)?],
        };
        let mut fields = Vec::new();
        let settings = blocks.iter().flat_map(|block| &block.points);
        for setting in settings.flat_map(|point| &point.settings) {
            if !fields.contains(&setting.path) {
                fields.push(setting.path.clone());
            }
        }
        Some(Self {
            published: blocks.iter().find_map(|block| block.published.clone()),
            blocks,
            fields,
        })
    }
}

impl FromMap for Block {
    fn map() -> Map {
        let fields = vec![
            Field::maybe::<String>(
                "guests",
                "another kind of points",
                "short for the `count` of these guests: an id of `guests`",
            ),
            Field::maybe::<Vec<Count>>(
                "count",
                "needed with `guests`",
                "the numbers of its guests",
            ),
            Field::maybe::<points::Axes>(
                "matrix",
                "another kind of points",
                "values by path: every combination is a point; the last path changes fastest",
            ),
            Field::maybe::<points::Axes>(
                "zip",
                "another kind of points",
                "values by path, all lists as long: the first values make a point, the second ones, ...",
            ),
            Field::maybe::<points::Named>(
                "points",
                "another kind of points",
                "points by a name of your choice, each with a value by path",
            ),
            Field::or::<Vec<points::Assignments>>("include", "[]", "points besides"),
            Field::or::<Vec<points::Assignments>>(
                "exclude",
                "[]",
                "points that are left out: those with all of these values. One that leaves nothing out is refused",
            ),
            Field::maybe::<String>(
                "label",
                "the values, joined by `-`",
                "a point's part of its cells' ids: a text with paths in braces, such as `{guests.web.count}x`",
            ),
            Field::or::<Vec<MechanismSet>>(
                "sets",
                "[]",
                "only these sets are swept; the others run as the file has them. All where none is named",
            ),
            Field::maybe::<Published>("published", "none", "others' values for `sweep.svg`"),
        ];
        let about = "How fields change from cell to cell: every mechanism set becomes one cell for \
                     each point, named `<set>-<point>`. Several blocks in a list follow each other. \
                     Paths have ids in them, as in `guests.web.workload.zero`, \
                     `phases.settle.until.scans`; the file itself must be valid without the sweep";
        Map::new("sweep", about, fields).one_of(&["guests", "matrix", "zip", "points"])
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let published = fields.get("published");
        let sets = fields.get::<Vec<MechanismSet>>("sets")?;
        let label = fields.get::<String>("label");
        let mut made = points::made(fields)?;
        points::change(fields, &mut made);
        Some(Self {
            path: fields.path().to_owned(),
            points: points::named(fields, made, label.as_deref())?,
            sets: sets.into_iter().map(|set| set.id).collect(),
            published,
        })
    }
}

impl FromMap for Published {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<String>("source", "where they were published"),
            Field::needed::<Vec<Count>>("count", "numbers of guests"),
            Field::or::<Vec<Percent>>("shared", "[]", "pages that share a frame, for each number"),
            Field::or::<Vec<Percent>>("reclaimed", "[]", "pages saved"),
            Field::or::<Vec<Percent>>("zero", "[]", "pages of zeros"),
            Field::maybe::<Percent>(
                "reading-error",
                "none",
                "how far off values are at most that were read off a graph",
            ),
            Field::maybe::<PublishedFootprint>(
                "footprint",
                "none",
                "memory by what it is used for, beside ours in `footprint.svg`",
            ),
        ];
        let about = "Published values of a sweep, in percent of the memory in use";
        Map::new("published", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let source = fields.get("source");
        let count = fields.get::<Vec<Count>>("count");
        let percentages = |name| {
            let values = fields.get::<Vec<Percent>>(name).unwrap_or_default();
            values.into_iter().map(|value| value.0).collect()
        };
        Some(Self {
            shared: percentages("shared"),
            reclaimed: percentages("reclaimed"),
            zero: percentages("zero"),
            reading_error: fields.get::<Percent>("reading-error").map(|error| error.0),
            footprint: fields.get("footprint"),
            source: source?,
            count: count?.into_iter().map(|count| count.0).collect(),
        })
    }
}

impl FromMap for PublishedFootprint {
    fn map() -> Map {
        let mut fields = vec![Field::needed::<Vec<String>>("bars", "what each bar is of")];
        for (name, about) in FOOTPRINTS {
            fields.push(Field::or::<Vec<f64>>(name, "[]", about));
        }
        let about = "Published memory by what it is used for, in MB, a value for each bar: as guests \
                     see it (`touched`) and in the machine";
        Map::new("footprint", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let bars = fields.get::<Vec<String>>("bars")?;
        let mut parts = FOOTPRINTS.map(|(name, _)| {
            let values = fields.get::<Vec<f64>>(name).unwrap_or_default();
            if let (true, Some((at, _))) = (values.len() != bars.len(), fields.node(name)) {
                let problem = at.problem(format!("{} values", values.len()));
                at.report::<()>(problem.expected(format!("{}, one for each bar", bars.len())));
            }
            values
        });
        let [text, text_machine, data, data_machine, cache, cache_machine] =
            std::array::from_fn(|index| std::mem::take(&mut parts[index]));
        Some(Self {
            bars,
            touched: [text, data, cache],
            machine: [text_machine, data_machine, cache_machine],
        })
    }
}

/// Fields of a published footprint.
const FOOTPRINTS: [(&str, &str); 6] = [
    ("text-touched", "guests' code"),
    ("text-machine", "the same in the machine"),
    ("data-touched", "guests' data"),
    ("data-machine", "the same in the machine"),
    ("cache-touched", "guests' buffer caches"),
    ("cache-machine", "the same in the machine"),
];

#[cfg(test)]
mod tests;
