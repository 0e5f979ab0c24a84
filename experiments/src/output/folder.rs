//! A run's folder: a name of its own, files that are whole or absent.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::OutputError;

/// The folder of one run of an experiment.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder `<name>-<UTC time>` below `directory`.
    ///
    /// # Errors
    /// It can't be made.
    pub fn create(
        directory: &Path,
        name: &str,
        time: jiff::Timestamp,
    ) -> Result<Self, OutputError> {
        let error = |error| OutputError {
            path: directory.to_owned(),
            error,
        };
        fs::create_dir_all(directory).map_err(error)?;
        let stem = format!("{name}-{}", time.strftime("%Y%m%dT%H%M%SZ"));
        for suffix in 1..1000 {
            let path = directory.join(if suffix == 1 {
                stem.clone()
            } else {
                format!("{stem}-{suffix}")
            });
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                // Another run of the same experiment in the same second.
                Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {}
                Err(other) => return Err(OutputError { path, error: other }),
            }
        }
        Err(error(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "all names are taken",
        )))
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
                .prefix(".unfinished-")
                .tempfile_in(parent)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&target).map_err(|error| error.error)?;
            let mut permissions = fs::metadata(&target)?.permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
            fs::set_permissions(&target, permissions)
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

    #[test]
    fn two_runs_in_one_second_get_two_folders() {
        let place = tempfile::tempdir().unwrap();
        let time = jiff::Timestamp::UNIX_EPOCH;
        let first = Folder::create(place.path(), "quick", time).unwrap();
        let second = Folder::create(place.path(), "quick", time).unwrap();
        assert!(first.path().ends_with("quick-19700101T000000Z"));
        assert!(second.path().ends_with("quick-19700101T000000Z-2"));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::create(place.path(), "x", jiff::Timestamp::UNIX_EPOCH).unwrap();
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
