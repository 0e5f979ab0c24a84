//! The host's KSM settings from before a run, on file.
//!
//! A run that is killed can't restore anything. So what it is going to change
//! is written down first, one `name value` per line, and whoever comes next
//! restores it: the next run, or the `doctor`.

use super::host::{KsmHost, write_whole};
use super::settings::TUNABLES;
use std::{fs, io};

/// Settings by name, `run` last, in the order of restoring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Journal(Vec<(String, String)>);

impl Journal {
    /// What the host has now.
    pub(super) fn of(host: &KsmHost) -> io::Result<Self> {
        let mut values = Vec::new();
        for name in TUNABLES.into_iter().chain(["run"]) {
            if let Some(value) = host.read(name)? {
                values.push((name.to_owned(), value));
            }
        }
        Ok(Self(values))
    }

    /// What an earlier run left behind, if it did.
    pub(super) fn load(host: &KsmHost) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(&host.journal) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        // Only names that this tool writes: the file says what is written to sysfs.
        let known = lines.filter(|(name, _)| TUNABLES.contains(name) || *name == "run");
        Ok(Some(Self(
            known
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )))
    }

    pub(super) fn save(&self, host: &KsmHost) -> io::Result<()> {
        let text: String = self
            .0
            .iter()
            .map(|(name, value)| format!("{name} {value}\n"))
            .collect();
        write_whole(&host.journal, &text)
    }

    /// Unmerges everything, restores all settings, and `run` at last; the
    /// journal goes when all of it succeeded.
    pub(super) fn restore(&self, host: &KsmHost) -> io::Result<()> {
        host.write("run", "2")?;
        // Some settings depend on others, so that one may have to come first.
        let first = self.settings(host);
        if first.is_err() {
            self.settings(host)?;
        }
        if let Some((_, run)) = self.0.iter().find(|(name, _)| name == "run") {
            host.write("run", run)?;
        }
        fs::remove_file(&host.journal)
    }

    fn settings(&self, host: &KsmHost) -> io::Result<()> {
        let settings = self.0.iter().filter(|(name, _)| name != "run");
        settings
            .map(|(name, value)| host.write(name, value))
            .fold(Ok(()), io::Result::and)
    }
}
