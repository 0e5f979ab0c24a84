//! `mirrorball check`: whether stored results bear out an experiment's claims; needs no KVM.

use std::fmt::Write as _;
use std::path::PathBuf;

use mirrorball_experiments::exit;
use mirrorball_experiments::run::claims;
use mirrorball_report::judge::{Judged, judge_all, words};
use mirrorball_report::metrics::Unit;
use mirrorball_report::results::{Expectation, Results};
use mirrorball_report::summary::{Severity, Verdict};

/// Options of `mirrorball check`.
#[derive(clap::Args, Debug)]
pub(crate) struct CheckOptions {
    /// The results folder
    folder: PathBuf,
    /// Judge the claims of this experiment file instead of those that the results came with
    #[arg(long, value_name = "EXPERIMENT")]
    file: Option<PathBuf>,
    /// Exit with 8 if a claim can't be judged
    #[arg(long)]
    strict: bool,
}

/// Judges the claims and says how they come out; the exit code.
pub(crate) fn check(options: &CheckOptions, json: bool) -> anyhow::Result<u8> {
    let results = match Results::load(&options.folder) {
        Ok(results) => results,
        Err(error) => {
            eprintln!("mirrorball: {error}");
            return Ok(exit::DAMAGED);
        }
    };
    let expect = match &options.file {
        None => results.run.experiment.expect.clone(),
        Some(file) => match crate::load(file, &[], Some(&std::env::temp_dir())) {
            Ok(loaded) => claims(&loaded.experiment),
            Err(code) => return Ok(code),
        },
    };
    let judged = judge_all(&results, &expect);
    if json {
        let found = serde_json::json!({ "schema_version": 1, "claims": judged });
        crate::print(&format!("{found:#}\n"))?;
    } else {
        crate::print(&told(&judged, &expect))?;
    }
    Ok(exit_code(&judged, options.strict))
}

/// The exit code of these verdicts.
fn exit_code(judged: &[Judged<'_>], strict: bool) -> u8 {
    let counted = judged.iter().filter(|j| j.outcome.severity.is_fail());
    let verdicts: Vec<Verdict> = counted.map(|judged| judged.outcome.verdict).collect();
    if verdicts.contains(&Verdict::NotMet) {
        exit::NOT_MET
    } else if strict && verdicts.contains(&Verdict::Inconclusive) {
        exit::INCONCLUSIVE
    } else {
        exit::OK
    }
}

/// One line for each verdict, and what could not be judged at all.
fn told(judged: &[Judged<'_>], expect: &[Expectation]) -> String {
    let mut text = String::new();
    if expect.is_empty() {
        text.push_str("this experiment claims nothing\n");
    }
    for judged in judged {
        let outcome = &judged.outcome;
        let severity = match outcome.severity {
            Severity::Fail => "",
            Severity::Warn => " (warning only)",
            Severity::Info => " (for information)",
        };
        let id = &outcome.id;
        let claim = judged.claim.unwrap_or(id);
        let of = expect.iter().find(|expectation| expectation.id == *id);
        let _ = writeln!(
            text,
            "{:<13} {}: {claim}{severity}\n{:14}{id}: {} {}; wanted: {}",
            outcome.verdict.word(),
            judged.cell,
            "",
            judged.metric,
            found(judged, of),
            of.map_or_else(String::new, words::bound),
        );
    }
    text
}

fn found(judged: &Judged<'_>, of: Option<&Expectation>) -> String {
    let outcome = &judged.outcome;
    let ratio = of.and_then(|of| of.ratio_to.as_deref());
    let unit = of.map_or(Unit::Count, words::unit);
    let shown = |value: f64| unit.text(value);
    let Some(value) = outcome.value else {
        return "was not measured".to_owned();
    };
    let mut text = match ratio {
        None if !outcome.cells.is_empty() => {
            format!("has a least step of {} {}", shown(value), unit.name())
        }
        Some(to) => format!("is {} times that of {to}", shown(value)),
        None => format!("is {} {}", shown(value), unit.name()),
    };
    if let Some([low, high]) = outcome.interval {
        let _ = write!(text, " [{} to {}]", shown(low), shown(high));
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirrorball_report::summary::Outcome;
    use serde_json::json;

    #[test]
    fn the_exit_code_is_of_the_worst_claim_that_counts() {
        let bound = json!({ "at-most": 1.0 });
        let judged = |verdict, severity| Judged {
            cell: "all".into(),
            claim: None,
            metric: "stop.seconds",
            bound: &bound,
            outcome: Outcome {
                id: "x".into(),
                verdict,
                value: None,
                interval: None,
                severity,
                published: None,
                cells: Vec::new(),
            },
        };
        let unsure = || judged(Verdict::Inconclusive, Severity::Fail);
        let missed = |severity| judged(Verdict::NotMet, severity);
        assert_eq!(exit_code(&[unsure()], false), exit::OK);
        assert_eq!(exit_code(&[unsure()], true), exit::INCONCLUSIVE);
        assert_eq!(
            exit_code(&[unsure(), missed(Severity::Fail)], true),
            exit::NOT_MET
        );
        assert_eq!(exit_code(&[missed(Severity::Warn)], true), exit::OK);
    }
}
