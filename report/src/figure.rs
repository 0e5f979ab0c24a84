//! `memory.svg` and `memory.png`: where the memory that guests touched went over time.
//!
//! The stack is what guests use of the machine's memory, with what each mechanism saves on top: it
//! is as high as what guests touched. Guest-physical memory would dwarf it where guests leave most
//! of theirs untouched, so that figure stands in the subtitle. Colours are from a set that colour-blind readers tell apart (Okabe and Ito).

use kuva::backend::svg::SvgBackend;
use kuva::plot::{LegendPosition, StackedAreaPlot};
use kuva::prelude::ReferenceLine;
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;
use kuva::render::render::render_multiple;
use resvg::{tiny_skia, usvg};

use crate::samples::{MACHINE, Sample};
use crate::table::bytes;

/// DejaVu Sans; its licence is beside it.
const FONT: &[u8] = include_bytes!("../assets/DejaVuSans.ttf");
/// More points than this can't be told apart in the figure.
const MOST_POINTS: usize = 1500;
/// Twice the size of the SVG, for screens and papers.
const SCALE: f32 = 2.0;

/// One layer of the stack.
struct Layer {
    label: &'static str,
    color: &'static str,
    value: fn(&Sample) -> u64,
}

/// From the bottom up: what machine memory is used for, then what was saved.
const LAYERS: [Layer; 6] = [
    Layer {
        label: "used: private pages",
        color: "#0072B2",
        value: |s| s.private_bytes.saturating_sub(s.ksm_bytes.unwrap_or(0)),
    },
    Layer {
        label: "used: shared frames",
        color: "#56B4E9",
        value: |s| s.frames_bytes.unwrap_or(0),
    },
    Layer {
        label: "saved by disk",
        color: "#009E73",
        value: |s| s.disk_bytes.unwrap_or(0),
    },
    Layer {
        label: "saved by content",
        color: "#E69F00",
        value: |s| s.content_bytes.unwrap_or(0),
    },
    Layer {
        label: "saved by zero",
        color: "#F0E442",
        value: |s| s.zero_bytes,
    },
    Layer {
        label: "saved by KSM",
        color: "#CC79A7",
        value: |s| s.ksm_bytes.unwrap_or(0),
    },
];

/// What the axes can't say: the memory the guests were given, and where the numbers are.
fn subtitle(samples: &[&Sample]) -> String {
    let most = |value: fn(&Sample) -> u64| samples.iter().map(|s| value(s)).max();
    let given = bytes(most(|sample| sample.guest_physical_bytes));
    let touched = bytes(most(|sample| sample.touched_bytes));
    format!(
        "guests have {given} of guest-physical memory and touch {touched} at most; source: samples.csv"
    )
}

/// The figure as SVG; `None` without samples.
#[must_use]
pub fn memory_svg(title: &str, samples: &[Sample]) -> Option<String> {
    let machine = samples
        .iter()
        // The first run of each cell shows how memory goes; further ones would only crowd it.
        .filter(|sample| sample.vm == MACHINE && sample.run == 1)
        .collect::<Vec<_>>();
    let every = machine.len().div_ceil(MOST_POINTS).max(1);
    // The last sample before a change of cell is kept, so that every cell ends where it ended.
    let kept = machine.iter().enumerate().filter(|(index, sample)| {
        index % every == 0
            || machine
                .get(index + 1)
                .is_none_or(|next| next.cell != sample.cell)
    });
    let kept = kept.map(|(_, sample)| *sample).collect::<Vec<_>>();
    if kept.len() < 2 {
        return None;
    }
    let mut stack = StackedAreaPlot::new()
        .with_x(kept.iter().map(|sample| sample.time_seconds))
        .with_strokes(false)
        .with_fill_opacity(1.0);
    for layer in LAYERS
        .iter()
        .filter(|layer| kept.iter().any(|sample| (layer.value)(sample) > 0))
    {
        stack = stack
            .with_series(kept.iter().map(|sample| mib((layer.value)(sample))))
            .with_color(layer.color)
            .with_legend(layer.label);
    }
    let plots = vec![Plot::StackedArea(stack)];
    let mut layout = Layout::auto_from_plots(&plots)
        .with_title(title)
        .with_subtitle(subtitle(&machine))
        .with_x_label("time (s); the first run of each cell")
        .with_y_label("touched guest memory (MiB)")
        .with_legend_position(LegendPosition::OutsideRightTop)
        .with_width(900.0)
        .with_height(420.0)
        .with_font_family("DejaVu Sans");
    for (index, sample) in kept.iter().enumerate() {
        if index == 0 || kept[index - 1].cell != sample.cell {
            let line = ReferenceLine::vertical(sample.time_seconds)
                .with_color("#444444")
                .with_label(sample.cell.clone());
            layout = layout.with_reference_line(line);
        }
    }
    Some(plain_ids(
        &SvgBackend::new().render_scene(&render_multiple(plots, layout)),
    ))
}

/// The library numbers its clip paths through the whole process: without the number, equal results
/// make equal files.
pub(super) fn plain_ids(svg: &str) -> String {
    const ID: &str = "kuva-clip-";
    let mut parts = svg.split(ID);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str("clip");
        plain.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    plain
}

/// An SVG as PNG.
///
/// # Errors
/// The SVG can't be drawn.
pub fn png(svg: &str) -> Result<Vec<u8>, String> {
    let mut options = usvg::Options {
        font_family: "DejaVu Sans".to_owned(),
        ..usvg::Options::default()
    };
    options.fontdb_mut().load_font_data(FONT.to_vec());
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let size = tree
        .size()
        .to_int_size()
        .scale_by(SCALE)
        .ok_or("the figure has no size")?;
    let mut pixels =
        tiny_skia::Pixmap::new(size.width(), size.height()).ok_or("the figure has no size")?;
    pixels.fill(tiny_skia::Color::WHITE);
    resvg::render(
        &tree,
        tiny_skia::Transform::from_scale(SCALE, SCALE),
        &mut pixels.as_mut(),
    );
    pixels.encode_png().map_err(|error| error.to_string())
}

#[allow(clippy::cast_precision_loss, reason = "a height in a figure")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Sample> {
        let sample = |cell: &str, time: u32, disk| Sample {
            cell: cell.into(),
            run: 1,
            time_seconds: f64::from(time),
            vm: MACHINE.into(),
            guest_physical_bytes: 64 << 20,
            private_bytes: u64::from(time) << 20,
            disk_bytes: Some(disk),
            ..Sample::default()
        };
        (0..10)
            .map(|t| sample("none", t, 0))
            .chain((10..20).map(|t| sample("disk", t, 5 << 20)))
            .collect()
    }

    #[test]
    fn the_figure_names_cells_and_layers_and_is_the_same_each_time() {
        let svg = memory_svg("quick", &samples()).unwrap();
        for text in [
            "none",
            "used: private",
            "saved by disk",
            "have 64.0 MiB",
            "(MiB)",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(
            !svg.contains("saved by KSM"),
            "a layer without a value is shown"
        );
        assert_eq!(svg, memory_svg("quick", &samples()).unwrap());
        assert!(memory_svg("quick", &[]).is_none());
    }

    #[test]
    fn the_png_is_one_and_shows_text() {
        let png =
            |samples: &[Sample], title| super::png(&memory_svg(title, samples).unwrap()).unwrap();
        let image = png(&samples(), "a title");
        assert_eq!(image[1..4], *b"PNG");
        assert_ne!(image, png(&samples(), "another"), "text is not drawn");
    }
}
