//! Judges expectations again, from stored figures.
//!
//! The runner judges when it measures; this is for readers who want to know that its verdicts follow
//! from its figures.

use serde_json::Value;

use crate::metrics::value;
use crate::results::Expectation;
use crate::summary::{Figures, Outcome, Verdict};

/// How an expectation comes out; `None` for a kind of bound that this version does not know.
#[must_use]
pub fn judge(expectation: &Expectation, figures: &Figures) -> Option<Outcome> {
    let value = value(figures, &expectation.metric);
    let verdict = match value {
        None => Verdict::Inconclusive,
        Some(value) if holds(&expectation.bound, value)? => Verdict::Met,
        Some(_) => Verdict::NotMet,
    };
    Some(Outcome {
        id: expectation.id.clone(),
        verdict,
        value,
        published: expectation.published,
    })
}

fn holds(bound: &Value, value: f64) -> Option<bool> {
    let (kind, bound) = bound.as_object()?.iter().next()?;
    match kind.as_str() {
        "at-least" => Some(value >= bound.as_f64()?),
        "at-most" => Some(value <= bound.as_f64()?),
        "equals" => {
            let bound = bound.as_f64()?;
            Some((value - bound).abs() < f64::EPSILON * bound.abs().max(1.0))
        }
        "within" => {
            let (part, of) = (bound["part"].as_f64()?, bound["of"].as_f64()?);
            Some((value - of).abs() <= part * of.abs())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bounds_are_judged_as_the_runner_does() {
        let verdict = |metric: &str, bound| {
            let mut figures = Figures::default();
            figures.memory.reclaimed = Some(100);
            let expectation = Expectation {
                metric: metric.into(),
                bound,
                ..Expectation::default()
            };
            judge(&expectation, &figures).map(|outcome| outcome.verdict)
        };
        let of = |bound| verdict("memory.reclaimed", bound);
        assert_eq!(of(json!({ "at-least": 100.0 })), Some(Verdict::Met));
        assert_eq!(of(json!({ "at-most": 99.0 })), Some(Verdict::NotMet));
        assert_eq!(of(json!({ "equals": 100 })), Some(Verdict::Met));
        assert_eq!(
            of(json!({ "within": { "part": 0.1, "of": 109.0 } })),
            Some(Verdict::Met)
        );
        assert_eq!(
            of(json!({ "within": { "part": 0.1, "of": 120.0 } })),
            Some(Verdict::NotMet)
        );
        assert_eq!(of(json!({ "near": 1.0 })), None);
        let unknown = verdict("memory.touched", json!({ "at-least": 0.0 }));
        assert_eq!(unknown, Some(Verdict::Inconclusive));
    }
}
