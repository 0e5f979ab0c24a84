//! Figures for papers: a snippet for LaTeX's pgfplots, with the values in it, so that a paper draws
//! them with its own fonts and sizes.

use std::fmt::Write as _;

/// How the values are drawn.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// Lines with marks.
    Lines,
    /// Lines on two logarithmic axes; the second is of what is left above a percentile.
    Tail,
    /// Areas on each other.
    Areas,
    /// Bars of these names, in parts; the values of `x` are lengths, those of `y` places.
    Bars(Vec<String>),
    /// A mark for each of these names.
    Marks(Vec<String>),
}

/// One point, and how far it may be off downwards and upwards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) arms: Option<(f64, f64)>,
}

impl From<(f64, f64)> for Point {
    fn from((x, y): (f64, f64)) -> Self {
        Self { x, y, arms: None }
    }
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) label: String,
    /// `#RRGGBB`.
    pub(super) color: &'static str,
    pub(super) dashed: bool,
    pub(super) points: Vec<Point>,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x: String,
    pub(super) y: String,
    pub(super) shape: Shape,
    pub(super) series: Vec<Series>,
}

/// The snippet for some charts, a picture each.
pub(super) fn pgfplots(charts: &[Chart]) -> String {
    let mut text = String::from(
        "% In the preamble: \\usepackage{pgfplots} \\pgfplotsset{compat=1.18}\n\
         % Then: \\input{this file}. The values are those of the CSV file beside it.\n",
    );
    for chart in charts {
        // Writing to a string does not fail.
        let _ = picture(&mut text, chart);
    }
    text
}

fn picture(text: &mut String, chart: &Chart) -> std::fmt::Result {
    writeln!(text, "\\begin{{tikzpicture}}")?;
    for (index, series) in chart.series.iter().enumerate() {
        let color = series.color.trim_start_matches('#');
        writeln!(text, "\\definecolor{{series{index}}}{{HTML}}{{{color}}}")?;
    }
    writeln!(text, "\\begin{{axis}}[")?;
    writeln!(text, "  title={{{}}},", escape(&chart.title))?;
    writeln!(
        text,
        "  xlabel={{{}}}, ylabel={{{}}},",
        escape(&chart.x),
        escape(&chart.y)
    )?;
    writeln!(
        text,
        "  legend pos=outer north east, legend cell align=left,"
    )?;
    write!(text, "{}", options(&chart.shape))?;
    writeln!(text, "]")?;
    for (index, series) in chart.series.iter().enumerate() {
        plot(text, &chart.shape, index, series)?;
    }
    writeln!(text, "\\end{{axis}}\n\\end{{tikzpicture}}")
}

fn options(shape: &Shape) -> String {
    let names = |names: &[String]| {
        let names = names.iter().map(|name| format!("{{{}}}", escape(name)));
        names.collect::<Vec<_>>().join(",")
    };
    let places = |count: usize| {
        let places = (0..count).map(|place| place.to_string());
        places.collect::<Vec<_>>().join(",")
    };
    match shape {
        Shape::Lines => "  ymin=0,\n".to_owned(),
        Shape::Tail => "  xmode=log, ymode=log, xtick={1,10,100,1000,10000,100000},\n  \
             xticklabels={0,90,99,99.9,99.99,99.999},\n"
            .to_owned(),
        Shape::Areas => "  ymin=0, stack plots=y, area style, enlarge x limits=false,\n".to_owned(),
        Shape::Bars(bars) => format!(
            "  xbar stacked, xmin=0, y dir=reverse, ytick={{{}}},\n  yticklabels={{{}}},\n",
            places(bars.len()),
            names(bars)
        ),
        Shape::Marks(marks) => format!(
            "  xtick={{{}}}, x tick label style={{rotate=45, anchor=east}},\n  \
             xticklabels={{{}}},\n  \
             extra y ticks={{1}}, extra y tick style={{grid=major}},\n",
            places(marks.len()),
            names(marks)
        ),
    }
}

fn plot(text: &mut String, shape: &Shape, index: usize, series: &Series) -> std::fmt::Result {
    let dashed = if series.dashed { ", dashed" } else { "" };
    let style = match shape {
        Shape::Lines => format!("color=series{index}, mark=*{dashed}"),
        Shape::Tail => format!("color=series{index}, no marks{dashed}"),
        Shape::Areas | Shape::Bars(_) => format!("draw=none, fill=series{index}"),
        Shape::Marks(_) => format!("color=series{index}, only marks"),
    };
    let arms = series.points.iter().any(|point| point.arms.is_some());
    let (error, columns) = if arms {
        (
            ", error bars/.cd, y dir=both, y explicit",
            ", y error plus=up, y error minus=down",
        )
    } else {
        ("", "")
    };
    write!(
        text,
        "\\addplot+[{style}{error}] table[row sep=\\\\, x=x, y=y{columns}] {{\n  x y"
    )?;
    text.push_str(if arms { " down up\\\\\n" } else { "\\\\\n" });
    for point in &series.points {
        write!(text, "  {} {}", short(point.x), short(point.y))?;
        if arms {
            let (down, up) = point.arms.unwrap_or((0.0, 0.0));
            write!(text, " {} {}", short(down), short(up))?;
        }
        writeln!(text, "\\\\")?;
    }
    let closed = if matches!(shape, Shape::Areas) {
        " \\closedcycle"
    } else {
        ""
    };
    writeln!(text, "}}{closed};")?;
    writeln!(text, "\\addlegendentry{{{}}}", escape(&series.label))
}

/// Four digits after the point, without needless zeros.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0" } else { text }.to_owned()
}

/// Text in which nothing has a meaning to LaTeX.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', letter]),
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            'µ' => escaped.push_str("$\\mu$"),
            '−' => escaped.push_str("$-$"),
            '…' => escaped.push_str("\\ldots{}"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_is_as_pgfplots_reads_it() {
        let chart = Chart {
            title: "50 % of a_b".into(),
            x: "guests".to_owned(),
            y: "saved (%)".to_owned(),
            shape: Shape::Lines,
            series: vec![Series {
                label: "all, here".into(),
                color: "#0072B2",
                dashed: true,
                points: vec![
                    (1.0, 16.9).into(),
                    Point {
                        x: 2.0,
                        y: 61.1,
                        arms: Some((0.5, 0.25)),
                    },
                ],
            }],
        };
        let golden = r"\begin{tikzpicture}
\definecolor{series0}{HTML}{0072B2}
\begin{axis}[
  title={50 \% of a\_b},
  xlabel={guests}, ylabel={saved (\%)},
  legend pos=outer north east, legend cell align=left,
  ymin=0,
]
\addplot+[color=series0, mark=*, dashed, error bars/.cd, y dir=both, y explicit] table[row sep=\\, x=x, y=y, y error plus=up, y error minus=down] {
  x y down up\\
  1 16.9 0 0\\
  2 61.1 0.5 0.25\\
};
\addlegendentry{all, here}
\end{axis}
\end{tikzpicture}
";
        assert!(pgfplots(&[chart]).ends_with(golden));
    }
}
