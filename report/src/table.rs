//! The table at the end of a run: cells side by side.

use std::collections::BTreeSet;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use super::summary::{Cell, Failure, Figures, Outcome, Summary, Verdict};

const NOT_MEASURED: &str = "n/a";

/// Below the table of an emulated host.
const EMULATED: &str = "emulated host: times compare within this table only; sizes are real";

/// How warnings begin that say why times are not to be trusted.
const NOISY: &str = "times are noisy";

/// Width that the table keeps to on a terminal.
const WIDTH: u16 = 80;

/// A line below the names of the cells and nothing else: six cells fit into 80 columns.
const LEAN: TableStyle = TableStyle::new().header_separator(LineStyle::new('─', '─', '─', '─'));

/// One row: its name, its unit and its text in a cell.
type Row = (&'static str, &'static str, fn(&Figures) -> String);

const ROWS: [Row; 21] = [
    ("guest-physical", "MiB", |f| mib(f.memory.guest_physical)),
    ("touched", "MiB", |f| mib(f.memory.touched)),
    ("machine memory", "MiB", |f| mib(f.memory.machine_used)),
    ("shared", "MiB", |f| mib(f.memory.shared)),
    ("reclaimed", "MiB", |f| mib(f.memory.reclaimed)),
    ("  by disk", "MiB", |f| mib(f.by_mechanism.disk)),
    ("  by network", "MiB", |f| mib(f.by_mechanism.network)),
    ("  by content", "MiB", |f| mib(f.by_mechanism.content)),
    ("  by zero", "MiB", |f| mib(f.by_mechanism.zero)),
    ("  by KSM", "MiB", |f| mib(f.by_mechanism.ksm)),
    ("  KSM, less its cost", "MiB", net),
    ("disk reads mapped", "%", |f| percent(f.disk.mapped_share)),
    ("of what is possible", "%", |f| {
        percent(f.sharing.oracle_share)
    }),
    ("if all shares broke", "MiB", broken),
    ("shared pages broken", "", |f| count(f.sharing.broken_pages)),
    ("writers held, p99", "us", |f| {
        micros(f.sharing.hold_p99_seconds)
    }),
    ("scanner CPU", "s", |f| seconds(f.cpu_seconds.scanner)),
    ("ksmd CPU", "s", |f| seconds(f.cpu_seconds.ksmd)),
    ("scan CPU per GiB", "s", cost),
    ("workload time", "s", |f| seconds(f.workload.seconds)),
    ("kernel's books differ", "%", |f| percent(f.accounting.gap)),
];

