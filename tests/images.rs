//! `mirrorball image` from the outside: what is listed, and what is said of requests that nobody
//! could meet. A machine without apt or its lists says so and counts.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::Path;
use std::process::{Command, Output};

fn image(cache: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mirrorball"))
        .env("XDG_CACHE_HOME", cache)
        .arg("image")
        .args(words)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What lies in a folder, but for locks and apt's own files.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names
        .filter(|name| name != ".lock" && name != "apt")
        .collect()
}

#[test]
fn a_folders_image_is_made_and_listed() {
    let (cache, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let none = text(&image(cache.path(), &["list"]).stdout);
    assert_eq!(none.matches("  none\n").count(), 2, "{none}");
    std::fs::write(files.path().join("a"), "a line\n").unwrap();
    let made = image(cache.path(), &[files.path().to_str().unwrap()]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let listed = image(cache.path(), &["list", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let path = listed["disks"][0]["path"].as_str().unwrap();
    assert!(text(&made.stdout).contains(path), "{path}");
    assert_eq!(listed["linux"].as_array().unwrap().len(), 0);
}

#[test]
fn what_debian_does_not_have_is_refused_with_what_it_has() {
    let cache = tempfile::tempdir().unwrap();
    let told = |words: &[&str]| {
        let words = [&["linux", "--kernel", "6.12"], words].concat();
        let output = image(cache.path(), &words);
        (output.status.code(), text(&output.stderr))
    };
    let (code, said) = told(&["--version", "1.2.3"]);
    if code == Some(4) {
        eprintln!("NOT RUN (1): requests to apt: {said}");
        return;
    }
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("no version 1.2.3; there is 6.12."),
        "what there is was not told: {said}"
    );
    assert_eq!(names(&cache.path().join("mirrorball/debian")), [""; 0]);
    let (code, said) = told(&["--root", "/no/such/root.ext4"]);
    assert!(said.contains("/no/such/root.ext4"), "{said}");
    assert_eq!(code, Some(4), "{said}");
    let (code, _) = told(&["--root", "none", "--package", "make"]);
    assert_eq!(code, Some(2));
    assert_eq!(names(&cache.path().join("mirrorball/debian")), [""; 0]);
}
