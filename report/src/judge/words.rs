//! Claims in words, the same on the page, in the artifact appendix and in `check`.

use crate::metrics::{Unit, by_path, number};
use crate::results::Expectation;
use crate::summary::group_metric;

/// The unit of what a claim is about; a ratio has none.
#[must_use]
pub fn unit(expectation: &Expectation) -> Unit {
    match expectation.ratio_to {
        Some(_) => Unit::Count,
        None => by_path(&expectation.metric)
            .map_or_else(|| of_group(&expectation.metric), |metric| metric.unit),
    }
}

/// The unit of a figure of a group of guests.
fn of_group(path: &str) -> Unit {
    match group_metric(path) {
        None | Some((_, "operations")) => Unit::Count,
        Some(_) => Unit::Bytes,
    }
}

/// A value with its unit.
#[must_use]
pub fn amount(value: f64, unit: Unit) -> String {
    let text = format!("{} {}", unit.text(value), unit.name());
    text.trim_end().to_owned()
}

/// What is judged.
#[must_use]
pub fn metric(expectation: &Expectation) -> String {
    match &expectation.ratio_to {
        Some(other) => format!("{} over that of {other}", expectation.metric),
        None => expectation.metric.clone(),
    }
}

/// The bound of a claim.
#[must_use]
pub fn bound(expectation: &Expectation) -> String {
    let unit = unit(expectation);
    let amount = |value: f64| amount(value, unit);
    let Some(bounds) = expectation.bound.as_object() else {
        return String::new();
    };
    let words = bounds.iter().map(|(kind, value)| {
        let kind = kind.replace('-', " ");
        if let Some(path) = value.as_str() {
            return format!("{kind} {path}");
        }
        if value.is_array() {
            return "each more than the one before".to_owned();
        }
        match (value.as_f64(), value["part"].as_f64(), value["of"].as_f64()) {
            (Some(value), ..) => format!("{kind} {}", amount(value)),
            (_, Some(part), Some(of)) => {
                format!("{kind} {} % of {}", number(part * 100.0), amount(of))
            }
            _ => match (
                value["low"].as_f64(),
                value["high"].as_f64(),
                value["by"].as_f64(),
                value["of"].as_f64(),
            ) {
                (Some(low), Some(high), ..) => {
                    format!("{kind} {} and {}", amount(low), amount(high))
                }
                (_, _, Some(by), Some(of)) => {
                    format!("{kind} {} \u{b1} {}", amount(of), amount(by))
                }
                _ => format!("{kind} {value}"),
            },
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(bound: Value, ratio_to: Option<&str>) -> Expectation {
        Expectation {
            metric: "memory.machine_used".into(),
            bound,
            ratio_to: ratio_to.map(str::to_owned),
            ..Expectation::default()
        }
    }

    #[test]
    fn bounds_have_the_unit_of_the_figure_and_ratios_none() {
        let mib = |count: u64| json!(count << 20);
        let said = |bound, to| bound_of(bound, to);
        assert_eq!(said(json!({ "at-most": mib(3) }), None), "at most 3.00 MiB");
        assert_eq!(said(json!({ "at-most": 1.7 }), Some("one")), "at most 1.70");
        let between = json!({ "between": { "low": mib(1), "high": mib(2) } });
        assert_eq!(said(between, None), "between 1.00 MiB and 2.00 MiB");
        let around = json!({ "around": { "by": mib(1), "of": mib(2) } });
        assert_eq!(said(around, None), "around 2.00 MiB \u{b1} 1.00 MiB");
        let ratio = claim(json!({ "at-most": 1.7 }), Some("one"));
        assert_eq!(metric(&ratio), "memory.machine_used over that of one");
    }

    fn bound_of(value: Value, ratio_to: Option<&str>) -> String {
        bound(&claim(value, ratio_to))
    }
}