/// The table as text; `plain` for files and pipes.
#[must_use]
pub fn render(summary: &Summary, plain: bool) -> String {
    let mut table = Table::new();
    if plain {
        table.load_style(ASCII_MARKDOWN);
    } else {
        table.load_style(LEAN);
        table.set_width(WIDTH);
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    let names = summary.cells.iter().map(|cell| cell.id.clone());
    table.set_header([String::new(), String::new()].into_iter().chain(names));
    for (name, unit, value) in ROWS {
        let values = summary.cells.iter().map(|cell| match cell.runs {
            0 => "-".to_owned(),
            _ => value(&cell.figures),
        });
        let head = [name.to_owned(), unit.to_owned()];
        table.add_row(head.into_iter().chain(values));
    }
    type Last = (&'static str, fn(&Cell) -> String);
    let last: [Last; 2] = [
        ("runs", runs),
        ("verdict", |c| verdict(c).word().to_owned()),
    ];
    for (name, value) in last {
        let head = [name.to_owned(), String::new()];
        table.add_row(head.into_iter().chain(summary.cells.iter().map(value)));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if !plain {
        for column in table.column_iter_mut() {
            // The style's own separators are wide enough.
            column.set_padding((0, 0));
        }
    }
    let mut text = table.to_string();
    if summary.emulated {
        text.push('\n');
        text.push_str(EMULATED);
    }
    for cell in &summary.cells {
        if let Some(noise) = noise(cell) {
            text.push('\n');
            text.push_str(&noise);
        }
    }
    text
}

/// What spoils a cell's times, by the first run that says so; how many do.
fn noise(cell: &Cell) -> Option<String> {
    let mut noisy = cell.warnings.iter().filter(|text| text.starts_with(NOISY));
    let first = noisy.next()?;
    Some(match noisy.count() {
        0 => format!("{}: {first}", cell.id),
        more => format!("{}: {first} (and so in {more} more runs)", cell.id),
    })
}

/// How a cell came out.
#[must_use]
pub fn verdict(cell: &Cell) -> Verdict {
    let counts = |outcome: &&Outcome| outcome.severity.is_fail();
    let counted: Vec<&Outcome> = cell.expect.iter().filter(counts).collect();
    let any = |verdict| counted.iter().any(|outcome| outcome.verdict == verdict);
    let unsupported = |failure: &Failure| failure.class == "not-supported";
    let mut spoilt = cell.failures.iter().filter(|failure| failure.spoils());
    if !cell.failures.is_empty() && cell.failures.iter().all(unsupported) {
        Verdict::NotSupported
    } else if spoilt.next().is_some() || cell.runs == 0 {
        Verdict::Failed
    } else if any(Verdict::NotMet) {
        Verdict::NotMet
    } else if any(Verdict::Inconclusive) {
        Verdict::Inconclusive
    } else {
        Verdict::Met
    }
}

fn runs(cell: &Cell) -> String {
    // Every guest of a run may have failed; it is one run all the same.
    let failed = cell.failures.iter().filter(|failure| failure.spoils());
    let failed = failed.map(|failure| failure.run).collect::<BTreeSet<_>>();
    let mut text = cell.runs.to_string();
    if !failed.is_empty() {
        text.push_str(&format!(", {} failed", failed.len()));
    }
    if cell.retried > 0 {
        text.push_str(&format!(", {} retried", cell.retried));
    }
    text
}

/// Bytes for people.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
pub fn bytes(bytes: Option<u64>) -> String {
    match bytes {
        None => NOT_MEASURED.to_owned(),
        Some(bytes) if bytes >= 10 << 30 => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
        Some(bytes) if bytes >= 1 << 20 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        Some(0) => "0".to_owned(),
        Some(bytes) => format!("{:.1} KiB", bytes as f64 / 1024.0),
    }
}

/// A figure, or that it was not measured.
fn shown<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NOT_MEASURED.to_owned(), text)
}

#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn mib(bytes: Option<u64>) -> String {
    shown(bytes, |bytes| match bytes {
        0 => "0".to_owned(),
        // Little is not nothing.
        1..0x1_9999 => "<0.1".to_owned(),
        _ => format!("{:.1}", bytes as f64 / f64::from(1 << 20)),
    })
}

fn seconds(seconds: Option<f64>) -> String {
    shown(seconds, |seconds| format!("{seconds:.2}"))
}

fn micros(seconds: Option<f64>) -> String {
    shown(seconds, |seconds| format!("{:.0}", seconds * 1e6))
}

fn percent(share: Option<f64>) -> String {
    shown(share, |share| format!("{:.1}", share * 100.0))
}

fn count(count: Option<u64>) -> String {
    shown(count, |count| count.to_string())
}

fn net(figures: &Figures) -> String {
    let net = figures.ksm.as_ref().and_then(|ksm| ksm.net_saved);
    shown(net, |net| {
        let sign = if net < 0 { "-" } else { "" };
        format!("{sign}{}", mib(Some(net.unsigned_abs())))
    })
}

/// Machine memory that would be needed if every shared page were written now.
fn broken(figures: &Figures) -> String {
    let (used, reclaimed) = (figures.memory.machine_used, figures.memory.reclaimed);
    mib(used
        .zip(reclaimed)
        .map(|(used, reclaimed)| used.saturating_add(reclaimed)))
}

