//! A run's folder: a name of its own, files that are whole or absent.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::OutputError;

/// How names of files and folders begin that are not whole yet.
const UNFINISHED: &str = ".unfinished-";

/// A process that is killed while it starts another lets go of its lock only when that one runs.
const LET_GO: Duration = Duration::from_secs(3);

/// The folder of one run of an experiment. While it lives, no other process opens it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Until it has its name; a folder that never gets one goes away again.
    stage: Option<tempfile::TempDir>,
    /// Holds the lock; it goes with the process, however that ends.
    _lock: Option<File>,
}

impl Folder {
    /// A folder below `directory` that gets its name later: what it begins with is written first,
    /// so that whoever finds it finds all of that.
    ///
    /// # Errors
    /// It can't be made.
    pub fn stage(directory: &Path) -> Result<Self, OutputError> {
        let stage = || -> io::Result<Self> {
            fs::create_dir_all(directory)?;
            let stage = tempfile::Builder::new()
                .prefix(UNFINISHED)
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .tempdir_in(directory)?;
            Ok(Self {
                path: stage.path().to_owned(),
                _lock: lock(stage.path())?,
                stage: Some(stage),
            })
        };
        stage().map_err(|error| OutputError {
            path: directory.to_owned(),
            error,
        })
    }

    /// Gives the folder its name: `<name>-<UTC time>`.
    ///
    /// # Errors
    /// It can't be renamed.
    pub fn publish(&mut self, name: &str, time: jiff::Timestamp) -> Result<(), OutputError> {
        let stem = format!("{name}-{}", time.strftime("%Y%m%dT%H%M%SZ"));
        let directory = self.path.parent().unwrap_or(Path::new(".")).to_owned();
        for suffix in 1..1000 {
            let path = directory.join(if suffix == 1 {
                stem.clone()
            } else {
                format!("{stem}-{suffix}")
            });
            if path.symlink_metadata().is_ok() {
                // Another run of the same experiment in the same second.
                continue;
            }
            match fs::rename(&self.path, &path) {
                Ok(()) => {
                    drop(self.stage.take().map(tempfile::TempDir::keep));
                    sync_folder(&directory);
                    self.path = path;
                    return Ok(());
                }
                // It came in between.
                Err(taken) if taken.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) => return Err(OutputError { path, error }),
            }
        }
        Err(OutputError {
            path: directory,
            error: io::Error::new(io::ErrorKind::AlreadyExists, "all names are taken"),
        })
    }

    /// A folder that is there; `None` if another process has it.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn open(path: &Path) -> Result<Option<Self>, OutputError> {
        let error = |error| OutputError {
            path: path.to_owned(),
            error,
        };
        match lock(path) {
            Ok(lock) => Ok(Some(Self {
                path: path.to_owned(),
                stage: None,
                _lock: lock,
            })),
            Err(taken) if taken.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(other) => Err(error(other)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file so that it is whole or, on an error, as it was before.
    ///
    /// # Errors
    /// It can't be written, for example because the disk is full.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), OutputError> {
        let target = self.join(name);
        let attempt = || -> io::Result<()> {
            let parent = target.parent().unwrap_or(&self.path);
            fs::create_dir_all(parent)?;
            let mut file = tempfile::Builder::new()
                .prefix(UNFINISHED)
                .tempfile_in(parent)?;
            file.write_all(bytes)?;
            let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            file.as_file().set_permissions(readable)?;
            // The bytes before the name, the name before whatever is written next.
            file.as_file().sync_all()?;
            file.persist(&target).map_err(|error| error.error)?;
            sync_folder(parent);
            Ok(())
        };
        attempt().map_err(|error| OutputError {
            path: target.clone(),
            error,
        })
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    /// As [`Folder::write`].
    pub fn write_json(&self, name: &str, value: &impl serde::Serialize) -> Result<(), OutputError> {
        let error = |error: serde_json::Error| OutputError {
            path: self.join(name),
            error: error.into(),
        };
        let mut text = serde_json::to_string_pretty(value).map_err(error)?;
        text.push('\n');
        self.write(name, text.as_bytes())
    }

    /// A file that grows during the run.
    ///
    /// # Errors
    /// It can't be made.
    pub fn create_file(&self, name: &str) -> Result<File, OutputError> {
        File::create(self.join(name)).map_err(|error| OutputError {
            path: self.join(name),
            error,
        })
    }

    /// An existing file that grows on.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn open_file(&self, name: &str) -> Result<File, OutputError> {
        let path = self.join(name);
        let opened = File::options().write(true).open(&path);
        opened.map_err(|error| OutputError { path, error })
    }

    /// Removes what is in a folder of this one, unless its name is one of `names`, or such a name
    /// with `-` or `.` and more behind it.
    ///
    /// # Errors
    /// Something can't be removed.
    pub fn keep_only(&self, folder: &str, names: &[String]) -> Result<(), OutputError> {
        let kept = |file: &str| {
            names.iter().any(|name| {
                let rest = file.strip_prefix(name.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
            })
        };
        self.remove(&self.join(folder), |file| !kept(file))
    }

    /// Gives what is in a folder of this one, and has a name that begins with `name` and `-`, the
    /// name `<name>-<mark>-...`.
    ///
    /// # Errors
    /// Something can't be renamed.
    pub fn put_aside(&self, folder: &str, name: &str, mark: &str) -> Result<(), OutputError> {
        let place = self.join(folder);
        let rename = || -> io::Result<()> {
            let entries = match fs::read_dir(&place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                entries => entries?,
            };
            for entry in entries {
                let file = entry?.file_name();
                let file = file.to_string_lossy();
                let rest = file
                    .strip_prefix(name)
                    .and_then(|rest| rest.strip_prefix('-'));
                if let Some(rest) = rest.filter(|rest| !rest.starts_with("attempt")) {
                    let aside = place.join(format!("{name}-{mark}-{rest}"));
                    fs::rename(place.join(&*file), aside)?;
                }
            }
            Ok(())
        };
        rename().map_err(|error| OutputError {
            path: place.clone(),
            error,
        })
    }

    /// Removes a folder of this one with all that is in it, if it is there.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn remove_folder(&self, folder: &str) -> Result<(), OutputError> {
        let path = self.join(folder);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(OutputError { path, error })
            }
            _ => Ok(()),
        }
    }

    /// Removes files that were not whole when the process that wrote them ended.
    ///
    /// # Errors
    /// Something can't be removed.
    pub fn remove_unfinished(&self) -> Result<(), OutputError> {
        self.remove(&self.path, |file| file.starts_with(UNFINISHED))
    }

    fn remove(&self, place: &Path, unwanted: impl Fn(&str) -> bool) -> Result<(), OutputError> {
        let remove = || -> io::Result<()> {
            let entries = match fs::read_dir(place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                if !unwanted(&entry.file_name().to_string_lossy()) {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        remove().map_err(|error| OutputError {
            path: place.to_owned(),
            error,
        })
    }
}

/// Locks a folder for this process; `None` where its file system has no locks.
fn lock(path: &Path) -> io::Result<Option<File>> {
    use rustix::fs::{FlockOperation, flock};
    let folder = File::open(path)?;
    let until = Instant::now() + LET_GO;
    loop {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => break locked(other, folder, path),
        }
    }
}

fn locked(outcome: rustix::io::Result<()>, folder: File, path: &Path) -> io::Result<Option<File>> {
    match outcome {
        Ok(()) => Ok(Some(folder)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => {
            tracing::debug!(%error, path = %path.display(), "a results folder can't be locked");
            Ok(None)
        }
    }
}

/// Puts the names in a folder on the disk. That it can't be done is no error: some file systems
/// need no such thing.
fn sync_folder(path: &Path) {
    if let Err(error) = File::open(path).and_then(|folder| folder.sync_all()) {
        tracing::debug!(%error, path = %path.display(), "a folder can't be synced");
    }
}

/// Whether results can be written to `directory`, which need not exist yet. Leaves nothing behind.
///
/// # Errors
/// Why they can't.
pub fn check_writable(directory: &Path) -> io::Result<()> {
    let existing = existing(directory);
    if !fs::metadata(existing)?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a folder"));
    }
    tempfile::tempfile_in(existing).map(drop)
}

/// Bytes that a user may still write to the file system of `directory`.
#[must_use]
pub fn free_space(directory: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(existing(directory)).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// The nearest folder around a path that exists.
fn existing(path: &Path) -> &Path {
    let here = Path::new(".");
    path.ancestors().find(|path| path.exists()).unwrap_or(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(place: &Path) -> Folder {
        let mut folder = Folder::stage(place).unwrap();
        folder.publish("x", jiff::Timestamp::UNIX_EPOCH).unwrap();
        folder
    }

    #[test]
    fn a_folder_is_there_with_all_that_it_begins_with_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::stage(place.path()).unwrap();
        folder.write("README.txt", b"what is here").unwrap();
        folder.publish("x", jiff::Timestamp::UNIX_EPOCH).unwrap();
        assert!(folder.path().starts_with(place.path()));
        assert!(folder.join("README.txt").exists());
        let dropped = Folder::stage(place.path()).unwrap();
        dropped.write("README.txt", b"what is here").unwrap();
        drop(dropped);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_process_at_a_time_has_a_folder() {
        let place = tempfile::tempdir().unwrap();
        let folder = created(place.path());
        assert!(Folder::open(folder.path()).unwrap().is_none());
        let path = folder.path().to_owned();
        drop(folder);
        assert!(Folder::open(&path).unwrap().is_some());
        assert!(Folder::open(&path.join("not/there")).is_err());
    }

    #[test]
    fn only_what_belongs_to_those_names_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let folder = created(place.path());
        for file in [
            "all-run1.hlog",
            "all-run10.hlog",
            "all-run1-a.log",
            "none-run1.hlog",
        ] {
            folder.write(&format!("h/{file}"), b"").unwrap();
        }
        fs::create_dir(folder.join("h/all-1")).unwrap();
        folder.write("h/all-1/overlay", b"").unwrap();
        fs::write(folder.join(".unfinished-abc"), "half").unwrap();
        folder.keep_only("h", &["all-run1".to_owned()]).unwrap();
        folder.keep_only("not there", &[]).unwrap();
        folder.remove_unfinished().unwrap();
        let left = fs::read_dir(folder.join("h")).unwrap();
        let mut left = left.map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        left.sort();
        assert_eq!(left, ["all-run1-a.log", "all-run1.hlog"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn two_runs_in_one_second_get_two_folders() {
        let place = tempfile::tempdir().unwrap();
        let time = jiff::Timestamp::UNIX_EPOCH;
        let create = || {
            let mut folder = Folder::stage(place.path()).unwrap();
            folder.publish("quick", time).unwrap();
            folder
        };
        let (first, second) = (create(), create());
        assert!(first.path().ends_with("quick-19700101T000000Z"));
        assert!(second.path().ends_with("quick-19700101T000000Z-2"));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let place = tempfile::tempdir().unwrap();
        let folder = created(place.path());
        folder.write("a/b.json", b"one").unwrap();
        folder.write("a/b.json", b"two").unwrap();
        assert_eq!(fs::read(folder.join("a/b.json")).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.join("a")).unwrap().count(), 1);
    }

    #[test]
    fn a_full_disk_is_named() {
        // The kernel's own full device.
        let error = fs::write("/dev/full", b"x").unwrap_err();
        let shown = OutputError {
            path: "/dev/full".into(),
            error,
        }
        .to_string();
        assert!(
            shown.contains("/dev/full") && shown.contains("No space left"),
            "{shown}"
        );
        assert!(shown.contains("make room"), "{shown}");
    }

    #[test]
    fn a_file_is_no_place_for_results() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(check_writable(file.path()).is_err());
        assert!(check_writable(&file.path().join("below")).is_err());
        let place = tempfile::tempdir().unwrap();
        check_writable(&place.path().join("not/there/yet")).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        assert!(free_space(place.path()).unwrap() > 0);
    }
}
