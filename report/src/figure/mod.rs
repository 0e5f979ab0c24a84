//! Figures: what is drawn, in two forms.
//!
//! A figure for a file carries its title, legend and source; in the page these stand around it as
//! text, which wraps on a phone. Both come from the same plots. The library draws in black on
//! white; the page's style sheet turns that over for dark screens.

mod bars;
mod claimed;
mod curves;
#[cfg(test)]
mod fixture;
mod footprint;
mod guests;
mod latency;
mod memory;
mod published;
mod ratios;
mod savings;
mod svg;
mod tex;
mod time;

pub use bars::{costs, mechanisms};
pub use claimed::claimed;
pub use curves::{PublishedFigure, PublishedLine, curves};
pub use footprint::{PublishedFootprint, footprint};
pub use guests::guests;
pub use latency::latencies;
pub use memory::{memory, memory_svg};
pub use published::{Published, Residual, published, residuals, sweep_svg};
pub use ratios::ratios;
pub use savings::savings;
pub use svg::png;
pub(crate) use tex::escape as latex;

use kuva::backend::svg::SvgBackend;
use kuva::plot::LegendPosition;
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;
use kuva::render::render::render_multiple;

use crate::results::Results;

/// Okabe and Ito's colours, which colour-blind readers tell apart, without yellow, which lines can't
/// be seen in on white.
const COLORS: [&str; 7] = [
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000",
];

/// Width of a drawing in the page: its text can be read on a phone, where it is scaled down.
pub(crate) const PAGE_WIDTH: f64 = 440.0;

/// A colour for the nth thing of a figure.
pub(crate) fn color(index: usize) -> &'static str {
    COLORS[index % COLORS.len()]
}

/// A figure, ready to be shown.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Name of its files, and of its place in the page.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// How to read it.
    pub caption: String,
    /// The files that its values come from.
    pub source: String,
    /// The meaning of colours and lines.
    pub keys: Vec<Key>,
    /// What is drawn; several side by side where cells would hide each other.
    pub panels: Vec<Panel>,
    /// The whole as a file of its own.
    pub file: String,
    /// The values that are drawn, as CSV.
    pub data: String,
    /// The figure as LaTeX, for pgfplots.
    pub tex: String,
}

/// One drawing of a figure.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it is of, where there are several.
    pub name: String,
    /// The drawing.
    pub svg: String,
}

/// An entry of a legend.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// What it stands for.
    pub label: String,
    /// Its colour.
    pub color: &'static str,
    /// How it is drawn.
    pub mark: Mark,
}

/// How an entry of a legend is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// An area.
    Area,
    /// A line.
    Line,
    /// A dashed line.
    Dashed,
}

/// Every figure that these results have values for.
#[must_use]
pub fn all(results: &Results) -> Vec<Figure> {
    let mut figures = Vec::new();
    figures.extend(published(results));
    figures.extend(curves(results));
    figures.extend(guests(results));
    figures.extend(claimed(results));
    figures.extend(savings(results));
    figures.extend(footprint(results));
    figures.extend(mechanisms(results));
    figures.extend(memory(results));
    figures.extend(costs(results));
    figures.extend(ratios(results));
    figures.extend(latencies(results));
    figures
}

/// What a drawing is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'a> {
    /// A file of its own.
    File {
        title: &'a str,
        source: &'a str,
        height: f64,
    },
    /// A part of the page; the id keeps its clip paths apart from others'.
    Page {
        id: &'a str,
        width: f64,
        height: f64,
    },
}

/// Draws plots in a form; `shape` sets the axes.
pub(crate) fn draw(
    form: Form<'_>,
    plots: Vec<Plot>,
    shape: impl FnOnce(Layout) -> Layout,
) -> String {
    let layout = shape(Layout::auto_from_plots(&plots)).with_font_family("DejaVu Sans");
    match form {
        Form::File {
            title,
            source,
            height,
        } => {
            let layout = layout
                .with_title(title)
                .with_subtitle(source)
                .with_legend_position(LegendPosition::OutsideRightTop)
                .with_width(900.0)
                .with_height(height);
            let scene = render_multiple(plots, layout);
            svg::tidy(&SvgBackend::new().render_scene(&scene), "clip")
        }
        Form::Page { id, width, height } => {
            let mut layout = layout
                .with_width(width)
                .with_height(height)
                .with_label_size(13)
                .with_tick_size(12);
            layout.show_legend = false;
            let scene = render_multiple(plots, layout);
            svg::tidy(&SvgBackend::new().render_scene(&scene), id)
        }
    }
}

/// A row of comma-separated values; none of ours holds a comma or a quote.
pub(crate) fn row(cells: &[String]) -> String {
    let mut line = cells
        .iter()
        .map(|cell| cell.replace([',', '"', '\n'], " "))
        .collect::<Vec<_>>()
        .join(",");
    line.push('\n');
    line
}

#[allow(clippy::cast_precision_loss, reason = "a length in a figure")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[allow(clippy::cast_precision_loss, reason = "a place in a figure")]
fn count(things: usize) -> f64 {
    things as f64
}
