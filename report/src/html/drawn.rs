//! Figures with what stands around them in the page.

use super::Part;
use super::files::{Link, address};
use crate::figure::{Figure, Key, Mark, Panel};

/// A figure with its legend as SVG and links to its files.
#[derive(Debug)]
pub(super) struct Drawn<'a> {
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) caption: &'a str,
    pub(super) source: &'a str,
    pub(super) keys: Vec<ShownKey<'a>>,
    pub(super) panels: &'a [Panel],
    pub(super) links: Vec<Link>,
}

#[derive(Debug)]
pub(super) struct ShownKey<'a> {
    pub(super) label: &'a str,
    pub(super) mark: String,
}

pub(super) fn drawn<'a>(figure: &'a Figure, part: &Part<'_>) -> Drawn<'a> {
    let link = |kind: &str| {
        Some(Link {
            href: address(&format!("{}{}.{kind}", part.drawn.as_ref()?, figure.id)),
            label: kind.to_uppercase(),
            about: "",
        })
    };
    Drawn {
        id: &figure.id,
        title: &figure.title,
        caption: &figure.caption,
        source: &figure.source,
        keys: figure.keys.iter().map(shown).collect(),
        panels: &figure.panels,
        links: ["svg", "png", "csv", "tex"]
            .into_iter()
            .filter_map(link)
            .collect(),
    }
}

fn shown(key: &Key) -> ShownKey<'_> {
    let black = if key.color == "#000000" {
        " data-black"
    } else {
        ""
    };
    let color = key.color;
    let drawing = match key.mark {
        Mark::Area => format!(r#"<rect width="16" height="8" fill="{color}"{black}/>"#),
        Mark::Line => format!(r#"<path d="M0 4h16" stroke-width="2.5" stroke="{color}"{black}/>"#),
        Mark::Dashed => format!(
            r#"<path d="M0 4h16" stroke-width="2.5" stroke-dasharray="5 3" stroke="{color}"{black}/>"#
        ),
    };
    ShownKey {
        label: &key.label,
        mark: format!(r#"<svg viewBox="0 0 16 8" aria-hidden="true">{drawing}</svg>"#),
    }
}
