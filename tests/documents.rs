//! Documents name files that are there, and say of experiments what these say of themselves.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

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
