//! SVG text after the library, and PNG.

use resvg::{tiny_skia, usvg};

/// DejaVu Sans; its licence is beside it.
const FONT: &[u8] = include_bytes!("../../assets/DejaVuSans.ttf");

/// Twice the size of the SVG, for screens and papers.
const SCALE: f32 = 2.0;

/// Makes an SVG that is the same each time, small, and safe beside others in one page.
///
/// The library numbers its clip paths through the whole process, writes numbers with 17 digits and
/// gives no view box, without which a drawing can't be scaled.
pub(super) fn tidy(svg: &str, clip: &str) -> String {
    let mut text = rename_clips(svg, clip);
    if let Some(size) = size(&text) {
        let view = format!("<svg viewBox=\"0 0 {} {}\"", size.0, size.1);
        text = text.replacen("<svg", &view, 1);
    }
    round(&text)
}

fn size(svg: &str) -> Option<(&str, &str)> {
    let attribute = |name: &str| {
        let rest = svg.split_once(&format!(" {name}=\""))?.1;
        rest.split_once('"').map(|(value, _)| value)
    };
    Some((attribute("width")?, attribute("height")?))
}

fn rename_clips(svg: &str, clip: &str) -> String {
    const ID: &str = "kuva-clip-";
    let mut parts = svg.split(ID);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(clip);
        plain.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    plain
}

/// Two digits after the point in every attribute; text, which holds tick labels, stays.
fn round(svg: &str) -> String {
    let mut out = String::with_capacity(svg.len());
    let (mut inside, mut digits) = (false, None);
    for letter in svg.chars() {
        match letter {
            '<' => inside = true,
            '>' => inside = false,
            _ => {}
        }
        digits = match (letter, digits) {
            ('.', _) if inside => Some(0),
            ('0'..='9', Some(count)) => {
                if count >= 2 {
                    continue;
                }
                Some(count + 1)
            }
            _ => None,
        };
        out.push(letter);
    }
    out
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_rounded_and_text_is_not() {
        let svg = r#"<svg width="10" height="20"><rect x="61.300000000000004" y="-0.125"/><text>0.0001</text></svg>"#;
        let tidied = tidy(svg, "a");
        assert!(tidied.contains(r#"viewBox="0 0 10 20""#), "{tidied}");
        assert!(
            tidied.contains(r#"x="61.30" y="-0.12"/><text>0.0001<"#),
            "{tidied}"
        );
    }

    #[test]
    fn clip_paths_of_two_figures_differ() {
        let svg = "<svg><clipPath id=\"kuva-clip-17\"/><g clip-path=\"url(#kuva-clip-17)\"/></svg>";
        let tidied = tidy(svg, "costs");
        assert_eq!(tidied.matches("costs").count(), 2);
        assert!(!tidied.contains("17"), "{tidied}");
    }
}
