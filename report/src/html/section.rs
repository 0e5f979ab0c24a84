//! The part of the page about one results folder.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::Part;
use super::cells::{Grid, Row, against_baseline, apart, every, grids, known};
use super::text::{Judged, NOT_MEASURED, Value};
use crate::figure::{Figure, Key, Mark, Panel, Residual, residuals};
use crate::metrics::{Unit, by_path, number};
use crate::results::{Expectation, Results};
use crate::stats::{LEAST_RUNS, estimate};
use crate::summary::{Cell, Outcome};
use crate::table::verdict;

/// Files of a results folder, and what they are.
const FILES: [(&str, &str); 9] = [
    (
        "samples.csv",
        "the time series, every sample of the machine and of each VM",
    ),
    ("summary.json", "the figures of every cell"),
    (
        "run.json",
        "what was run, with what, on what, and every run's figures",
    ),
    ("experiment.yaml", "the experiment file as it was given"),
    ("table.txt", "the table that was printed"),
    ("histograms", "HdrHistogram logs, one for each cell and run"),
    ("consoles", "what guests printed"),
    ("commands", "what the commands of Linux guests printed"),
    ("README.txt", "what each file of the folder is"),
];

/// Everything that the template shows of one results folder.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) anchor: String,
    pub(super) title: &'a str,
    pub(super) question: Option<&'a str>,
    pub(super) verdict: Judged,
    pub(super) extent: String,
    pub(super) notes: Vec<String>,
    pub(super) expectations: Vec<Expected>,
    pub(super) any_published: bool,
    pub(super) residuals: Vec<ResidualRow>,
    pub(super) published_source: &'a str,
    pub(super) figures: Vec<Drawn<'a>>,
    pub(super) grids: Vec<Grid>,
    pub(super) cells: Vec<&'a str>,
    pub(super) rows: Vec<Row>,
    pub(super) verdicts: Vec<Judged>,
    pub(super) unmeasured: String,
    pub(super) costs: Vec<Row>,
    pub(super) cost_names: Vec<String>,
    pub(super) outliers: Vec<String>,
    pub(super) problems: Vec<String>,
    pub(super) facts: Vec<Fact>,
    pub(super) images: Vec<Image>,
    pub(super) experiment: Option<String>,
    pub(super) files: Vec<Link>,
}

#[derive(Debug)]
pub(super) struct Expected {
    pub(super) claim: String,
    pub(super) cell: String,
    pub(super) verdict: Judged,
    pub(super) found: Value,
    pub(super) bound: String,
    pub(super) published: String,
    pub(super) metric: String,
}

/// Published values at one number of guests, each with ours.
#[derive(Debug)]
pub(super) struct ResidualRow {
    pub(super) guests: u64,
    pub(super) values: Vec<Residue>,
}

#[derive(Debug)]
pub(super) struct Residue {
    pub(super) what: &'static str,
    pub(super) here: String,
    pub(super) published: String,
    pub(super) difference: String,
}

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

#[derive(Debug)]
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) value: String,
}

#[derive(Debug)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) size: String,
    pub(super) digest: String,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) href: String,
    pub(super) label: String,
    pub(super) about: &'static str,
}

impl<'a> Section<'a> {
    pub(super) fn new(index: usize, part: &'a Part<'a>) -> Self {
        let results = part.results;
        let (rows, unmeasured) = every(results);
        let (costs, cost_names) = against_baseline(results);
        let expectations = expectations(results);
        let sweep = results.run.experiment.sweep.as_ref();
        let published = sweep.and_then(|sweep| sweep.published.as_ref());
        let cells = &results.summary.cells;
        Self {
            anchor: format!("e{}", index + 1),
            title: results.title(),
            question: results.run.experiment.question.as_deref(),
            verdict: results.summary.verdict.into(),
            extent: extent(results),
            notes: notes(results),
            any_published: expectations.iter().any(|row| !row.published.is_empty()),
            expectations,
            residuals: residual_rows(results),
            published_source: published.map_or("", |published| published.source.as_str()),
            figures: part
                .figures
                .iter()
                .map(|figure| drawn(figure, part))
                .collect(),
            grids: grids(results),
            cells: cells.iter().map(|cell| cell.id.as_str()).collect(),
            rows,
            verdicts: cells.iter().map(|cell| verdict(cell).into()).collect(),
            unmeasured: unmeasured.join(", "),
            costs,
            cost_names,
            outliers: apart(results),
            problems: problems(results),
            facts: facts(results),
            images: images(results),
            experiment: std::fs::read_to_string(results.path.join("experiment.yaml")).ok(),
            files: files(part),
        }
    }
}

/// How much was run.
fn extent(results: &Results) -> String {
    let cells = results.summary.cells.len();
    let complete: u64 = results.summary.cells.iter().map(|cell| cell.runs).sum();
    let made = results.run.runs.len();
    let plural = |count: u64, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let mut text = format!(
        "{}, {}",
        plural(cells as u64, "cell"),
        plural(complete, "complete run")
    );
    let failed = (made as u64).saturating_sub(complete);
    if made > 0 && failed > 0 {
        text.push_str(&format!(", {failed} not complete"));
    }
    text.push_str(&format!("; experiment {}", results.summary.name));
    // To the second.
    if let Some(started) = results.run.started.get(..19) {
        text.push_str(&format!(", started {}Z", started.replace('T', " ")));
    }
    text
}

