use std::path::Path;

use super::*;

fn reference() -> Results {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/quick");
    Results::load(&path).unwrap()
}

#[test]
fn cells_of_one_session_are_paired_and_found_to_differ() {
    let results = reference();
    let comparison = compare((&results, Some("none")), (&results, Some("all"))).unwrap();
    assert!(comparison.paired);
    let figures = &comparison.cells[0].figures;
    let figure = |path: &str| figures.iter().find(|figure| figure.metric == path).unwrap();
    let memory = figure("memory.machine_used");
    assert_eq!(
        (memory.change.finding, memory.better),
        (Finding::Changed, Some(true))
    );
    assert_eq!(
        figure("memory.guest_physical").change.finding,
        Finding::Same
    );
    let text = render(&comparison);
    assert!(
        text.contains("changed beyond noise: machine memory (−") && text.contains(" MiB, −8"),
        "{text}"
    );
    assert!(text.contains("paired by repeat"), "{text}");
    let json = serde_json::to_value(&comparison).unwrap();
    assert_eq!(json["cells"][0]["figures"][0]["change"]["finding"], "same");
}

#[test]
fn results_against_themselves_do_not_differ() {
    let results = reference();
    let comparison = compare((&results, None), (&results, None)).unwrap();
    assert_eq!(comparison.cells.len(), results.summary.cells.len());
    let figures = comparison.cells.iter().flat_map(|cell| &cell.figures);
    for figure in figures {
        let same = matches!(figure.change.finding, Finding::Same | Finding::NoChange);
        assert!(same, "{figure:?}");
    }
    assert_eq!(comparison.stopped(0.0), []);
}

#[test]
fn a_worse_figure_is_a_regression() {
    let results = reference();
    let comparison = compare((&results, Some("all")), (&results, Some("none"))).unwrap();
    let stopped = comparison.stopped(100.0);
    let memory = |stopped: &Stopped<'_>| stopped.metric == "memory.machine_used";
    let memory = stopped.into_iter().find(memory).unwrap();
    assert_eq!((memory.cell, memory.gate), ("none", Gate::Regression));
}

#[test]
fn another_host_is_not_compared_unless_it_is_meant() {
    let (before, mut after) = (reference(), reference());
    after.path = "elsewhere".into();
    let host = &mut after.run.conditions["provenance"]["host"];
    host["kernel"] = "7.0.1".into();
    host["load"] = 3.0.into();
    after.run.conditions["provenance"]["binary_digest"] = "other".into();
    let comparison = compare((&before, None), (&after, None)).unwrap();
    let unlike = |allowed: &[&str]| {
        let allowed: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let found = comparison.unlike(&allowed).into_iter();
        found.map(|found| found.what.clone()).collect::<Vec<_>>()
    };
    assert_eq!(unlike(&[]), ["provenance.host.kernel"]);
    assert_eq!(unlike(&["provenance.host.ker"]), ["provenance.host.kernel"]);
    assert!(unlike(&["provenance.host.kernel"]).is_empty());
    assert!(unlike(&["provenance.host"]).is_empty());
    let text = unlike_text(comparison.unlike(&[]));
    assert!(text.contains("-> \"7.0.1\""), "{text}");
}

#[test]
fn what_was_only_tried_is_not_compared() {
    let (before, mut after) = (reference(), reference());
    after.summary.smoke = true;
    let error = compare((&before, None), (&after, None)).unwrap_err();
    assert!(matches!(error, ResultsError::Smoke { .. }), "{error}");
}

#[test]
fn several_results_stand_side_by_side() {
    // Results that stay as they are.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-1");
    let results = Results::load(&path).unwrap();
    let against = |cell| compare((&results, Some("none")), (&results, Some(cell))).unwrap();
    let text = render_many(&[against("none"), against("ksm")]);
    let memory = text.lines().find(|line| line.contains("machine memory"));
    let memory = memory.unwrap();
    for part in ["276.1", "33.4", "−242.", "0.121", "better"] {
        assert!(memory.contains(part), "{part} is missing: {memory}");
    }
}

#[test]
fn sides_are_read() {
    let side = |folder: &str, cell: Option<&str>| Side {
        folder: folder.into(),
        cell: cell.map(str::to_owned),
    };
    assert_eq!(Side::parse("a/b:all"), side("a/b", Some("all")));
    assert_eq!(Side::parse("a/b"), side("a/b", None));
    assert_eq!(Side::parse("/"), side("/", None));
}
