//! What editors and readers are given of the format is what the reader reads by.
//!
//! After a wanted change, `MIRRORBALL_BLESS=1 cargo test -p mirrorball-experiments --test schema`
//! writes both files anew.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

#[path = "../../report/tests/valid/mod.rs"]
#[allow(clippy::expect_used, reason = "helpers of tests may panic")]
mod valid;

use std::fs;
use std::path::{Path, PathBuf};

use mirrorball_experiments::{list, spec};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn check_current(file: &str, wanted: &str) {
    let path = repository().join(file);
    if std::env::var_os("MIRRORBALL_BLESS").is_some() {
        fs::write(&path, wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{file} is not current: MIRRORBALL_BLESS=1 cargo test -p mirrorball-experiments --test schema"
    );
}

#[test]
fn the_schema_of_the_repository_is_current() {
    let schema = serde_json::to_string_pretty(&spec::schema()).unwrap();
    check_current("experiments/schema.json", &format!("{schema}\n"));
}

#[test]
fn the_reference_of_all_fields_is_current() {
    check_current("docs/fields.md", &spec::reference());
}

#[test]
fn every_experiment_names_the_schema_for_editors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in list::experiments(folder).unwrap() {
        let text = fs::read_to_string(&entry.file).unwrap();
        let first = text.lines().next().unwrap();
        let path = first.strip_prefix("# yaml-language-server: $schema=");
        let path = path.unwrap_or_else(|| panic!("{}: {first}", entry.file.display()));
        let schema = entry.file.parent().unwrap().join(path);
        assert_eq!(
            schema.canonicalize().unwrap(),
            folder.join("schema.json").canonicalize().unwrap()
        );
    }
}

/// What an editor makes of a file: `on` is a word in YAML 1.2.
fn document(text: &str) -> serde_json::Value {
    let options = serde_yaml::options! { strict_booleans: true };
    serde_yaml::from_str_with_options(text, options).unwrap()
}

#[test]
fn every_experiment_is_as_the_schema_says_and_none_is_with_an_unknown_key() {
    let (schema, folder) = (spec::schema(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let mut files = 0;
    for entry in list::experiments(folder).unwrap() {
        let name = entry.file.display();
        let mut document = document(&fs::read_to_string(&entry.file).unwrap());
        assert_eq!(
            valid::faults(&schema, &document),
            Vec::<String>::new(),
            "{name}"
        );
        for place in ["", "/machine", "/guests/0"] {
            let map = document
                .pointer_mut(place)
                .unwrap()
                .as_object_mut()
                .unwrap();
            map.insert("colour".to_owned(), "red".into());
            assert!(
                !valid::faults(&schema, &document).is_empty(),
                "{name}: {place}.colour"
            );
            let map = document
                .pointer_mut(place)
                .unwrap()
                .as_object_mut()
                .unwrap();
            map.remove("colour");
        }
        files += 1;
    }
    assert!(files > 15, "{files}");
}

#[test]
fn what_the_schema_refuses_the_reader_refuses() {
    let schema = spec::schema();
    let good = "version: 1\nname: x\nmachine: { memory: 1 GiB }\nguests:\n  \
                - { id: a, count: 1, memory: 32 MiB, workload: { name: touch } }\n";
    assert_eq!(
        valid::faults(&schema, &document(good)),
        Vec::<String>::new()
    );
    for (from, to) in [
        ("version: 1", "version: one"),
        ("count: 1", "count: -1"),
        ("name: touch", "name: tuoch"),
        ("memory: 32 MiB, ", ""),
        ("count: 1", "count: 1, shares: 0"),
        ("guests:", "timeline: [{ at: 1 s }]\nguests:"),
        (
            "guests:",
            "timeline: [{ at: 1 s, mark: a, enable: zero }]\nguests:",
        ),
    ] {
        let bad = good.replacen(from, to, 1);
        assert!(!valid::faults(&schema, &document(&bad)).is_empty(), "{bad}");
        let host = spec::HostFacts {
            memory: 1 << 40,
            results: None,
        };
        let read = spec::check_text("x.yaml", bad.clone(), Path::new("."), &host);
        assert!(read.is_err(), "{bad}");
    }
}