/// What a reader must know before any number.
fn notes(results: &Results) -> Vec<String> {
    let mut notes = Vec::new();
    let summary = &results.summary;
    if summary.emulated {
        notes.push(
            "Measured on an emulated host: times compare within this result only; sizes and \
             counts are real."
                .to_owned(),
        );
    }
    if summary.interrupted {
        notes.push("The experiment was stopped before its end; what is here is whole.".to_owned());
    }
    let few = |cell: &&Cell| (1..LEAST_RUNS as u64).contains(&cell.runs);
    let few = summary.cells.iter().filter(few).count();
    if few > 0 {
        notes.push(format!(
            "{few} of {} cells have fewer than {LEAST_RUNS} complete runs: their values are single \
             observations, and nothing is said about their spread.",
            summary.cells.len()
        ));
    }
    notes.extend(results.run.ended_by.clone());
    notes
}

/// Each expectation once for every way in which it came out.
fn expectations(results: &Results) -> Vec<Expected> {
    let mut groups: Vec<(&Outcome, Vec<&Cell>)> = Vec::new();
    for cell in &results.summary.cells {
        for outcome in &cell.expect {
            let alike = |group: &&mut (&Outcome, Vec<&Cell>)| {
                group.0.id == outcome.id && group.0.verdict == outcome.verdict
            };
            match groups.iter_mut().find(alike) {
                Some((_, cells)) => cells.push(cell),
                None => groups.push((outcome, vec![cell])),
            }
        }
    }
    let rows = groups.iter();
    rows.map(|(outcome, cells)| expected(results, outcome, cells))
        .collect()
}

fn expected(results: &Results, outcome: &Outcome, cells: &[&Cell]) -> Expected {
    let all = &results.run.experiment.expect;
    let declared = all.iter().find(|expectation| expectation.id == outcome.id);
    let expectation = declared.cloned().unwrap_or_default();
    let path = &expectation.metric;
    let unit = by_path(path).map_or(Unit::Count, |metric| metric.unit);
    let found = match cells {
        [cell] => {
            let known = known(results, cell, path).or_else(|| estimate(&[outcome.value?]));
            Value::new(known.as_ref(), unit)
        }
        // Different cells are no repeats: their medians have a range, not an interval.
        cells => over_cells(&outcomes(cells, &outcome.id), unit),
    };
    let everywhere = cells.len() > 1 && cells.len() == results.summary.cells.len();
    Expected {
        claim: claim(&expectation, &outcome.id),
        cell: if everywhere {
            format!("all {}", cells.len())
        } else {
            let ids = cells.iter().map(|cell| cell.id.as_str());
            ids.collect::<Vec<_>>().join(", ")
        },
        verdict: outcome.verdict.into(),
        found: with_unit(found, unit),
        bound: bound(&expectation, unit),
        published: outcome.published.map_or_else(String::new, |value| {
            format!("{} {}", unit.text(value), unit.name())
        }),
        metric: path.clone(),
    }
}

fn outcomes(cells: &[&Cell], id: &str) -> Vec<f64> {
    let outcomes = cells.iter().flat_map(|cell| &cell.expect);
    let own = outcomes.filter(|outcome| outcome.id == id);
    own.filter_map(|outcome| outcome.value).collect()
}

fn over_cells(values: &[f64], unit: Unit) -> Value {
    let Some(range) = estimate(values).map(|known| known.range) else {
        return Value::none();
    };
    let (low, high) = (unit.text(range.low), unit.text(range.high));
    Value {
        middle: if low == high {
            low
        } else {
            format!("{low} to {high}")
        },
        range: "over cells".to_owned(),
    }
}

fn claim(expectation: &Expectation, id: &str) -> String {
    let claim = expectation.claim.as_deref().unwrap_or(id);
    match &expectation.source {
        Some(source) => format!("{claim} ({source})"),
        None => claim.to_owned(),
    }
}

