//! Figures of papers, drawn beside ours.

use mirrorball_report::figure::{PublishedFigure, PublishedLine};

use super::super::describe::{Field, Map};
use super::super::reader::{Fields, FromMap, from_map};
use super::Name;
use super::results::MetricPath;

from_map!(PublishedFigure, PublishedLine);

impl FromMap for PublishedFigure {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<Name>("id", "unique; names the figure's files, `curve-<id>.svg`"),
            Field::needed::<String>("title", "what it shows"),
            Field::needed::<String>("source", "where it was published"),
            Field::needed::<String>("x", "what is on the axis across, with its unit"),
            Field::needed::<String>("y", "what is on the other, with its unit"),
            Field::needed::<Vec<PublishedLine>>("lines", "its curves"),
        ];
        let about = "A figure of a paper, drawn beside our values, or alone where the report has ours in \
                     another figure. It changes no figure of a result";
        Map::new("curve", about, fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let id = fields.get::<Name>("id");
        let [title, source, x, y] = ["title", "source", "x", "y"].map(|name| fields.get(name));
        let lines = fields.get::<Vec<PublishedLine>>("lines");
        some(fields, "lines", lines.as_deref());
        Some(Self {
            id: id?.0,
            title: title?,
            source: source?,
            x: x?,
            y: y?,
            lines: lines?,
        })
    }
}

impl FromMap for PublishedLine {
    fn map() -> Map {
        let fields = vec![
            Field::needed::<String>("name", "what the curve is of"),
            Field::needed::<Vec<f64>>("x", "places of the published values"),
            Field::needed::<Vec<f64>>("y", "the published values, one for each place"),
            Field::maybe::<MetricPath>("metric", "no value of ours", "our figure beside them"),
            Field::or::<Vec<String>>("cells", "[]", "with `metric`: the cells that have it"),
            Field::or::<Vec<f64>>(
                "at",
                "[]",
                "with `metric`: the place of each of these cells",
            ),
            Field::maybe::<String>(
                "percent-of",
                "the figure as it is",
                "ours are in percent of this cell's figure in the same repeat",
            ),
        ];
        Map::new(
            "curve line",
            "A curve of a paper, and our values beside it",
            fields,
        )
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let line = Self {
            name: fields.get("name")?,
            x: fields.get("x")?,
            y: fields.get("y")?,
            metric: fields.get::<MetricPath>("metric").map(|path| path.0),
            cells: fields.get("cells")?,
            at: fields.get("at")?,
            percent_of: fields.get("percent-of"),
        };
        some(fields, "x", Some(&line.x));
        as_long(
            fields,
            "y",
            line.y.len(),
            line.x.len(),
            "one for each of `x`",
        );
        as_long(
            fields,
            "at",
            line.at.len(),
            line.cells.len(),
            "one for each of `cells`",
        );
        if line.metric.is_some() == line.cells.is_empty() {
            let problem =
                fields.problem("`metric` and `cells` say together what stands beside the curve");
            fields.report::<()>(problem.expected("both, or neither"));
        }
        Some(line)
    }
}

/// Says so if a list is empty: there would be nothing to draw.
fn some<T>(fields: &Fields<'_>, name: &str, list: Option<&[T]>) {
    if let (Some([]), Some((at, _))) = (list, fields.node(name)) {
        at.report::<()>(at.problem("this list is empty").expected("at least one"));
    }
}

/// Says so if a list has not as many values as it must.
fn as_long(fields: &Fields<'_>, name: &str, found: usize, wanted: usize, what: &str) {
    if found == wanted {
        return;
    }
    let problem = |at: &super::At<'_>| at.problem(format!("a list of length {found}"));
    match fields.node(name) {
        Some((at, _)) => at.report::<()>(problem(&at).expected(format!("length {wanted}, {what}"))),
        None => fields.report(
            fields
                .problem(format!("no `{name}`"))
                .expected(format!("a list of length {wanted}, {what}")),
        ),
    };
}
