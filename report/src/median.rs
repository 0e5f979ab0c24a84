//! One set of figures out of the figures of several runs.

use serde_json::Value;

use super::summary::{Figures, Integrity};

/// The median of several runs' figures, leaf by leaf; integrity is summed, and the accounting is
/// the worst run's.
#[must_use]
pub fn median(runs: &[Figures]) -> Figures {
    let trees = runs
        .iter()
        .filter_map(|run| serde_json::to_value(run).ok())
        .collect::<Vec<_>>();
    let tree = median_tree(&trees.iter().collect::<Vec<_>>());
    let mut figures: Figures = serde_json::from_value(tree).unwrap_or_default();
    let sum = |field: fn(&Integrity) -> Option<u64>| {
        runs.iter()
            .filter_map(|run| field(&run.integrity))
            .reduce(u64::saturating_add)
    };
    figures.integrity = Integrity {
        verified_pages: sum(|i| i.verified_pages),
        mismatches: sum(|i| i.mismatches),
    };
    let gap = |run: &&Figures| run.accounting.gap.unwrap_or(0.0);
    if let Some(worst) = runs.iter().max_by(|a, b| gap(a).total_cmp(&gap(b))) {
        figures.accounting = worst.accounting.clone();
    }
    figures
}

fn median_tree(trees: &[&Value]) -> Value {
    if let Some(map) = trees.iter().find_map(|tree| tree.as_object()) {
        let below = |key: &String| {
            let values = trees
                .iter()
                .filter_map(|tree| tree.get(key))
                .collect::<Vec<_>>();
            (key.clone(), median_tree(&values))
        };
        return Value::Object(map.keys().map(below).collect());
    }
    let mut numbers = trees
        .iter()
        .filter(|tree| tree.is_number())
        .collect::<Vec<_>>();
    numbers.sort_by(|a, b| {
        a.as_f64()
            .unwrap_or(0.0)
            .total_cmp(&b.as_f64().unwrap_or(0.0))
    });
    let Some(upper) = numbers.get(numbers.len() / 2) else {
        return Value::Null;
    };
    let lower = numbers[(numbers.len() - 1) / 2];
    match (
        lower.as_i64(),
        upper.as_i64(),
        lower.as_f64(),
        upper.as_f64(),
    ) {
        (Some(a), Some(b), ..) => Value::from(a.midpoint(b)),
        (_, _, Some(a), Some(b)) => Value::from(f64::midpoint(a, b)),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(reclaimed: u64, seconds: f64, gap: f64) -> Figures {
        let mut figures = Figures::default();
        figures.memory.reclaimed = Some(reclaimed);
        figures.workload.seconds = Some(seconds);
        figures.accounting.gap = Some(gap);
        figures.integrity.verified_pages = Some(10);
        figures
    }

    #[test]
    fn medians_sums_and_the_worst_gap() {
        let median = median(&[
            figures(5, 1.0, 0.001),
            figures(1, 4.0, 0.02),
            figures(3, 2.0, 0.0),
        ]);
        assert_eq!(median.memory.reclaimed, Some(3));
        assert_eq!(median.workload.seconds, Some(2.0));
        assert_eq!(median.accounting.gap, Some(0.02));
        assert_eq!(median.integrity.verified_pages, Some(30));
        assert_eq!(median.memory.touched, None, "not measured is not 0");
        assert_eq!(
            super::median(&[figures(2, 1.0, 0.0), figures(4, 2.0, 0.0)])
                .workload
                .seconds,
            Some(1.5)
        );
    }
}
