//! The page as a whole, of results that are in the repository.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use mirrorball_report::html::{Placing, write};
use mirrorball_report::results::Results;
use mirrorball_report::summary::{Failure, Figures};

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../results/reference")
        .join(name)
}

fn page_of(names: &[&str]) -> (tempfile::TempDir, String) {
    let place = tempfile::tempdir().unwrap();
    let all: Vec<Results> = names
        .iter()
        .map(|name| Results::load(&reference(name)).unwrap())
        .collect();
    let written = write(&all, place.path(), Placing::default()).unwrap();
    let html = fs::read_to_string(&written.page).unwrap();
    assert_eq!(written.bytes, html.len() as u64);
    for figure in &written.figures {
        for ending in ["svg", "png", "csv", "tex"] {
            let file = format!("{}.{ending}", figure.display());
            assert!(fs::metadata(&file).unwrap().len() > 0, "{file}");
        }
    }
    (place, html)
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let (_place, html) = page_of(&["quick"]);
    for outside in [
        "http://",
        "https://",
        "<script",
        "@import",
        "url(//",
        "<img",
        "<link rel=\"style",
    ] {
        let allowed = "http://www.w3.org/2000/svg";
        let rest = html.replace(allowed, "");
        assert!(!rest.contains(outside), "{outside}");
    }
    assert!(html.contains("Content-Security-Policy"));
    assert!(html.contains("default-src 'none'"));
    for attribute in [
        " src=\"",
        " href=\"",
        " srcset=\"",
        " action=\"",
        " data=\"",
    ] {
        for place in html.split(attribute).skip(1) {
            let place = place.split('"').next().unwrap();
            let scheme = place.split(['/', '#', '?']).next().unwrap().contains(':');
            assert!(!scheme || place == "data:,", "{attribute}{place}");
            assert!(!place.starts_with('/'), "{attribute}{place}");
        }
    }
    assert!(html.len() < 2 << 20);
}

#[test]
fn every_figure_has_title_legend_caption_and_source() {
    let (_place, html) = page_of(&["quick"]);
    let figures: Vec<&str> = html.split("<figure ").skip(1).collect();
    assert!(figures.len() >= 3, "{}", figures.len());
    for figure in figures {
        for part in [
            "<h3>",
            "class=\"keys\"><li>",
            "<figcaption><p>",
            "Source: ",
            "<svg viewBox",
        ] {
            assert!(figure.contains(part), "{part} is missing in {figure:.200}");
        }
    }
}

#[test]
fn the_same_results_make_the_same_bytes() {
    let (first, html) = page_of(&["quick"]);
    let (second, again) = page_of(&["quick"]);
    // Links to the results differ with the page's place.
    let links = |html: &str| html.split("-files\">").next().map(str::to_owned);
    assert_eq!(links(&html), links(&again));
    let svg = |place: &tempfile::TempDir| fs::read(place.path().join("figures/costs.svg")).unwrap();
    assert_eq!(svg(&first), svg(&second));
}

#[test]
fn tables_and_distributions_lie_beside_the_page() {
    let (place, html) = page_of(&["quick"]);
    for name in ["runs.csv", "cells.csv", "cells.md", "cells.tex"] {
        assert!(place.path().join("tables").join(name).exists(), "{name}");
        assert!(html.contains(&format!("href=\"tables/{name}\"")), "{name}");
    }
    let figures = fs::read_dir(place.path().join("figures")).unwrap();
    for file in figures.map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|ending| ending == "csv") {
            let rows = csv::ReaderBuilder::new().from_path(&file).unwrap();
            let columns = rows.into_records().map(|row| row.unwrap().len());
            assert!(columns.max().unwrap() > 1, "{}", file.display());
        }
    }
}

#[test]
fn what_could_not_be_measured_is_said_and_is_no_zero() {
    // KSM without root: the runner was not allowed to switch it on.
    let place = tempfile::tempdir().unwrap();
    let mut results = Results::load(&reference("quick")).unwrap();
    let cells = &mut results.summary.cells;
    let ksm = cells.iter_mut().find(|cell| cell.id == "ksm").unwrap();
    ksm.figures = Figures::default();
    ksm.runs = 0;
    ksm.failures = vec![Failure {
        run: 1,
        class: "not-supported".into(),
        cause: "KSM needs root".into(),
    }];
    results.run.runs.retain(|run| run.cell != "ksm");
    let written = write(&[results], place.path(), Placing::default()).unwrap();
    let html = fs::read_to_string(&written.page).unwrap();
    assert!(html.contains("not supported here"));
    assert!(html.contains("ksm run 1: not-supported: KSM needs root"));
    let markdown = fs::read_to_string(place.path().join("tables/cells.md")).unwrap();
    let memory = markdown
        .lines()
        .find(|line| line.contains("machine memory"))
        .unwrap();
    assert!(memory.ends_with("| n/a |"), "{memory}");
    let runs = fs::read_to_string(place.path().join("tables/runs.csv")).unwrap();
    assert!(!runs.lines().any(|line| line.starts_with("ksm,")));
}

#[test]
fn a_page_alone_names_no_files_that_are_not_there() {
    let place = tempfile::tempdir().unwrap();
    let results = Results::load(&reference("quick")).unwrap();
    let alone = Placing {
        beside: true,
        page_only: true,
    };
    let written = write(&[results], place.path(), alone).unwrap();
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    let html = fs::read_to_string(&written.page).unwrap();
    for link in html.split(" href=\"").skip(1) {
        let file = link.split('"').next().unwrap();
        let there = file.starts_with('#') || reference("quick").join(file).exists();
        assert!(there || file == "data:,", "{file} is not there");
    }
}

#[test]
fn several_results_share_a_page_and_no_names() {
    let (place, html) = page_of(&["quick", "scale"]);
    assert!(html.contains("id=\"e1\"") && html.contains("id=\"e2\""));
    assert!(place.path().join("figures/1-quick-costs.svg").exists());
    let mut ids: Vec<&str> = html
        .split(" id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id is in the page twice");
}
