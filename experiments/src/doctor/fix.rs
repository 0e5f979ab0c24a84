//! Settings of the host that root can change for the better, and their way back.
//!
//! What a setting was is written down before it is changed, and stays so through a kill: the file
//! goes when all of it was given back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Mappings that a process may have: enough for scattered pages of large guests.
const MAP_COUNT: u64 = 1 << 20;
/// With fewer it is changed.
const ENOUGH_MAP_COUNT: u64 = 1 << 18;

/// Where the settings are, and where their old values are kept.
#[derive(Clone, Debug)]
pub struct Place {
    root: PathBuf,
    journal: PathBuf,
}

/// A setting that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its file.
    pub setting: String,
    /// As it was.
    pub before: String,
    /// As it is now.
    pub after: String,
}

impl Default for Place {
    /// This host. The journal is where KSM's is: it does not outlive a boot, as settings don't.
    fn default() -> Self {
        Self {
            root: "/".into(),
            journal: "/run/mirrorball-host.journal".into(),
        }
    }
}

impl Place {
    /// Whether settings were changed and not given back.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.journal.exists()
    }

    /// Changes what disturbs measurements and can be changed.
    ///
    /// # Errors
    /// A setting, or the journal, can't be written; what was changed before is in the journal.
    pub fn fix(&self) -> io::Result<Vec<Change>> {
        let mut made = Vec::new();
        for (setting, before, after) in self.wanted() {
            self.remember(&setting, &before)?;
            fs::write(self.root.join(&setting), &after).map_err(|error| told(&setting, &error))?;
            made.push(Change {
                setting,
                before,
                after,
            });
        }
        Ok(made)
    }

    /// Gives everything back that was changed.
    ///
    /// # Errors
    /// A setting can't be written; it stays in the journal.
    pub fn restore(&self) -> io::Result<Vec<Change>> {
        let mut restored = Vec::new();
        for (setting, value) in self.journal()? {
            let now = self.read(&setting).unwrap_or_default();
            fs::write(self.root.join(&setting), &value).map_err(|error| told(&setting, &error))?;
            restored.push(Change {
                setting,
                before: now,
                after: value,
            });
        }
        match fs::remove_file(&self.journal) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(restored),
        }
    }

    /// Settings that are not as they should be: file, value, better value.
    fn wanted(&self) -> Vec<(String, String, String)> {
        let mut wanted = Vec::new();
        let map_count = "proc/sys/vm/max_map_count";
        if let Some(value) = self.read(map_count)
            && value
                .parse::<u64>()
                .is_ok_and(|count| count < ENOUGH_MAP_COUNT)
        {
            wanted.push((map_count.to_owned(), value, MAP_COUNT.to_string()));
        }
        let huge_pages = "sys/kernel/mm/transparent_hugepage/enabled";
        if self
            .read(huge_pages)
            .is_some_and(|modes| modes.contains("[always]"))
        {
            let (always, madvise) = ("always".to_owned(), "madvise".to_owned());
            wanted.push((huge_pages.to_owned(), always, madvise));
        }
        let cpus = fs::read_dir(self.root.join("sys/devices/system/cpu"));
        let names = cpus
            .into_iter()
            .flatten()
            .flatten()
            .map(|cpu| cpu.file_name());
        let mut names: Vec<_> = names
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        for cpu in names {
            let governor = format!("sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor");
            if let Some(value) = self.read(&governor).filter(|value| value != "performance") {
                wanted.push((governor, value, "performance".to_owned()));
            }
        }
        wanted
    }

    fn read(&self, setting: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(setting)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Keeps what a setting was, unless that is known from before.
    fn remember(&self, setting: &str, value: &str) -> io::Result<()> {
        let mut kept = self.journal()?;
        if kept.iter().any(|(known, _)| known == setting) {
            return Ok(());
        }
        kept.push((setting.to_owned(), value.to_owned()));
        let lines = kept
            .iter()
            .map(|(setting, value)| format!("{setting}\t{value}\n"));
        let new = self.journal.with_extension("new");
        fs::write(&new, lines.collect::<String>())?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, &self.journal)
    }

    fn journal(&self) -> io::Result<Vec<(String, String)>> {
        let text = match fs::read_to_string(&self.journal) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        // Only settings that this changes: whoever could write the file is not to choose others.
        let known = lines.filter(|(setting, _)| is_known(setting));
        Ok(known
            .map(|(setting, value)| (setting.to_owned(), value.to_owned()))
            .collect())
    }
}

fn is_known(setting: &str) -> bool {
    let plain = !Path::new(setting).is_absolute() && !setting.contains("..");
    let known = [
        "proc/sys/vm/max_map_count",
        "sys/kernel/mm/transparent_hugepage/enabled",
    ];
    plain && (known.contains(&setting) || setting.starts_with("sys/devices/system/cpu/"))
}

fn told(setting: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("/{setting}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(folder: &Path) -> Place {
        for (file, value) in [
            ("proc/sys/vm/max_map_count", "65530\n"),
            (
                "sys/kernel/mm/transparent_hugepage/enabled",
                "[always] madvise never\n",
            ),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "powersave\n",
            ),
            (
                "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
                "performance\n",
            ),
        ] {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        Place {
            root: folder.to_owned(),
            journal: folder.join("journal"),
        }
    }

    #[test]
    fn what_is_changed_is_given_back_also_after_a_second_change_and_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let place = host(folder.path());
        assert!(!place.is_changed());
        let changes = place.fix().unwrap();
        let changed = changes.iter().map(|change| change.after.as_str());
        assert_eq!(
            changed.collect::<Vec<_>>(),
            ["1048576", "madvise", "performance"]
        );
        // Nobody gave it back, and someone changed it again: the first value is the host's own.
        fs::write(folder.path().join("proc/sys/vm/max_map_count"), "1000").unwrap();
        assert_eq!(place.fix().unwrap()[0].before, "1000");
        assert!(place.is_changed());

        place.restore().unwrap();
        assert!(!place.is_changed());
        assert_eq!(place.read("proc/sys/vm/max_map_count").unwrap(), "65530");
        let huge_pages = place.read("sys/kernel/mm/transparent_hugepage/enabled");
        assert_eq!(huge_pages.unwrap(), "always");
        let governor = place.read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        assert_eq!(governor.unwrap(), "powersave");
        assert_eq!(place.restore().unwrap(), []);
    }

    #[test]
    fn a_journal_changes_nothing_but_its_own_settings() {
        let folder = tempfile::tempdir().unwrap();
        let place = host(folder.path());
        fs::write(folder.path().join("secret"), "kept").unwrap();
        fs::write(&place.journal, "secret\tlost\n../secret\tlost\n").unwrap();
        place.restore().unwrap();
        assert_eq!(place.read("secret").unwrap(), "kept");
    }
}
