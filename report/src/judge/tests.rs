use super::*;
use crate::stats;
use crate::summary::Verdict;
use serde_json::json;

fn measured(values: &[f64]) -> Measured {
    Measured {
        runs: (1..).zip(values.iter().copied()).collect(),
        cell: values.first().map(|_| stats::median(values)),
    }
}

fn expect(bound: Value) -> Expectation {
    Expectation {
        metric: "memory.reclaimed".into(),
        bound,
        ..Expectation::default()
    }
}

fn verdict(bound: Value, values: &[f64]) -> Option<Verdict> {
    let outcome = judge(&expect(bound), &measured(values), None)?;
    Some(outcome.verdict)
}

#[test]
fn one_run_is_on_one_side() {
    let of = |bound| verdict(bound, &[100.0]);
    assert_eq!(of(json!({ "at-least": 100.0 })), Some(Verdict::Met));
    assert_eq!(of(json!({ "at-most": 99.0 })), Some(Verdict::NotMet));
    assert_eq!(of(json!({ "equals": 100 })), Some(Verdict::Met));
    assert_eq!(
        of(json!({ "between": { "low": 90, "high": 100 } })),
        Some(Verdict::Met)
    );
    let within = |of_: f64| of(json!({ "within": { "part": 0.1, "of": of_ } }));
    assert_eq!(
        (within(109.0), within(120.0)),
        (Some(Verdict::Met), Some(Verdict::NotMet))
    );
    let around = |by: f64| of(json!({ "around": { "by": by, "of": 90.0 } }));
    assert_eq!(
        (around(10.0), around(9.0)),
        (Some(Verdict::Met), Some(Verdict::NotMet))
    );
    assert_eq!(of(json!({ "near": 1.0 })), None);
    assert_eq!(
        verdict(json!({ "at-least": 0.0 }), &[]),
        Some(Verdict::Inconclusive)
    );
}

#[test]
fn an_interval_on_both_sides_is_inconclusive() {
    let noisy = [95.0, 99.0, 101.0, 103.0, 110.0];
    let of = |bound| verdict(bound, &noisy).unwrap();
    assert_eq!(of(json!({ "at-least": 100.0 })), Verdict::Inconclusive);
    assert_eq!(of(json!({ "at-least": 90.0 })), Verdict::Met);
    assert_eq!(of(json!({ "at-least": 120.0 })), Verdict::NotMet);
    assert_eq!(
        of(json!({ "between": { "low": 90.0, "high": 100.0 } })),
        Verdict::Inconclusive
    );
    // Two runs have no interval, but they can disagree.
    assert_eq!(
        verdict(json!({ "at-most": 5.0 }), &[4.0, 6.0]),
        Some(Verdict::Inconclusive)
    );
    assert_eq!(
        verdict(json!({ "at-most": 5.0 }), &[6.0, 7.0]),
        Some(Verdict::NotMet)
    );
}

#[test]
fn exact_counts_are_so_in_every_run_and_wrong_bytes_are_added_up() {
    assert_eq!(
        verdict(json!({ "equals": 3 }), &[3.0, 3.0, 4.0]),
        Some(Verdict::NotMet)
    );
    assert_eq!(
        verdict(json!({ "equals": 3 }), &[3.0; 4]),
        Some(Verdict::Met)
    );
    let mut wrong = expect(json!({ "equals": 0 }));
    wrong.metric = "integrity.mismatches".into();
    let measured = Measured {
        runs: vec![(1, 0.0), (2, 0.0)],
        cell: Some(1.0),
    };
    assert_eq!(
        judge(&wrong, &measured, None).unwrap().verdict,
        Verdict::NotMet
    );
}

#[test]
fn ratios_are_of_the_same_repeats() {
    let mut expectation = expect(json!({ "at-most": 0.5 }));
    expectation.ratio_to = Some("none".into());
    // The host drifts from repeat to repeat, and the ratio does not.
    let base = measured(&[10.0, 20.0, 30.0, 40.0]);
    let half = measured(&[4.0, 8.0, 12.0, 16.0]);
    let outcome = judge(&expectation, &half, Some(&base)).unwrap();
    assert_eq!(outcome.verdict, Verdict::Met);
    assert!((outcome.value.unwrap() - 0.4).abs() < 1e-12);
    let none = judge(&expectation, &half, None).unwrap();
    assert_eq!((none.verdict, none.value), (Verdict::Inconclusive, None));
    let nothing = measured(&[0.0; 4]);
    let outcome = judge(&expectation, &half, Some(&nothing)).unwrap();
    assert_eq!(outcome.verdict, Verdict::Inconclusive);
}

#[test]
fn the_ends_have_no_interval() {
    let mut expectation = expect(json!({ "at-most": 5.0 }));
    expectation.statistic = "most".into();
    let outcome = judge(&expectation, &measured(&[1.0, 2.0, 9.0]), None).unwrap();
    assert_eq!((outcome.value, outcome.interval), (Some(9.0), None));
    assert_eq!(outcome.verdict, Verdict::NotMet);
    expectation.statistic = "mean".into();
    let outcome = judge(&expectation, &measured(&[1.0, 2.0, 9.0]), None).unwrap();
    assert_eq!(
        (outcome.value, outcome.verdict),
        (Some(4.0), Verdict::Inconclusive)
    );
}

