//! Two of Heiser's benchmarking crimes that this crate must not be able to commit: a relative number
//! without the absolute one beside it, and a mean of ratios.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use mirrorball_report::compare::{compare, render, render_many};
use mirrorball_report::html::{Placing, write};
use mirrorball_report::results::Results;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The oldest result that is still read: it does not change.
fn stored() -> Results {
    Results::load(&here("tests/fixtures/version-1")).unwrap()
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
            found.push((path, code));
        }
    }
    found
}

#[test]
fn a_run_is_divided_by_its_baseline_in_one_place_which_knows_no_mean() {
    let sources = sources(&here("src"));
    assert!(sources.len() > 40, "{}", sources.len());
    for (path, code) in sources {
        let name = path.display();
        if path.ends_with("stats/ratios.rs") {
            let code = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            let means = code.filter(|line| line.contains("mean") || line.contains("sum"));
            assert_eq!(means.collect::<Vec<_>>(), Vec::<&str>::new(), "{name}");
        } else {
            assert!(!code.contains("/ pair.base"), "{name}: use `stats::Ratios`");
            // An estimate holds a mean: of ratios there must be none.
            assert!(
                !code.contains("estimate(&ratios"),
                "{name}: use `stats::Ratios`"
            );
        }
    }
}

#[test]
fn no_table_of_the_page_has_a_ratio_without_a_difference_before_it() {
    let place = tempfile::tempdir().unwrap();
    let written = write(&[stored()], place.path(), Placing::default()).unwrap();
    let page = fs::read_to_string(&written.page).unwrap();
    let heads: Vec<&str> = page.split("<th scope=\"col\">").skip(1).collect();
    let heads = heads.iter().map(|head| head.split('<').next().unwrap());
    let heads: Vec<&str> = heads.collect();
    let mut ratios = 0;
    for pair in heads.windows(2).filter(|pair| pair[1].contains("ratio")) {
        assert_eq!(pair[0], "difference");
        ratios += 1;
    }
    assert!(ratios > 0, "the table of costs is gone: {heads:?}");
}

#[test]
fn no_file_has_a_ratio_without_the_figures_that_it_is_of() {
    let place = tempfile::tempdir().unwrap();
    write(&[stored()], place.path(), Placing::default()).unwrap();
    let mut ratios = 0;
    for folder in ["figures", "tables"] {
        for entry in fs::read_dir(place.path().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|ending| ending != "csv") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let head: Vec<&str> = text.lines().next().unwrap().split(',').collect();
            if head.contains(&"ratio") {
                ratios += 1;
                let sized = head.iter().any(|column| column.contains("(s)"));
                assert!(sized && head.contains(&"baseline (s)"), "{head:?}");
            }
        }
    }
    assert!(ratios > 0, "no figure of ratios was made");
}

#[test]
fn a_comparison_tells_sizes_with_its_percentages() {
    let stored = stored();
    let found = compare((&stored, Some("none")), (&stored, Some("ksm"))).unwrap();
    for text in [render(&found), render_many(&[found.clone(), found])] {
        for line in text
            .lines()
            .filter(|line| line.contains("machine memory") && line.starts_with('|'))
        {
            assert!(
                line.matches("276.").count() >= 1,
                "before is missing: {line}"
            );
        }
        for part in text.split(" (").skip(1) {
            let part = part.split(')').next().unwrap();
            let relative = part.contains('%') && (part.starts_with('+') || part.starts_with('−'));
            assert!(
                !relative || part.contains(", "),
                "a percentage alone: {part}"
            );
        }
    }
}
