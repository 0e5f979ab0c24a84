//! The artifact appendix of a package, in the form that systems conferences ask for: claims, and the
//! experiments that show them. All of it is from the experiment file and its results, so that no
//! value is typed twice.

use std::fmt::Write as _;

use serde_json::Value;

use crate::judge::words;
use crate::metrics::number;
use crate::results::{Expectation, Results};
use crate::summary::{Cell, Outcome};
use crate::table::bytes;

/// The appendix as Markdown.
pub(super) fn artifact(results: &Results) -> String {
    let mut text = format!("# Artifact appendix: {}\n\n", results.title());
    if let Some(question) = &results.run.experiment.question {
        let _ = writeln!(text, "{question}\n");
    }
    text.push_str(
        "The experiments of the papers are replicated with artifacts of our own: the hardware is \
         gone. A claim of a *level* says that a size or share is within its bound; one of a *ratio* \
         or *shape* compares cells of one session.\n\n## Claims\n\n",
    );
    text.push_str("| | claim | figure | expected | found | published | verdict |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    for (number, (expectation, cell, outcome)) in claims(results).into_iter().enumerate() {
        let _ = writeln!(text, "{}", claim(number + 1, expectation, cell, outcome));
    }
    text.push_str("\n## Experiment E1\n\n");
    text.push_str(&experiment(results));
    text
}

/// Every claim with each cell that it was judged in.
fn claims(results: &Results) -> Vec<(&Expectation, &Cell, &Outcome)> {
    let mut claims = Vec::new();
    for expectation in &results.run.experiment.expect {
        for cell in &results.summary.cells {
            let outcomes = cell
                .expect
                .iter()
                .filter(|outcome| outcome.id == expectation.id && outcome.is_told_of(&cell.id));
            claims.extend(outcomes.map(|outcome| (expectation, cell, outcome)));
        }
    }
    claims
}

fn claim(number: usize, expectation: &Expectation, cell: &Cell, outcome: &Outcome) -> String {
    let unit = words::unit(expectation);
    let amount = |value: Option<f64>, absent: &str| {
        value.map_or_else(|| absent.to_owned(), |value| words::amount(value, unit))
    };
    let said = expectation.claim.as_deref().unwrap_or(&expectation.id);
    let found = match outcome.cells.as_slice() {
        [] => "",
        _ => "least step ",
    };
    format!(
        "| C{number} | {} | `{}`, cell {} | {} | {found}{} | {} | {} |",
        said.replace('|', "/"),
        words::metric(expectation),
        outcome.whose(&cell.id),
        words::bound(expectation),
        amount(outcome.value, "n/a"),
        amount(outcome.published, ""),
        outcome.verdict.word()
    )
}

fn experiment(results: &Results) -> String {
    let conditions = &results.run.conditions;
    let host = &results.run.provenance["host"];
    let estimate = &conditions["experiment"]["estimate"];
    let took: f64 = results.run.runs.iter().map(|run| run.seconds).sum();
    let size = |value: &Value| bytes(value.as_u64());
    let emulated = if results.summary.emulated {
        " --host emulated"
    } else {
        ""
    };
    format!(
        "* **Human time**: 2 minutes.\n\
         * **Machine time**: {} stated; {} of runs here.\n\
         * **Memory**: {}. **Disk**: {}.\n\
         * **Host here**: {}, {} CPUs, {}, Linux {}, KVM: {}.\n\
         * **Preparation**: `cargo build --release`; `target/release/mirrorball doctor` says whether \
         this host can do it.\n\
         * **Command**: `mirrorball run{emulated} experiment.yaml` with the file of this package, or \
         `mirrorball verify --rerun PACKAGE`, which also compares.\n\
         * **Expected output**: the table of `table.txt`: sizes, shares and counts alike beyond \
         noise, times of the host that it runs on; verdict \"{}\".\n\
         * **Claims**: all above.\n",
        time(estimate["time"].as_f64()),
        time(Some(took)),
        size(&estimate["memory"]),
        size(&estimate["disk"]),
        word(&host["cpu"]),
        word(&host["cpus"]),
        size(&host["memory"]),
        word(&host["kernel"]),
        word(&host["kvm"]),
        results.summary.verdict.word()
    )
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "not available".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "not stated".to_owned(),
        Some(seconds) if seconds >= 120.0 => format!("{} min", number(seconds / 60.0)),
        Some(seconds) => format!("{} s", number(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_appendix_says_what_is_claimed_and_what_it_takes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference");
        let results = Results::load(&path.join("fig4-identical-vms")).unwrap();
        let text = artifact(&results);
        for part in [
            "ten guests save at least the part of their memory that ten of the paper's did",
            "`sharing.reclaimed_share`, cell all-10 | at least 59.9 % |",
            "15.0 min stated",
            "run --host emulated experiment.yaml",
            "2048.0 MiB",
        ] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
    }
}