#[test]
fn a_mechanism_set_names_all_its_points() {
    let old = |wanted, id| is_named(wanted, id, "");
    assert!(old("all", "all") && old("all", "all-4") && old("all-4", "all-4"));
    assert!(!old("all", "allx") && !old("all-4", "all"));
    assert!(is_named("all", "all-4", "all") && !is_named("all", "all-ksm-4", "all-ksm"));
    let cell = |id: &str, count: u32| Cell {
        id: id.into(),
        point: [("guests.a.count".to_owned(), json!(count))].into(),
        ..Cell::default()
    };
    let cells = [cell("none-1", 1), cell("none-2", 2), cell("all-2", 2)];
    let found = counterpart("none", &cells[2], &cells).unwrap();
    assert_eq!(found.id, "none-2");
    assert_eq!(
        counterpart("none-1", &cells[2], &cells).unwrap().id,
        "none-1"
    );
}

fn swept(set: &str, count: u32, memory: &str) -> Cell {
    Cell {
        id: format!("{set}-{count}-{memory}"),
        set: set.into(),
        point: [
            ("guests.a.count".to_owned(), json!(count)),
            ("guests.a.memory".to_owned(), json!(memory)),
        ]
        .into(),
        ..Cell::default()
    }
}

/// The outcomes of a shape, each with its cells, where cells' runs are what `value` says.
fn shapes(
    bound: Value,
    cell: Option<&str>,
    cells: &[Cell],
    value: impl Fn(&Cell) -> Vec<f64>,
) -> Vec<(String, Verdict, Option<f64>)> {
    let claim = [Expectation {
        cell: cell.map(str::to_owned),
        ..expect(bound)
    }];
    let found = outcomes(&claim, cells, |cell, _| measured(&value(cell)));
    let told = found.into_iter().map(|found| {
        let outcome = found.outcome;
        (found.cells.join(" "), outcome.verdict, outcome.value)
    });
    told.collect()
}

#[test]
fn a_figure_rises_along_each_line_of_a_sweep() {
    let mut cells = Vec::new();
    for memory in ["8 MiB", "16 MiB"] {
        cells.extend([4, 1, 2].map(|count| swept("all", count, memory)));
    }
    cells.push(swept("none", 1, "8 MiB"));
    cells.push(swept("none", 2, "8 MiB"));
    let count = |cell: &Cell| cell.point["guests.a.count"].as_f64().unwrap();
    // Every repeat is another host; the steps are there in each.
    let rises = |cell: &Cell| {
        let level = 10.0 * count(cell);
        vec![level, level + 100.0, level + 200.0, level + 300.0]
    };
    let bound = json!({ "increases-with": "guests.a.count" });
    let found = shapes(bound.clone(), Some("all"), &cells, rises);
    let line = |memory| format!("all-1-{memory} all-2-{memory} all-4-{memory}");
    assert_eq!(
        found,
        [
            (line("8 MiB"), Verdict::Met, Some(10.0)),
            (line("16 MiB"), Verdict::Met, Some(10.0))
        ]
    );
    assert_eq!(shapes(bound.clone(), None, &cells, rises).len(), 3);

    // One step down spoils its line, not the other; the value is that step.
    let dented = |cell: &Cell| match cell.id.as_str() {
        "all-4-8 MiB" => vec![15.0, 115.0, 215.0, 315.0],
        _ => rises(cell),
    };
    let found = shapes(bound, Some("all"), &cells, dented);
    assert_eq!((found[0].1, found[0].2), (Verdict::NotMet, Some(-5.0)));
    assert_eq!(found[1].1, Verdict::Met);
    let falls = json!({ "decreases-with": "guests.a.count" });
    let found = shapes(falls, Some("none"), &cells, rises);
    assert_eq!((found[0].1, found[0].2), (Verdict::NotMet, Some(-10.0)));
}

#[test]
fn a_step_within_noise_is_inconclusive_and_no_step_is_none() {
    let cells = [1, 2].map(|count| swept("all", count, "8 MiB"));
    let of = |second: &'static [f64]| {
        let first: &[f64] = &[10.0, 10.0, 10.0, 10.0];
        let value = move |cell: &Cell| match cell.id.starts_with("all-1") {
            true => first.to_vec(),
            false => second.to_vec(),
        };
        let bound = json!({ "increases-with": "guests.a.count" });
        shapes(bound, None, &cells, value)[0].1
    };
    assert_eq!(of(&[11.0, 9.0, 12.0, 8.0]), Verdict::Inconclusive);
    assert_eq!(of(&[11.0, 12.0, 11.0, 12.0]), Verdict::Met);
    assert_eq!(of(&[10.0; 4]), Verdict::NotMet, "it does not rise");
    assert_eq!(of(&[]), Verdict::Inconclusive, "it was not measured");
    // One run can't be noise, and two must agree.
    assert_eq!(of(&[11.0]), Verdict::Met);
    assert_eq!(of(&[11.0, 9.0]), Verdict::Inconclusive);
}

#[test]
fn sets_are_ordered_at_every_point() {
    let cells = ["none", "zero", "all"].map(|set| [1, 2].map(|c| swept(set, c, "8 MiB")));
    let cells = cells.concat();
    let value = |cell: &Cell| {
        let level = match (cell.set.as_str(), cell.id.contains("-2-")) {
            ("none", _) => 30.0,
            ("zero", false) => 20.0,
            // At the second point it is no better than without.
            ("zero", true) => 30.0,
            _ => 10.0,
        };
        vec![level; 3]
    };
    let bound = json!({ "order": ["all", "zero", "none"] });
    let found = shapes(bound, None, &cells, value);
    let line = |count| format!("all-{count}-8 MiB zero-{count}-8 MiB none-{count}-8 MiB");
    assert_eq!(
        found,
        [
            (line(1), Verdict::Met, Some(10.0)),
            (line(2), Verdict::NotMet, Some(0.0))
        ]
    );
    // Of cells that are named one by one there is one order.
    let named = json!({ "order": [cells[4].id, cells[3].id] });
    assert_eq!(shapes(named, None, &cells, value).len(), 1);
}
