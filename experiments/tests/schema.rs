//! What editors and readers are given of the format is what the reader reads by.
//!
//! After a wanted change, `MIRRORBALL_BLESS=1 cargo test -p mirrorball-experiments --test schema`
//! writes both files anew.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

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
