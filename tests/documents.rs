//! Documents name files that are there, and say of experiments what these say of themselves.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every Markdown file of a folder and below.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "runs" {
            found.extend(documents(&path));
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
    found
}

#[test]
fn links_lead_somewhere() {
    let documents = documents(Path::new("."));
    assert!(documents.len() > 25, "only {} were found", documents.len());
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#', ' ']).next().unwrap();
            if link.is_empty() || link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let target = document.parent().unwrap().join(link);
            assert!(target.exists(), "{}: {link}", document.display());
        }
    }
}

#[test]
fn the_artifact_appendix_states_the_experiments_own_estimates() {
    let text = fs::read_to_string("ARTIFACT.md").unwrap();
    let mut rows = 0;
    for row in text.lines().filter(|line| line.starts_with("| E")) {
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        let Some(file) = columns[2]
            .split(['`', ' '])
            .find(|word| word.ends_with(".yaml"))
        else {
            continue;
        };
        rows += 1;
        let experiment = fs::read_to_string(file).unwrap();
        let mut lines = experiment.lines();
        let estimate = lines.find_map(|line| line.strip_prefix("estimate: {"));
        let estimate = estimate.unwrap().trim_end_matches('}');
        for (name, stated) in [
            ("time", columns[3]),
            ("memory", columns[4]),
            ("disk", columns[5]),
        ] {
            let own = estimate.split(',').find_map(|part| {
                let (key, value) = part.split_once(':')?;
                (key.trim() == name).then(|| value.trim())
            });
            assert_eq!(own.unwrap_or_default(), stated, "{file}: {name}");
        }
    }
    assert!(rows >= 6, "only {rows} experiments");
}

#[test]
fn every_figure_that_is_made_again_has_a_page_and_its_values() {
    for entry in fs::read_dir("experiments/reference").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "csv") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let page = fs::read_to_string(format!("docs/figures/{name}.md")).unwrap();
        for part in [
            "What the paper did",
            "What we do",
            "Both sets of numbers",
            "What differs, and why",
            ".png)",
        ] {
            assert!(page.contains(part), "docs/figures/{name}.md: {part}");
        }
        let index = fs::read_to_string("docs/figures/README.md").unwrap();
        assert!(index.contains(&format!("({name}.md)")), "{name}");
    }
}

fn printed(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mirrorball"));
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Completions and manual pages in `share/` are those of the command line as it is. After a wanted change,
/// `MIRRORBALL_BLESS=1 cargo test --test documents` writes them anew.
#[test]
fn completions_and_manual_pages_are_current() {
    let made = tempfile::tempdir().unwrap();
    let (completions, pages) = (made.path().join("completions"), made.path().join("man"));
    fs::create_dir(&completions).unwrap();
    for (shell, file) in [
        ("bash", "mirrorball.bash"),
        ("zsh", "_mirrorball"),
        ("fish", "mirrorball.fish"),
    ] {
        fs::write(completions.join(file), printed(&["completions", shell])).unwrap();
    }
    printed(&["man", pages.to_str().unwrap()]);
    for folder in ["completions", "man"] {
        let (made, kept) = (made.path().join(folder), Path::new("share").join(folder));
        if std::env::var_os("MIRRORBALL_BLESS").is_some() {
            let _ = fs::remove_dir_all(&kept);
            fs::create_dir_all(&kept).unwrap();
            for file in names(&made) {
                fs::copy(made.join(&file), kept.join(&file)).unwrap();
            }
        }
        assert_eq!(names(&made), names(&kept), "{folder}");
        for file in names(&made) {
            let read = |folder: &Path| fs::read_to_string(folder.join(&file)).unwrap();
            let current = read(&made) == read(&kept);
            assert!(
                current,
                "{file}: MIRRORBALL_BLESS=1 cargo test --test documents"
            );
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Code that documents name is where they say.
#[test]
fn code_that_is_named_is_there() {
    let crates = [
        "dedup",
        "experiments",
        "guest",
        "host",
        "live",
        "monitor",
        "pmap",
        "policy",
        "report",
        "src",
        "tests",
        "virtio",
        "vnet",
        "xtask",
    ];
    let mut named = 0;
    for document in documents(Path::new(".")) {
        let text = fs::read_to_string(&document).unwrap();
        for word in text.split('`').skip(1).step_by(2) {
            let inside = crates.iter().any(|folder| {
                word.strip_prefix(folder)
                    .is_some_and(|rest| rest.starts_with('/'))
            });
            let plain = word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            let is_code = [".rs", ".yaml", ".json", "/"]
                .iter()
                .any(|end| word.ends_with(end));
            if inside && plain && is_code {
                assert!(Path::new(word).exists(), "{}: `{word}`", document.display());
                named += 1;
            }
        }
    }
    assert!(named > 100, "{named}");
}
