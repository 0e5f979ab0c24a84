//! The points of a sweep as they are written, and their names.

use super::super::describe::Shape;
use super::super::diagnostic::Mark;
use super::super::reader::{At, Fields, FromNode};
use super::super::setting::Setting;
use super::super::text::{Node, Value};
use super::super::units::Count;
use super::Point;

/// Longest part of a cell's id that a value becomes.
const LONGEST_VALUE: usize = 24;
/// Longest name of a point: with a mechanism set before it, it still is a file's name.
const LONGEST_LABEL: usize = 64;
/// More cells than this are a mistake.
const MOST_POINTS: usize = 2000;

/// One swept field and its values.
pub(super) struct Axis {
    path: String,
    mark: Mark,
    values: Vec<Node>,
}

/// Values by path.
pub(super) struct Axes(Vec<Axis>);

impl FromNode for Axes {
    fn shape() -> Shape {
        Shape::ById(Box::new(Shape::List(Box::new(Shape::Any))))
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let mut axes = Vec::new();
        for (at, key, node) in at.entries(node, "a map from a path to a list of values")? {
            let Value::List(values) = &node.value else {
                at.wrong_kind::<()>(node, "a list of values, such as `[1, 2, 4]`");
                continue;
            };
            if values.is_empty() {
                at.report::<()>(
                    at.problem("there is no value")
                        .expected("at least one value"),
                );
            }
            axes.push(Axis {
                path: key.name.clone(),
                mark: key.mark,
                values: values.clone(),
            });
        }
        (!axes.is_empty()).then_some(Self(axes))
    }
}

/// A value by path.
pub(super) struct Assignments(Vec<Setting>, Mark);

impl FromNode for Assignments {
    fn shape() -> Shape {
        Shape::ById(Box::new(Shape::Any))
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let entries = at.entries(node, "a map from a path to a value")?;
        let setting = |(_, key, value): (At<'_>, &super::super::text::Key, &Node)| Setting {
            path: key.name.clone(),
            mark: key.mark,
            value: value.clone(),
        };
        Some(Self(entries.into_iter().map(setting).collect(), node.mark))
    }
}

/// Points by name.
pub(super) struct Named(Vec<(String, Assignments)>);

impl FromNode for Named {
    fn shape() -> Shape {
        Shape::ById(Box::new(Assignments::shape()))
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let entries = at.entries(node, "a map from a name to the values of a point")?;
        let mut points = Vec::new();
        for (at, key, node) in entries {
            if let Some(point) = Assignments::from_node(&at, node) {
                points.push((key.name.clone(), point));
            }
        }
        Some(Self(points))
    }
}

/// A point that has no name yet.
pub(super) struct Unnamed {
    name: Option<String>,
    settings: Vec<Setting>,
    /// What each setting is called in a name.
    values: Vec<String>,
    mark: Mark,
}

/// The points that one of `guests`, `matrix`, `zip` and `points` makes.
pub(super) fn made(fields: &Fields<'_>) -> Option<Vec<Unnamed>> {
    let count = fields.get::<Vec<Count>>("count");
    if let (Some((at, _)), false) = (fields.node("count"), fields.has("guests")) {
        at.report::<()>(
            at.problem("these are numbers of no guests")
                .expected("`guests`"),
        );
    }
    if fields.has("guests") {
        return numbers(fields, count.is_some());
    }
    if let Some(axes) = fields.get::<Axes>("matrix") {
        return product(fields, &axes.0);
    }
    if let Some(axes) = fields.get::<Axes>("zip") {
        return side_by_side(fields, &axes.0);
    }
    let points = fields.get::<Named>("points")?.0;
    let point = |(name, Assignments(settings, mark)): (String, Assignments)| Unnamed {
        name: Some(name),
        ..unnamed(settings, mark)
    };
    Some(points.into_iter().map(point).collect())
}

fn unnamed(settings: Vec<Setting>, mark: Mark) -> Unnamed {
    let values = settings.iter().map(|setting| slug(&setting.value, 0));
    Unnamed {
        name: None,
        values: values.collect(),
        settings,
        mark,
    }
}

/// `guests` and `count`: short for a matrix of one path.
fn numbers(fields: &Fields<'_>, counted: bool) -> Option<Vec<Unnamed>> {
    let guests = fields.get::<String>("guests");
    let Some((at, node)) = fields.node("count") else {
        let problem = fields.problem("`count` is missing");
        return fields.report(problem.expected("the numbers of these guests"));
    };
    let Value::List(values) = &node.value else {
        return None;
    };
    if values.is_empty() {
        let problem = at.problem("`count` is empty");
        return at.report(problem.expected("at least one number of guests"));
    }
    let (guests_at, _) = fields.node("guests")?;
    let axis = Axis {
        path: format!("guests.{}.count", guests?),
        mark: guests_at.mark(),
        values: values.clone(),
    };
    counted.then_some(())?;
    product(fields, &[axis])
}

