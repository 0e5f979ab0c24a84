//! What the documents point to must exist: the files and functions of the walk-throughs in
//! `docs/architecture.md`, and the files and headings of links.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn walk_throughs_name_functions_that_exist() {
    let text = fs::read_to_string("docs/architecture.md").unwrap();
    let mut steps = 0;
    for line in text.lines() {
        let Some((file, function)) = step(line) else {
            continue;
        };
        steps += 1;
        let code = fs::read_to_string(file)
            .unwrap_or_else(|error| panic!("docs/architecture.md names {file}: {error}"));
        let defined = [format!("fn {function}("), format!("fn {function}<")];
        assert!(
            defined.iter().any(|definition| code.contains(definition)),
            "docs/architecture.md names `{function}` in {file}, which has no such function"
        );
    }
    assert!(
        steps > 30,
        "only {steps} steps were found: has the form of the list changed?"
    );
}

/// The file and function of a line "- `file`: `function`".
fn step(line: &str) -> Option<(&str, &str)> {
    let rest = line.trim().strip_prefix("- `")?;
    let (file, rest) = rest.split_once("`: `")?;
    Some((file, rest.strip_suffix('`')?))
}

#[test]
fn links_lead_somewhere() {
    let mut documents = Vec::new();
    for folder in [".", "docs", "results/reference", "experiments/reference"] {
        documents_below(Path::new(folder), folder != ".", &mut documents);
    }
    let (mut links, mut broken) = (0, Vec::new());
    for document in &documents {
        let text = fs::read_to_string(document).unwrap();
        let targets = text.split("](").skip(1);
        let targets = targets
            .filter_map(|rest| rest.split_once(')'))
            .map(|(target, _)| target);
        for target in targets.filter(|target| !target.contains(':')) {
            links += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => document.clone(),
                file => document.parent().unwrap().join(file),
            };
            let there = match heading {
                "" => path.exists(),
                heading => fs::read_to_string(&path).is_ok_and(|text| has_heading(&text, heading)),
            };
            if !there {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(links > 100, "only {links} links were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn documents_below(folder: &Path, deep: bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && deep {
            documents_below(&path, deep, found);
        } else if path.extension().is_some_and(|kind| kind == "md") {
            found.push(path);
        }
    }
}

/// Whether there is a heading that browsers know by that name: in small letters, a dash for a space,
/// and nothing else that is no letter or digit.
fn has_heading(text: &str, name: &str) -> bool {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let known = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-") == name
    };
    headings.into_iter().any(known)
}
