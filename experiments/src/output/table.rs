//! The table at the end of a run: cells side by side.

use comfy_table::presets::{ASCII_MARKDOWN, UTF8_HORIZONTAL_ONLY};
use comfy_table::{CellAlignment, Table};

use super::summary::{Cell, Failure, Figures, Summary, Verdict};

const NOT_MEASURED: &str = "n/a";

/// One row: its name and its text in a cell.
type Row = (&'static str, fn(&Figures) -> String);

const ROWS: [Row; 17] = [
    ("guest-physical", |f| bytes(f.memory.guest_physical)),
    ("touched", |f| bytes(f.memory.touched)),
    ("machine memory used", |f| bytes(f.memory.machine_used)),
    ("shared", |f| bytes(f.memory.shared)),
    ("reclaimed", |f| bytes(f.memory.reclaimed)),
    ("  by disk", |f| bytes(f.by_mechanism.disk)),
    ("  by content", |f| bytes(f.by_mechanism.content)),
    ("  by zero", |f| bytes(f.by_mechanism.zero)),
    ("  by KSM", |f| bytes(f.by_mechanism.ksm)),
    ("  KSM, net of its cost", |f| net(f)),
    ("of what is possible", |f| share(f.sharing.oracle_share)),
    ("if every share broke", |f| broken(f)),
    ("scanner CPU", |f| seconds(f.cpu_seconds.scanner)),
    ("ksmd CPU", |f| seconds(f.cpu_seconds.ksmd)),
    ("CPU for each GiB scanned out", |f| cost(f)),
    ("workload time", |f| seconds(f.workload.seconds)),
    ("kernel's account differs", |f| share(f.accounting.gap)),
];

/// The table as text; `plain` for files and pipes.
#[must_use]
pub fn render(summary: &Summary, plain: bool) -> String {
    let mut table = Table::new();
    table.load_style(if plain {
        ASCII_MARKDOWN
    } else {
        UTF8_HORIZONTAL_ONLY
    });
    let names = summary.cells.iter().map(|cell| cell.id.clone());
    table.set_header(std::iter::once(String::new()).chain(names));
    for (name, value) in ROWS {
        let values = summary.cells.iter().map(|cell| match cell.runs {
            0 => "-".to_owned(),
            _ => value(&cell.figures),
        });
        table.add_row(std::iter::once(name.to_owned()).chain(values));
    }
    table.add_row(std::iter::once("runs".to_owned()).chain(summary.cells.iter().map(runs)));
    table.add_row(
        std::iter::once("verdict".to_owned()).chain(
            summary
                .cells
                .iter()
                .map(|cell| verdict(cell).word().to_owned()),
        ),
    );
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// How a cell came out.
#[must_use]
pub fn verdict(cell: &Cell) -> Verdict {
    let any = |verdict| cell.expect.iter().any(|outcome| outcome.verdict == verdict);
    let unsupported = |failure: &Failure| failure.class == "not-supported";
    if !cell.failures.is_empty() && cell.failures.iter().all(unsupported) {
        Verdict::NotSupported
    } else if !cell.failures.is_empty() || cell.runs == 0 {
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
    match cell.failures.len() {
        0 => cell.runs.to_string(),
        failed => format!("{}, {failed} failed", cell.runs),
    }
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

fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(
        || NOT_MEASURED.to_owned(),
        |seconds| format!("{seconds:.2} s"),
    )
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(
        || NOT_MEASURED.to_owned(),
        |share| format!("{:.1} %", share * 100.0),
    )
}

fn net(figures: &Figures) -> String {
    let Some(net) = figures.ksm.as_ref().and_then(|ksm| ksm.net_saved) else {
        return NOT_MEASURED.to_owned();
    };
    let sign = if net < 0 { "-" } else { "" };
    format!("{sign}{}", bytes(Some(net.unsigned_abs())))
}

/// Machine memory that would be needed if every shared page were written now.
fn broken(figures: &Figures) -> String {
    let (used, reclaimed) = (figures.memory.machine_used, figures.memory.reclaimed);
    bytes(
        used.zip(reclaimed)
            .map(|(used, reclaimed)| used.saturating_add(reclaimed)),
    )
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
            format!("{each:.2} s")
        }
        _ => NOT_MEASURED.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::summary::Ksm;
    use super::*;

    #[test]
    fn what_was_not_measured_says_so() {
        let mut figures = Figures::default();
        figures.memory.guest_physical = Some(1 << 30);
        let cell = |runs| Cell {
            id: "all".into(),
            mechanisms: vec![],
            guests: 8,
            runs,
            figures: figures.clone(),
            failures: vec![],
            warnings: vec![],
            expect: vec![],
        };
        let summary = Summary {
            schema_version: 1,
            name: "x".into(),
            verdict: Verdict::Met,
            interrupted: false,
            causes: vec![],
            cells: vec![cell(1), cell(0)],
        };
        let text = render(&summary, true);
        let row = |name: &str| {
            text.lines()
                .find(|line| line.contains(name))
                .unwrap()
                .to_owned()
        };
        assert!(row("guest-physical").contains("1024.0 MiB"));
        assert!(row("ksmd CPU").contains("n/a") && !row("ksmd CPU").contains('0'));
        assert!(row("verdict").contains("met") && row("verdict").contains("failed"));
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
        assert_eq!(net(&figures), "-3.0 MiB");
    }
}
