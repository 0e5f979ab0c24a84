//! The report: one HTML file that needs nothing else.
//!
//! The page is in `templates/report.html` and `templates/style.css`; here its values are gathered.
//! It has no script and loads nothing: it can be moved, mailed, printed and opened in ten years.
//! The same results give the same bytes.

mod cells;
mod cost;
mod drawn;
mod expected;
mod files;
mod origin;
mod published;
mod section;
mod text;
mod write;

pub use text::Value;
pub use write::{Placing, ReportError, Written, write};

use askama::Template;

use crate::figure::Figure;
use crate::results::Results;
use section::Section;

/// The style sheet.
const STYLE: &str = include_str!("../../templates/style.css");

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: String,
    version: &'static str,
    style: &'static str,
    sections: Vec<Section<'a>>,
}

/// Results with their figures and the places of their files, as seen from the page.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) results: &'a Results,
    pub(crate) figures: &'a [Figure],
    /// Where the results folder is.
    pub(crate) folder: String,
    /// Where the figures' files are, with the beginning of their names, if there are any.
    pub(crate) drawn: Option<String>,
    /// The same of the tables.
    pub(crate) tables: Option<String>,
}

/// The page for these results.
pub(crate) fn page(parts: &[Part<'_>]) -> Result<String, askama::Error> {
    let title = match parts {
        [one] => one.results.title().to_owned(),
        more => format!("{} experiments", more.len()),
    };
    let sections = parts
        .iter()
        .enumerate()
        .map(|(index, part)| Section::new(index, part));
    Page {
        title,
        version: env!("CARGO_PKG_VERSION"),
        style: STYLE,
        sections: sections.collect(),
    }
    .render()
}
