use std::path::PathBuf;

use super::*;

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/quick")
}

fn problems(entries: &Entries) -> Vec<(String, Vec<String>)> {
    let place = tempfile::tempdir().unwrap();
    let checks = check(entries, place.path()).unwrap().into_iter();
    checks
        .filter(|check| !check.problems.is_empty())
        .map(|check| (check.what, check.problems))
        .collect()
}

#[test]
fn a_package_is_whole_and_the_same_each_time() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = place.path().join(name);
        write(&path, "quick", &collect(&reference()).unwrap()).unwrap();
        path
    };
    let (one, two) = (file("one.tar.gz"), file("two.tar.gz"));
    assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
    let entries = read(&one).unwrap();
    for name in [
        MANIFEST,
        DESCRIPTION,
        "report.html",
        "tables/cells.csv",
        "experiment.yaml",
    ] {
        assert!(entries.contains_key(name), "{name}");
    }
    let found = problems(&entries);
    assert!(found.is_empty(), "{found:?}");
    let about: Value = serde_json::from_slice(&entries[DESCRIPTION]).unwrap();
    assert!(about["images"]["sources"]["sha256"].is_string(), "{about}");
    assert!(about["images"]["sources"]["recipe"].is_object(), "{about}");
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let whole = collect(&reference()).unwrap();
    for name in whole.keys() {
        let mut entries = whole.clone();
        let bytes = entries.get_mut(name).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        assert!(!check::digests(&entries).is_empty(), "{name}");
    }
}

#[test]
fn a_result_that_was_embellished_is_found_though_its_digests_are_right() {
    let mut entries = collect(&reference()).unwrap();
    let text = String::from_utf8(entries["summary.json"].clone()).unwrap();
    let mut summary: Value = serde_json::from_str(&text).unwrap();
    summary["cells"][4]["memory"]["machine_used"] = json!(1_000_000);
    entries.insert("summary.json".into(), summary.to_string().into_bytes());
    let told = String::from_utf8(entries["table.txt"].clone()).unwrap();
    entries.insert(
        "table.txt".into(),
        told.replacen("33.0 |", "0.90 |", 1).into_bytes(),
    );
    let manifest = manifest(&entries);
    entries.insert(MANIFEST.into(), manifest.into_bytes());
    let found = problems(&entries);
    let what: Vec<&str> = found.iter().map(|(what, _)| what.as_str()).collect();
    assert!(what.contains(&"medians of the runs"), "{found:?}");
    assert!(what.contains(&"the printed table"), "{found:?}");
    assert!(!what.contains(&"digests"), "{found:?}");
}

#[test]
fn an_extra_file_is_found() {
    let mut entries = collect(&reference()).unwrap();
    entries.insert("notes.txt".into(), b"x".to_vec());
    let found = problems(&entries);
    assert!(
        found
            .iter()
            .any(|(_, all)| all.iter().any(|p| p.contains("notes.txt"))),
        "{found:?}"
    );
}
