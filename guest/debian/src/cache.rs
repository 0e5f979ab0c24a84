//! The cache folder: one writer at a time, and everything in it complete.
//!
//! What is being made stays in a folder of its own below the cache and is renamed when it is done.
//! Such folders of a process that was killed are cleared away by the next writer, who holds the
//! lock and so knows that nobody works in them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::DebianError;

/// How the names of folders begin in which something is being made.
const UNFINISHED: &str = ".building-";
/// The folder of apt's own files, and what the names of those contain that it is writing.
pub(crate) const APT: &str = "apt";
const APT_UNFINISHED: &str = ".bin.";

/// The cache that a user has unless told otherwise: `$XDG_CACHE_HOME/mirrorball/debian`, or the same
/// below `~/.cache`.
#[must_use]
pub fn default_cache() -> PathBuf {
    let home = || std::env::home_dir().map(|home| home.join(".cache"));
    let absolute =
        |value: std::ffi::OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    let base = std::env::var_os("XDG_CACHE_HOME")
        .and_then(absolute)
        .or_else(home);
    base.unwrap_or_else(std::env::temp_dir)
        .join("mirrorball/debian")
}

/// The cache, held for writing until this is dropped.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    _lock: File,
}

impl Cache {
    /// Opens the cache for writing, waiting for whoever does so at the moment.
    pub(crate) fn open(root: &Path, progress: &dyn Fn(&str)) -> Result<Self, DebianError> {
        fs::create_dir_all(root).map_err(|error| DebianError::io(root, error))?;
        // Programs are run in other folders than ours.
        let root = root
            .canonicalize()
            .map_err(|error| DebianError::io(root, error))?;
        let path = root.join(".lock");
        let lock = File::create(&path).map_err(|error| DebianError::io(&path, error))?;
        if lock.try_lock().is_err() {
            progress("waiting for another process that builds images");
            lock.lock().map_err(|error| DebianError::io(&path, error))?;
        }
        let cache = Self { root, _lock: lock };
        cache.clear();
        Ok(cache)
    }

    /// Removes what killed writers left. What can't be removed only takes room.
    fn clear(&self) {
        for folder in [self.root.clone(), self.path(APT)] {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let (name, path) = (entry.file_name(), entry.path());
                let name = name.to_string_lossy();
                if name.starts_with(UNFINISHED) {
                    let _ = fs::remove_dir_all(path);
                } else if name.contains(APT_UNFINISHED) {
                    let _ = fs::remove_file(path);
                }
            }
        }
    }

    /// A path in the cache.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// A new folder to make something in; it goes when it is dropped.
    pub(crate) fn scratch(&self) -> Result<TempDir, DebianError> {
        tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(&self.root)
            .map_err(|error| DebianError::io(&self.root, error))
    }

    /// Gives what was made its name in the cache.
    pub(crate) fn keep(&self, made: &Path, below: &str) -> Result<PathBuf, DebianError> {
        let path = self.path(below);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| DebianError::io(parent, error))?;
        }
        fs::rename(made, &path).map_err(|error| DebianError::io(&path, error))?;
        Ok(path)
    }
}

/// SHA-256 of everything that is read from `from`, in hexadecimal digits.
pub(crate) fn digest_of(path: &Path) -> Result<String, DebianError> {
    let mut file = File::open(path).map_err(|error| DebianError::io(path, error))?;
    let mut digest = Digesting(Sha256::new());
    std::io::copy(&mut file, &mut digest).map_err(|error| DebianError::io(path, error))?;
    Ok(hex(&digest.0.finalize()))
}

/// SHA-256 of `parts` in hexadecimal digits; the borders between them count.
pub(crate) fn digest(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    hex(&digest.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Digesting(Sha256);

impl std::io::Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_writer_left_goes_and_what_is_complete_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), &|_| ()).unwrap();
        let made = cache.scratch().unwrap();
        fs::write(made.path().join("file"), "x").unwrap();
        let kept = cache.keep(made.path(), "packages/x").unwrap();
        // As if killed: neither renamed nor dropped.
        let left = cache.scratch().unwrap().keep();
        fs::write(left.join("half"), "x").unwrap();
        fs::create_dir(cache.path(APT)).unwrap();
        let lists = ["packages.bin", "packages.bin.x1"].map(|name| cache.path(APT).join(name));
        for path in &lists {
            fs::write(path, "x").unwrap();
        }
        drop(cache);
        let _cache = Cache::open(folder.path(), &|_| ()).unwrap();
        assert!(!left.exists());
        assert_eq!(lists.map(|path| path.exists()), [true, false]);
        assert_eq!(fs::read(kept.join("file")).unwrap(), b"x");
    }

    #[test]
    fn what_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), &|_| ()).unwrap();
        drop(cache.scratch().unwrap());
        let names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, [".lock"]);
    }

    #[test]
    fn a_second_writer_waits() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), &|_| ()).unwrap();
        let waiting = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let told = |_: &str| {
                    waiting.wait();
                };
                Cache::open(folder.path(), &told).unwrap();
            });
            waiting.wait();
            drop(cache);
        });
    }

    #[test]
    fn digests_tell_parts_apart() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_eq!(digest(&[b"ab"]).len(), 64);
    }
}
