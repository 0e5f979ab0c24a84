//! Which results folder another process made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The results folders of an experiment before a process begins that makes one.
pub(crate) struct Results<'a> {
    directory: &'a Path,
    name: &'a str,
    before: BTreeSet<PathBuf>,
}

impl<'a> Results<'a> {
    /// Those of the experiment of that name.
    pub(crate) fn before(directory: &'a Path, name: &'a str) -> Self {
        Self {
            directory,
            name,
            before: folders(directory, name),
        }
    }

    /// The folder that was made since, if there is one.
    pub(crate) fn made(&self) -> Option<PathBuf> {
        let now = folders(self.directory, self.name);
        now.difference(&self.before).last().cloned()
    }
}

/// By their names, which end with the time.
fn folders(directory: &Path, name: &str) -> BTreeSet<PathBuf> {
    let prefix = format!("{name}-");
    let entries = std::fs::read_dir(directory);
    let entries = entries.into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    named.map(|entry| entry.path()).collect()
}