/// CPU seconds of the scanners for each GiB that they (not the disk) saved.
fn cost(figures: &Figures) -> String {
    let saved = [
        figures.by_mechanism.content,
        figures.by_mechanism.zero,
        figures.by_mechanism.ksm,
    ];
    let saved: u64 = saved.into_iter().flatten().sum();
    let spent: Option<f64> = [figures.cpu_seconds.scanner, figures.cpu_seconds.ksmd]
        .into_iter()
        .flatten()
        .reduce(|a, b| a + b);
    match spent {
        Some(spent) if saved > 0 && spent > 0.0 => {
            #[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
            let each = spent * f64::from(1 << 30) / saved as f64;
            format!("{each:.2}")
        }
        _ => NOT_MEASURED.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::summary::Ksm;
    use super::*;

    /// A table with a column for each of these numbers of runs.
    fn rendered(id: &str, figures: &Figures, runs: &[u64], plain: bool) -> String {
        let cells = runs.iter().map(|runs| cell(id, figures, *runs)).collect();
        let summary = Summary {
            schema_version: 1,
            name: "x".into(),
            verdict: Verdict::Met,
            interrupted: false,
            emulated: false,
            smoke: false,
            causes: vec![],
            cells,
        };
        render(&summary, plain)
    }

    fn cell(id: &str, figures: &Figures, runs: u64) -> Cell {
        Cell {
            id: id.into(),
            guests: 8,
            runs,
            figures: figures.clone(),
            ..Cell::default()
        }
    }

    #[test]
    fn what_was_not_measured_says_so() {
        let mut figures = Figures::default();
        figures.memory.guest_physical = Some(1 << 30);
        let text = rendered("all", &figures, &[1, 0], true);
        let row = |name: &str| {
            text.lines()
                .find(|line| line.contains(name))
                .unwrap()
                .to_owned()
        };
        assert!(row("guest-physical").contains("1024.0"));
        assert!(row("ksmd CPU").contains("n/a") && !row("ksmd CPU").contains('0'));
        assert!(row("broken").contains("n/a") && row("held").contains("n/a"));
        assert!(row("verdict").contains("met") && row("verdict").contains("failed"));
    }

    #[test]
    fn a_run_in_which_many_guests_failed_is_one_run() {
        let failure = |run| Failure {
            run,
            class: "guest".into(),
            cause: "x".into(),
        };
        let mut cell = cell("all", &Figures::default(), 1);
        cell.failures = vec![failure(2), failure(2), failure(3)];
        assert_eq!(runs(&cell), "1, 2 failed");
    }

    #[test]
    fn noise_that_spoils_times_is_told_below_the_table() {
        let mut cell = cell("all", &Figures::default(), 3);
        assert_eq!(noise(&cell), None);
        let warning = |text: &str| format!("times are noisy: {text}");
        cell.warnings = vec!["other".into(), warning("steal")];
        assert_eq!(noise(&cell).unwrap(), "all: times are noisy: steal");
        cell.warnings.extend([warning("a"), warning("b")]);
        assert!(
            noise(&cell)
                .unwrap()
                .ends_with("steal (and so in 2 more runs)")
        );
    }

    #[test]
    fn little_is_not_nothing() {
        assert_eq!(mib(Some(0)), "0");
        assert_eq!(mib(Some(4096)), "<0.1");
        assert_eq!(mib(Some(3 << 19)), "1.5");
        assert_eq!(micros(Some(0.000_042)), "42");
    }

    #[test]
    fn six_cells_fit_into_80_columns() {
        let mut figures = Figures::default();
        figures.memory.guest_physical = Some(64_000 << 20);
        figures.workload.seconds = Some(1234.0);
        let text = rendered("content", &figures, &[1, 1, 1, 1, 1, 0], false);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(
            text.contains(" 64000.0 64000.0 "),
            "a figure is cut:\n{text}"
        );
    }

    #[test]
    fn a_loss_is_shown_as_one() {
        let ksm = Ksm {
            net_saved: Some(-(3 << 20)),
            ..Ksm::default()
        };
        let figures = Figures {
            ksm: Some(ksm),
            ..Figures::default()
        };
        assert_eq!(net(&figures), "-3.0");
    }
}
