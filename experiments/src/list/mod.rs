//! The experiments of a folder, each in one line: what `mirrorball list` shows; and lists of what
//! experiments are made of.

pub mod templates;
pub mod words;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::spec::{self, HostFacts};

/// An experiment file.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// The file.
    pub file: PathBuf,
    /// Whether it can be run as it is.
    pub valid: bool,
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub purpose: Option<String>,
    /// How long it takes, seconds, by its own estimate.
    pub seconds: Option<f64>,
    /// Machine memory that it takes, bytes, by its own estimate.
    pub memory_bytes: Option<u64>,
    /// Its cells.
    pub cells: Vec<String>,
    /// Whether it has Linux guests, which need a hardware KVM or an emulated host.
    pub linux: bool,
}

/// All experiment files below a folder, by path.
///
/// # Errors
/// The folder can't be read.
pub fn experiments(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut files = Vec::new();
    find(folder, &mut files)?;
    files.sort();
    Ok(files.iter().map(|file| entry(file)).collect())
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        let name = entry.file_name();
        // `tests` holds files that are broken on purpose.
        if kind.is_dir()
            && !["tests", "target", "src"]
                .iter()
                .any(|other| name == **other)
        {
            find(&path, files)?;
        } else if kind.is_file() && path.extension().is_some_and(|kind| kind == "yaml") {
            files.push(path);
        }
    }
    Ok(())
}

fn entry(file: &Path) -> Entry {
    let host = HostFacts {
        memory: u64::MAX,
        results: Some(std::env::temp_dir()),
    };
    let loaded = spec::load(file, None, &[], &host).ok();
    let experiment = loaded.as_ref().map(|loaded| &loaded.experiment);
    let estimate = experiment.and_then(|e| e.estimate.as_ref());
    let purpose = |e: &spec::Experiment| e.title.clone().or_else(|| e.question.clone());
    Entry {
        file: file.to_owned(),
        valid: experiment.is_some(),
        name: experiment.map(|e| e.name.clone()),
        purpose: experiment.and_then(purpose),
        seconds: estimate.and_then(|e| Some(e.time?.0.as_secs_f64())),
        memory_bytes: estimate.and_then(|e| Some(e.memory?.0)),
        cells: experiment.map_or_else(Vec::new, |e| {
            e.matrix.iter().map(|set| set.id.clone()).collect()
        }),
        linux: experiment.is_some_and(spec::Experiment::has_linux_guests),
    }
}

/// For people.
#[must_use]
pub fn text(entries: &[Entry]) -> String {
    let width = entries
        .iter()
        .map(|entry| entry.file.display().to_string().len());
    let width = width.max().unwrap_or(0);
    let mut out = String::new();
    for entry in entries {
        let file = entry.file.display().to_string();
        let purpose = match (&entry.purpose, entry.valid) {
            (Some(purpose), _) => purpose.as_str(),
            (None, true) => "says nothing of its purpose",
            (None, false) => "not valid; see `mirrorball validate`",
        };
        let linux = if entry.linux { " (Linux guests)" } else { "" };
        let _ = writeln!(
            out,
            "{file:width$}  {:>7}  {purpose}{linux}",
            time(entry.seconds)
        );
    }
    out
}

fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "n/a".to_owned(),
        Some(seconds) if seconds < 120.0 => format!("{seconds:.0} s"),
        Some(seconds) => format!("{:.0} min", seconds / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experiments_are_found_with_what_they_say_of_themselves() {
        let entries = experiments(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(entries.len() >= 9, "{entries:?}");
        for entry in &entries {
            assert!(entry.valid && entry.purpose.is_some(), "{entry:?}");
            assert!(
                entry.seconds.is_some() && entry.memory_bytes.is_some(),
                "{entry:?}"
            );
        }
        let quick = entries.iter().find(|e| e.name.as_deref() == Some("quick"));
        assert!(quick.is_some_and(|quick| !quick.linux && quick.cells.len() > 3));
        assert!(text(&entries).contains("torture.yaml"));
    }

    #[test]
    fn a_broken_file_is_listed_as_one() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("x.yaml"), "version: 1\n").unwrap();
        let entries = experiments(place.path()).unwrap();
        assert!(text(&entries).contains("not valid"), "{entries:?}");
    }
}
