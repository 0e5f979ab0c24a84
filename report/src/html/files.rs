//! Links to the files of a results folder.

use super::Part;

/// Files of a results folder, and what they are.
const FILES: [(&str, &str); 9] = [
    (
        "samples.csv",
        "the time series, every sample of the machine and of each VM",
    ),
    ("summary.json", "the figures of every cell"),
    (
        "run.json",
        "what was run, with what, on what, and every run's figures",
    ),
    ("experiment.yaml", "the experiment file as it was given"),
    ("table.txt", "the table that was printed"),
    ("histograms", "HdrHistogram logs, one for each cell and run"),
    ("consoles", "what guests printed"),
    ("commands", "what the commands of Linux guests printed"),
    ("README.txt", "what each file of the folder is"),
];

#[derive(Debug)]
pub(super) struct Link {
    pub(super) href: String,
    pub(super) label: String,
    pub(super) about: &'static str,
}

/// Tables that are made with the page, and what they are.
const TABLES: [(&str, &str); 4] = [
    (
        "runs.csv",
        "every figure of every run: one value in a row, base units",
    ),
    (
        "cells.csv",
        "every figure of every cell with intervals, mean and deviation",
    ),
    ("cells.md", "the table of all cells as Markdown"),
    ("cells.tex", "the same for LaTeX"),
];

/// Links to the tables.
pub(super) fn tables(part: &Part<'_>) -> Vec<Link> {
    let Some(folder) = &part.tables else {
        return Vec::new();
    };
    let table = |(name, about): &(&str, &'static str)| Link {
        href: address(&format!("{folder}{name}")),
        label: format!("tables/{name}"),
        about,
    };
    TABLES.iter().map(table).collect()
}

/// Links to the files of the results folder that are there.
pub(super) fn files(part: &Part<'_>) -> Vec<Link> {
    FILES
        .iter()
        .filter(|(name, _)| part.results.path.join(name).exists())
        .map(|(name, about)| Link {
            href: address(&format!("{}{name}", part.folder)),
            label: (*name).to_owned(),
            about,
        })
        .collect()
}

/// A path as a relative address: what has a meaning in addresses is escaped.
pub(super) fn address(path: &str) -> String {
    let mut address = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                address.push(char::from(byte));
            }
            other => address.push_str(&format!("%{other:02X}")),
        }
    }
    address
}
