use std::path::PathBuf;

use super::*;

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/quick")
}

/// A package of it, made once: its figures take a while.
fn package() -> Entries {
    static PACKAGE: std::sync::LazyLock<Entries> =
        std::sync::LazyLock::new(|| collect(&reference()).unwrap());
    PACKAGE.clone()
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
    let whole = package();
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
    let mut entries = package();
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
fn a_package_without_names_names_nobody_and_is_sound() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| fs::read_to_string(reference().join(name)).unwrap();
    for name in ["summary.json", "table.txt"] {
        fs::write(place.path().join(name), file(name)).unwrap();
    }
    let told = "/home/alice/x/mirrorball";
    let mut run: serde_json::Value = serde_json::from_str(&file("run.json")).unwrap();
    run["provenance"]["command_line"][0] = told.into();
    fs::write(place.path().join("run.json"), run.to_string()).unwrap();
    let spec = format!("# by alice@lab.example\n{}", file("experiment.yaml"));
    fs::write(place.path().join("experiment.yaml"), spec).unwrap();
    fs::create_dir(place.path().join("consoles")).unwrap();
    let console = "host vega7 has 10.20.30.40 and 52:54:00:ab:cd:ef\n";
    fs::write(place.path().join("consoles/all-run1.log"), console).unwrap();
    let commit = Results::load(place.path()).unwrap().run.provenance["commit"]["id"].clone();
    let names = Names::new(["vega7", "alice"]);
    let entries = collect_anonymous(place.path(), &names).unwrap();
    let words = [
        "alice",
        "vega7",
        "lab.example",
        "10.20.30.40",
        "52:54",
        "/home/",
    ];
    for (name, bytes) in &entries {
        let text = String::from_utf8_lossy(bytes);
        for word in words.into_iter().chain(commit.as_str()) {
            assert!(!text.contains(word), "{name} names {word}");
        }
    }
    let found = problems(&entries);
    assert!(found.is_empty(), "{found:?}");
    assert!(entries.contains_key("report.html"));
}

#[test]
fn an_extra_file_is_found() {
    let mut entries = package();
    entries.insert("notes.txt".into(), b"x".to_vec());
    let found = problems(&entries);
    assert!(
        found
            .iter()
            .any(|(_, all)| all.iter().any(|p| p.contains("notes.txt"))),
        "{found:?}"
    );
}