fn product(fields: &Fields<'_>, axes: &[Axis]) -> Option<Vec<Unnamed>> {
    let all = axes.iter().map(|axis| axis.values.len());
    let all = all.fold(1, usize::saturating_mul);
    if all > MOST_POINTS {
        let problem = fields.problem(format!("{all} points"));
        return fields.report(problem.expected(format!("at most {MOST_POINTS}")));
    }
    let mut points = vec![unnamed(Vec::new(), Mark::START)];
    for axis in axes {
        let longer = points.iter().flat_map(|point| {
            let more = |(number, value): (usize, &Node)| point.with(axis, number, value);
            axis.values.iter().enumerate().map(more).collect::<Vec<_>>()
        });
        points = longer.collect();
    }
    Some(points)
}

fn side_by_side(fields: &Fields<'_>, axes: &[Axis]) -> Option<Vec<Unnamed>> {
    let first = axes.first()?;
    for axis in axes {
        if axis.values.len() != first.values.len() {
            let (at, _) = fields.node("zip")?;
            let (here, there) = (axis.values.len(), first.values.len());
            let problem = at.problem(format!(
                "`{}` has {here} values and `{}` has {there}",
                axis.path, first.path
            ));
            return at.report(problem.expected("lists of one length"));
        }
    }
    let point = |number: usize| {
        let empty = unnamed(Vec::new(), Mark::START);
        axes.iter().fold(empty, |point, axis| {
            point.with(axis, number, &axis.values[number])
        })
    };
    Some((0..first.values.len()).map(point).collect())
}

impl Unnamed {
    fn with(&self, axis: &Axis, number: usize, value: &Node) -> Self {
        let mut settings = self.settings.clone();
        settings.push(Setting {
            path: axis.path.clone(),
            mark: axis.mark,
            value: value.clone(),
        });
        let mut values = self.values.clone();
        values.push(slug(value, number));
        Self {
            name: self.name.clone(),
            settings,
            values,
            mark: value.mark,
        }
    }

    /// Whether it has all of these values.
    fn has(&self, wanted: &[Setting]) -> bool {
        wanted.iter().all(|wanted| {
            let same = |own: &Setting| {
                own.path == wanted.path && own.value.plain() == wanted.value.plain()
            };
            self.settings.iter().any(same)
        })
    }

    fn label(&self, template: Option<&str>) -> Result<String, String> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let Some(template) = template else {
            return Ok(self.values.join("-"));
        };
        let mut label = template.to_owned();
        for (setting, value) in self.settings.iter().zip(&self.values) {
            label = label.replace(&format!("{{{}}}", setting.path), value);
        }
        match label.contains(['{', '}']) {
            true => Err(format!("`{template}` names a path that is not swept")),
            false => Ok(label),
        }
    }
}

/// Leaves out and adds what the block says.
pub(super) fn change(fields: &Fields<'_>, points: &mut Vec<Unnamed>) {
    let exclude = fields
        .get::<Vec<Assignments>>("exclude")
        .unwrap_or_default();
    for (index, Assignments(wanted, _)) in exclude.iter().enumerate() {
        let before = points.len();
        points.retain(|point| !point.has(wanted));
        if points.len() == before
            && let Some((at, node)) = fields.node("exclude")
            && let Value::List(items) = &node.value
            && let Some(item) = items.get(index)
        {
            let at = at.item(index, item);
            let problem = at.problem("this leaves no point out");
            at.report::<()>(problem.expected("paths and values as they are in the points"));
        }
    }
    let include = fields
        .get::<Vec<Assignments>>("include")
        .unwrap_or_default();
    points.extend(
        include
            .into_iter()
            .map(|Assignments(settings, mark)| unnamed(settings, mark)),
    );
}

/// Gives the points their names.
pub(super) fn named(
    fields: &Fields<'_>,
    points: Vec<Unnamed>,
    label: Option<&str>,
) -> Option<Vec<Point>> {
    if points.is_empty() {
        let problem = fields.problem("no point is left");
        return fields.report(problem.expected("at least one point"));
    }
    let place = if label.is_some() { "label" } else { "points" };
    let mut made = Vec::new();
    for point in points {
        let label = point.label(label).and_then(|label| fit(&label));
        match label {
            Ok(label) => made.push(Point {
                label,
                settings: point.settings,
                mark: point.mark,
            }),
            Err(message) => {
                let problem = match fields.node(place) {
                    Some((at, _)) => at.problem(message),
                    None => fields.problem(message),
                };
                return fields.report(problem.expected(format!(
                    "a name of at most {LONGEST_LABEL} letters, digits, `-` and `_` for each point"
                )));
            }
        }
    }
    Some(made)
}

/// A name that can be a part of a file's name.
fn fit(label: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if label.is_empty() || label.len() > LONGEST_LABEL || !label.chars().all(allowed) {
        return Err(format!("a point would be called `{label}`"));
    }
    Ok(label.to_owned())
}

/// A value as a part of a name; a list or a map by its place among the values.
fn slug(value: &Node, number: usize) -> String {
    let text = match value.plain() {
        serde_json::Value::String(text) => text,
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => (number + 1).to_string(),
        other => other.to_string(),
    };
    let mut slug = String::new();
    for c in text.chars() {
        match c {
            ' ' => {}
            '%' => slug.push_str("pct"),
            '.' => slug.push('_'),
            c if c.is_ascii_alphanumeric() || c == '-' || c == '_' => slug.push(c),
            _ => slug.push('-'),
        }
    }
    slug.truncate(LONGEST_VALUE);
    slug
}