fn bound(expectation: &Expectation, unit: Unit) -> String {
    let amount = |value: f64| {
        let text = format!("{}\u{a0}{}", unit.text(value), unit.name());
        text.trim_end().to_owned()
    };
    let Some(bounds) = expectation.bound.as_object() else {
        return String::new();
    };
    let words = bounds.iter().map(|(kind, value)| {
        let kind = kind.replace('-', " ");
        match (value.as_f64(), value["part"].as_f64(), value["of"].as_f64()) {
            (Some(value), ..) => format!("{kind} {}", amount(value)),
            (_, Some(part), Some(of)) => {
                format!("{kind} {} % of {}", number(part * 100.0), amount(of))
            }
            _ => format!("{kind} {value}"),
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

fn with_unit(value: Value, unit: Unit) -> Value {
    if value.middle == NOT_MEASURED || unit.name().is_empty() {
        return value;
    }
    Value {
        middle: format!("{} {}", value.middle, unit.name()),
        range: value.range,
    }
}

fn residual_rows(results: &Results) -> Vec<ResidualRow> {
    let mut rows: Vec<ResidualRow> = Vec::new();
    for point in residuals(results) {
        let value = residue(&point);
        match rows.iter_mut().find(|row| row.guests == point.guests) {
            Some(row) => row.values.push(value),
            None => rows.push(ResidualRow {
                guests: point.guests,
                values: vec![value],
            }),
        }
    }
    rows
}

fn residue(point: &Residual) -> Residue {
    Residue {
        what: point.what,
        here: point.here.map_or_else(|| "not run".to_owned(), number),
        published: number(point.published),
        difference: point.here.map_or_else(String::new, |here| {
            let difference = here - point.published;
            let sign = if difference > 0.0 { "+" } else { "" };
            format!("{sign}{}", number(difference))
        }),
    }
}

fn drawn<'a>(figure: &'a Figure, part: &Part<'_>) -> Drawn<'a> {
    let link = |kind: &str| Link {
        href: address(&format!("{}{}.{kind}", part.drawn, figure.id)),
        label: kind.to_uppercase(),
        about: "",
    };
    Drawn {
        id: &figure.id,
        title: &figure.title,
        caption: &figure.caption,
        source: &figure.source,
        keys: figure.keys.iter().map(shown).collect(),
        panels: &figure.panels,
        links: ["svg", "png", "csv"].into_iter().map(link).collect(),
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

/// Failures and warnings, each once.
fn problems(results: &Results) -> Vec<String> {
    let mut lines = BTreeSet::new();
    for cell in &results.summary.cells {
        for failure in &cell.failures {
            let (run, class, cause) = (failure.run, &failure.class, &failure.cause);
            lines.insert(format!("{} run {run}: {class}: {cause}", cell.id));
        }
        for warning in &cell.warnings {
            lines.insert(format!("{}: {warning}", cell.id));
        }
    }
    lines.into_iter().collect()
}

fn facts(results: &Results) -> Vec<Fact> {
    let from = &results.run.provenance;
    let known = |path: &[&str]| {
        let value = path.iter().try_fold(from, |tree, name| tree.get(name))?;
        match value {
            Json::Null => None,
            Json::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    };
    let gib = |path: &[&str]| {
        let bytes: f64 = known(path)?.parse().ok()?;
        Some(format!("{} GiB", number(bytes / f64::from(1 << 30))))
    };
    let commit = known(&["commit", "id"]).map(|id| {
        let dirty = known(&["commit", "dirty"]).as_deref() == Some("true");
        format!("{id}{}", if dirty { ", with changes" } else { "" })
    });
    let command = from["command_line"].as_array().map(|words| {
        let words = words.iter().filter_map(Json::as_str);
        words.collect::<Vec<_>>().join(" ")
    });
    let seed = (!results.run.started.is_empty()).then(|| results.run.experiment.seed.to_string());
    let facts = [
        (
            "started",
            Some(results.run.started.clone()).filter(|time| !time.is_empty()),
        ),
        ("command", command),
        ("seed", seed),
        ("version", known(&["version"])),
        ("commit", commit),
        ("binary, SHA-256", known(&["binary_digest"])),
        ("build", known(&["profile"])),
        ("kernel", known(&["host", "kernel"])),
        ("processor", known(&["host", "cpu"])),
        ("CPUs", known(&["host", "cpus"])),
        ("memory", gib(&["host", "memory"])),
        ("memory available", gib(&["host", "available"])),
        ("load at the start", known(&["host", "load"])),
        ("KVM", known(&["host", "kvm"])),
        ("emulated host", known(&["host", "emulated"])),
        (
            "transparent huge pages",
            known(&["host", "transparent_huge_pages"]),
        ),
        ("vm.max_map_count", known(&["host", "max_map_count"])),
        ("mkfs", known(&["mkfs"])),
    ];
    facts
        .into_iter()
        .map(|(name, value)| Fact {
            name,
            value: value.unwrap_or_else(|| "not available".to_owned()),
        })
        .collect()
}

fn images(results: &Results) -> Vec<Image> {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let images = results.run.images.iter();
    images
        .map(|(name, image)| Image {
            name: name.clone(),
            size: image["bytes"]
                .as_f64()
                .map_or_else(String::new, |bytes| Unit::Bytes.text(bytes)),
            digest: text(&image["digest"]),
        })
        .collect()
}

fn files(part: &Part<'_>) -> Vec<Link> {
    FILES
        .iter()
        .filter(|(name, _)| part.results.path.join(name).exists())
        .map(|(name, about)| Link {
            href: address(&format!("{}{name}", part.folder)),
            label: (*name).to_owned(),
            about,
        })
        .collect()
}

/// A path as a relative address: what has a meaning in addresses is escaped.
fn address(path: &str) -> String {
    let mut address = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                address.push(char::from(byte));
            }
            other => address.push_str(&format!("%{other:02X}")),
        }
    }
    address
}
