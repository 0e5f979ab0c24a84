//! Whether figures are what an experiment expects of them.

use super::summary::{Figures, Outcome, Verdict};
use crate::spec::{Bound, Expectation};

/// How an expectation came out in a cell.
#[must_use]
pub fn judge(expectation: &Expectation, figures: &Figures) -> Outcome {
    let value = metric(figures, &expectation.metric);
    let verdict = match value {
        None => Verdict::Inconclusive,
        Some(value) => {
            let met = match expectation.bound {
                Bound::AtLeast(bound) => value >= bound,
                Bound::AtMost(bound) => value <= bound,
                Bound::Within { part, of } => (value - of).abs() <= part * of.abs(),
                Bound::Equals(bound) => (value - bound).abs() < f64::EPSILON * bound.abs().max(1.0),
            };
            if met { Verdict::Met } else { Verdict::NotMet }
        }
    };
    Outcome {
        id: expectation.id.clone(),
        verdict,
        value,
        published: expectation.published,
    }
}

/// The value of a metric by its path.
fn metric(figures: &Figures, path: &str) -> Option<f64> {
    let tree = serde_json::to_value(figures).ok()?;
    path.split('.')
        .try_fold(&tree, |tree, name| tree.get(name))?
        .as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_are_met_or_not_or_unknown() {
        let expect = |metric: &str, bound| {
            let expectation = Expectation {
                id: "x".into(),
                claim: None,
                metric: metric.into(),
                cell: None,
                bound,
                published: None,
                source: None,
            };
            let mut figures = Figures::default();
            figures.memory.reclaimed = Some(100);
            judge(&expectation, &figures).verdict
        };
        assert_eq!(
            expect("memory.reclaimed", Bound::AtLeast(100.0)),
            Verdict::Met
        );
        assert_eq!(
            expect("memory.reclaimed", Bound::AtMost(99.0)),
            Verdict::NotMet
        );
        assert_eq!(
            expect("memory.reclaimed", Bound::Equals(100.0)),
            Verdict::Met
        );
        let near = |part, of| expect("memory.reclaimed", Bound::Within { part, of });
        assert_eq!(near(0.1, 91.0), Verdict::Met);
        assert_eq!(near(0.1, 90.0), Verdict::NotMet);
        assert_eq!(
            expect("memory.touched", Bound::AtLeast(0.0)),
            Verdict::Inconclusive
        );
    }
}
