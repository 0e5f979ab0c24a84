//! The schemas of results, held to results.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![allow(clippy::expect_used, reason = "a test that can't go on has failed")]

mod valid;

use std::fs;
use std::path::{Path, PathBuf};

use mirrorball_report::schema;
use serde_json::{Value, json};

fn json_of(path: &Path) -> Option<Value> {
    let text = fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

/// Stored results: those of the repository, and the oldest that is still read.
fn results() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stored = fs::read_dir(here.join("../results/reference")).unwrap();
    let mut folders: Vec<PathBuf> = stored.map(|entry| entry.unwrap().path()).collect();
    folders.push(here.join("tests/fixtures/version-1"));
    folders.retain(|folder| folder.join("summary.json").exists());
    folders
}

#[test]
fn stored_results_are_as_the_schemas_say() {
    let folders = results();
    assert!(folders.len() > 3, "{folders:?}");
    for folder in folders {
        for (file, schema) in [
            ("summary.json", schema::summary()),
            ("run.json", schema::run()),
        ] {
            if let Some(value) = json_of(&folder.join(file)) {
                let faults = valid::faults(&schema, &value);
                let shown = &faults[..faults.len().min(5)];
                assert!(faults.is_empty(), "{}/{file}: {shown:#?}", folder.display());
            }
        }
    }
}

#[test]
fn what_is_not_a_result_is_told() {
    let folder = results().remove(0);
    let good = json_of(&folder.join("summary.json")).unwrap();
    let faults = |change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        valid::faults(&schema::summary(), &changed)
    };
    assert_eq!(faults(&|_| {}), Vec::<String>::new());
    let mut wrong = faults(&|summary| summary["verdict"] = json!("fine"));
    wrong.extend(faults(&|summary| {
        summary["cells"][0]["memory"]["shared"] = json!("2 MiB")
    }));
    wrong.extend(faults(&|summary| summary["cells"][0]["guests"] = json!(-1)));
    wrong.extend(faults(&|summary| summary["schema_version"] = json!(99)));
    wrong.extend(faults(&|summary| {
        summary.as_object_mut().unwrap().remove("causes");
    }));
    assert_eq!(wrong.len(), 5, "{wrong:#?}");
}
