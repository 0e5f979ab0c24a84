use super::*;

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../results/reference")
        .join(name)
}

#[test]
fn a_stored_result_is_read_with_all_its_runs() {
    let results = Results::load(&reference("quick")).unwrap();
    let all = results.cell("all").unwrap();
    let times = results.values(all, "workload.seconds");
    assert_eq!(
        times.iter().map(|(run, _)| *run).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    let base = results.baseline(all).unwrap();
    assert_eq!(base.id, "none");
    assert_eq!(results.pairs(base, all, "workload.seconds").len(), 3);
    assert!(results.baseline(base).is_none());
}

#[test]
fn a_cell_that_is_not_there_is_named_with_those_that_are() {
    let results = Results::load(&reference("quick")).unwrap();
    let error = results.cell("al").unwrap_err().to_string();
    assert!(
        error.contains("no cell al") && error.contains("none, disk"),
        "{error}"
    );
}

#[test]
fn a_summary_alone_is_one_observation() {
    let results = Results::load(&reference("hostile")).unwrap();
    let cell = &results.summary.cells[0];
    assert!(results.run.runs.is_empty() && results.samples.is_empty());
    assert_eq!(results.values(cell, "memory.touched").len(), 1);
}

#[test]
fn what_earlier_versions_wrote_stays_readable() {
    // As the first version wrote it. When the format changes this stays as it is.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-1");
    let results = Results::load(&path).unwrap();
    let ksm = results.cell("ksm").unwrap();
    assert_eq!(results.values(ksm, "by_mechanism.ksm").len(), 3);
    assert_eq!(results.values(ksm, "ksm.net_saved").len(), 3);
    for entry in fs::read_dir(reference("")).unwrap() {
        let path = entry.unwrap().path();
        if path.join("summary.json").exists() {
            let results = Results::load(&path).unwrap();
            assert!(!results.summary.cells.is_empty(), "{}", path.display());
        }
    }
}

#[test]
fn samples_inside_a_run_are_not_pooled() {
    let mut results = Results::load(&reference("quick")).unwrap();
    let known = |results: &Results| {
        let cell = results.cell("all").unwrap();
        let values = results.values(cell, "memory.machine_used");
        let values: Vec<f64> = values.into_iter().map(|(_, value)| value).collect();
        crate::stats::estimate(&values).unwrap()
    };
    let three = known(&results);
    assert_eq!((three.runs, three.interval.is_some()), (3, true));
    // A thousand samples of each run, which all but repeat each other.
    results.samples = (0..3000)
        .map(|index| Sample {
            cell: "all".into(),
            run: index / 1000 + 1,
            vm: MACHINE.into(),
            private_bytes: 30 << 20,
            ..Sample::default()
        })
        .collect();
    assert_eq!(known(&results), three);
}

#[test]
fn what_is_no_result_is_told() {
    let place = tempfile::tempdir().unwrap();
    let error = Results::load(place.path()).unwrap_err().to_string();
    assert!(
        error.contains("summary.json") && error.contains("mirrorball run"),
        "{error}"
    );
    fs::write(place.path().join("summary.json"), "{").unwrap();
    let error = Results::load(place.path()).unwrap_err();
    assert!(matches!(error, ResultsError::Damaged { .. }), "{error}");
    let text = fs::read_to_string(reference("quick").join("summary.json")).unwrap();
    let newer = text.replacen("\"schema_version\": 1", "\"schema_version\": 99", 1);
    fs::write(place.path().join("summary.json"), newer).unwrap();
    let error = Results::load(place.path()).unwrap_err();
    assert!(
        matches!(error, ResultsError::Newer { found: 99, .. }),
        "{error}"
    );
}

#[test]
fn the_baseline_is_at_the_same_point_or_not_swept() {
    let cell = |id: &str, mechanisms: &[&str], point: &[(&str, u32)]| Cell {
        id: id.into(),
        mechanisms: mechanisms.iter().map(|&name| name.to_owned()).collect(),
        point: point
            .iter()
            .map(|(field, value)| ((*field).to_owned(), (*value).into()))
            .collect(),
        guests: 2,
        ..Cell::default()
    };
    let (slow, fast) = (&[("scanner.settle", 4)][..], &[("scanner.settle", 1)][..]);
    let mut results = Results::load(&reference("quick")).unwrap();
    let base = |results: &Results, id: &str| {
        let base = results.baseline(results.cell(id).unwrap());
        base.map(|base| base.id.clone())
    };
    results.summary.cells = vec![
        cell("none-4", &[], slow),
        cell("none-1", &[], fast),
        cell("zero-1", &["zero"], fast),
    ];
    assert_eq!(base(&results, "zero-1").as_deref(), Some("none-1"));
    assert_eq!(base(&results, "none-1"), None);
    results.summary.cells = vec![cell("none", &[], &[]), cell("zero-1", &["zero"], fast)];
    assert_eq!(base(&results, "zero-1").as_deref(), Some("none"));
    results.summary.cells = vec![cell("none-4", &[], slow), cell("zero-1", &["zero"], fast)];
    assert_eq!(
        base(&results, "zero-1"),
        None,
        "another point is no baseline"
    );
}
