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
        text.contains("changed beyond noise: machine memory (−88"),
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
    assert!(comparison.regressions().is_empty());
}

#[test]
fn a_worse_figure_is_a_regression() {
    let results = reference();
    let comparison = compare((&results, Some("all")), (&results, Some("none"))).unwrap();
    let regressions = comparison.regressions();
    assert!(
        regressions.contains(&("none", "memory.machine_used")),
        "{regressions:?}"
    );
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
