//! `sweep.svg` and `sweep.png`: what is shared and saved against the number of guests, as in figure
//! 4 of the ESX Server paper, with the published values beside ours where the experiment has them.

use kuva::backend::svg::SvgBackend;
use kuva::plot::{LegendPosition, LinePlot};
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;
use kuva::render::render::render_multiple;

use serde::{Deserialize, Serialize};

use super::figure::plain_ids;
use super::summary::{Cell, Figures};

/// Published values of a sweep, in percent of the memory in use; empty where there are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Where they were published.
    pub source: String,
    /// Numbers of guests.
    pub count: Vec<u32>,
    /// Pages that share a frame.
    pub shared: Vec<f64>,
    /// Pages saved.
    pub reclaimed: Vec<f64>,
    /// Pages of zeros.
    pub zero: Vec<f64>,
}

/// One line of the figure.
struct Curve {
    label: &'static str,
    color: &'static str,
    ours: fn(&Figures) -> Option<u64>,
    published: fn(&Published) -> &[f64],
}

/// What the paper draws. Colours are Okabe and Ito's.
const CURVES: [Curve; 3] = [
    Curve {
        label: "shared",
        color: "#0072B2",
        ours: |figures| figures.memory.shared,
        published: |published| &published.shared,
    },
    Curve {
        label: "reclaimed",
        color: "#E69F00",
        ours: |figures| figures.memory.reclaimed,
        published: |published| &published.reclaimed,
    },
    Curve {
        label: "zero",
        color: "#009E73",
        ours: |figures| figures.memory.zero,
        published: |published| &published.zero,
    },
];

/// The figure as SVG, in percent of the memory that guests use; `None` for fewer than two numbers of
/// guests. Of several mechanism sets the last is drawn.
#[must_use]
pub fn sweep_svg(title: &str, cells: &[Cell], published: Option<&Published>) -> Option<String> {
    let drawn = &cells.last()?.mechanisms;
    let cells = cells.iter().filter(|cell| cell.mechanisms == *drawn);
    let mut plots = Vec::new();
    for curve in &CURVES {
        let points: Vec<_> = cells
            .clone()
            .filter_map(|cell| Some((count(cell.guests), share(&cell.figures, curve.ours)?)))
            .collect();
        if points.len() < 2 {
            return None;
        }
        let line = LinePlot::new().with_data(points).with_color(curve.color);
        plots.push(Plot::Line(
            line.with_legend(format!("{}, here", curve.label)),
        ));
        let values = published.map_or(&[][..], curve.published);
        if !values.is_empty() {
            let counts = published.into_iter().flat_map(|published| &published.count);
            let points: Vec<_> = counts
                .zip(values)
                .map(|(guests, value)| (f64::from(*guests), *value))
                .collect();
            let line = LinePlot::new().with_data(points).with_color(curve.color);
            let label = format!("{}, published", curve.label);
            plots.push(Plot::Line(line.with_dashed().with_legend(label)));
        }
    }
    let source = published.map_or_else(
        || "source: summary.json".to_owned(),
        |published| format!("here: summary.json; published: {}", published.source),
    );
    let layout = Layout::auto_from_plots(&plots)
        .with_title(title)
        .with_subtitle(source)
        .with_x_label("guests")
        .with_y_label("part of the memory in use (%)")
        .with_legend_position(LegendPosition::OutsideRightTop)
        .with_width(900.0)
        .with_height(420.0)
        .with_font_family("DejaVu Sans");
    Some(plain_ids(
        &SvgBackend::new().render_scene(&render_multiple(plots, layout)),
    ))
}

#[allow(clippy::cast_precision_loss, reason = "a place in a figure")]
fn count(guests: u64) -> f64 {
    guests as f64
}

/// Percent of the memory that guests use.
fn share(figures: &Figures, value: fn(&Figures) -> Option<u64>) -> Option<f64> {
    let (value, used) = (
        value(figures)?,
        figures.memory.touched.filter(|used| *used > 0)?,
    );
    #[allow(clippy::cast_precision_loss, reason = "a height in a figure")]
    let share = value as f64 / used as f64 * 100.0;
    Some(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(guests: u64) -> Cell {
        let mut figures = Figures::default();
        figures.memory.touched = Some(guests * 100);
        figures.memory.shared = Some(guests * 67);
        figures.memory.reclaimed = Some(guests * 50);
        figures.memory.zero = Some(guests * 7);
        Cell {
            id: format!("all-{guests}"),
            mechanisms: Vec::new(),
            guests,
            runs: 1,
            figures,
            expect: Vec::new(),
            failures: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn the_figure_shows_ours_and_the_published_values() {
        let published = Published {
            source: "a paper".into(),
            count: vec![1, 2],
            shared: vec![16.9, 61.1],
            reclaimed: vec![12.6, 36.4],
            zero: Vec::new(),
        };
        let svg = sweep_svg("n guests", &[cell(1), cell(2)], Some(&published)).unwrap();
        for text in [
            "n guests",
            "shared, here",
            "shared, published",
            "zero, here",
            "a paper",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(!svg.contains("zero, published"));
        assert!(sweep_svg("one point", &[cell(1)], None).is_none());
    }
}
