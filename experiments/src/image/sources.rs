//! Which files go into an image: the dependency sources pinned by `Cargo.lock`.
//!
//! Every machine that built the project has them, so they are real input that needs no download.
//! The rule that picks them is deterministic: packages in order of their name and version, regular
//! files in order of their path, until the limit; files that are no sources (large binaries) are
//! left out.

use std::path::{Path, PathBuf};

/// The lock file that this binary was built with.
const LOCK: &str = include_str!("../../../Cargo.lock");
/// Files above this size are test data, not sources.
const LARGEST_FILE: u64 = 1 << 20;

/// A file and its path in the image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Path in the image, relative.
    pub to: PathBuf,
    /// The file.
    pub from: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

/// Why there are no files.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// A folder can't be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The registry holds none of the packages.
    #[error(
        "no dependency sources were found under {0}; run `cargo fetch` in Mirrorball's folder, or set CARGO_HOME to where cargo keeps them"
    )]
    NoRegistry(PathBuf),
    /// The folder holds no file.
    #[error("{0} holds no regular file")]
    Empty(PathBuf),
}

/// The sources of all pinned dependencies, up to `limit` bytes.
///
/// # Errors
/// The local cargo registry has none of them.
pub fn cargo_registry(limit: u64) -> Result<Vec<Entry>, SourcesError> {
    let registry = cargo_home().join("registry/src");
    let mut indexes =
        children(&registry).map_err(|_| SourcesError::NoRegistry(registry.clone()))?;
    indexes.sort();
    let mut entries = Vec::new();
    let mut total = 0;
    for package in packages(LOCK) {
        let Some(folder) = indexes
            .iter()
            .map(|index| index.join(&package))
            .find(|path| path.is_dir())
        else {
            continue;
        };
        for entry in walk(&folder, Path::new(&package))? {
            let registry_mark = entry.to.file_name().is_some_and(|name| name == ".cargo-ok");
            if entry.size > LARGEST_FILE || registry_mark {
                continue;
            }
            if total + entry.size > limit {
                return Ok(entries);
            }
            total += entry.size;
            entries.push(entry);
        }
    }
    if entries.is_empty() {
        Err(SourcesError::NoRegistry(registry))
    } else {
        Ok(entries)
    }
}

/// All regular files below a folder, in order of their path.
///
/// # Errors
/// A folder can't be read, or there is no file.
pub fn directory(folder: &Path) -> Result<Vec<Entry>, SourcesError> {
    let entries = walk(folder, Path::new(""))?;
    if entries.is_empty() {
        Err(SourcesError::Empty(folder.to_owned()))
    } else {
        Ok(entries)
    }
}

fn cargo_home() -> PathBuf {
    let from_home = || {
        std::env::home_dir()
            .unwrap_or_else(|| PathBuf::from("/root"))
            .join(".cargo")
    };
    std::env::var_os("CARGO_HOME").map_or_else(from_home, PathBuf::from)
}

/// The folder names (`name-version`) of the registry packages that a lock file pins, sorted.
fn packages(lock: &str) -> Vec<String> {
    let mut packages = Vec::new();
    for block in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = block
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
            Some(line.trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(source)) =
            (field("name"), field("version"), field("source"))
            && source.starts_with("registry+")
        {
            packages.push(format!("{name}-{version}"));
        }
    }
    packages.sort();
    packages
}

fn children(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    std::fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect()
}

/// Regular files below `folder`; symbolic links and special files are not followed.
fn walk(folder: &Path, to: &Path) -> Result<Vec<Entry>, SourcesError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |error| SourcesError::Unreadable { path, error }
    };
    let mut found = Vec::new();
    let mut pending = vec![(folder.to_owned(), to.to_owned())];
    while let Some((from, to)) = pending.pop() {
        for child in children(&from).map_err(unreadable(&from))? {
            let Some(name) = child.file_name() else {
                continue;
            };
            let meta = std::fs::symlink_metadata(&child).map_err(unreadable(&child))?;
            let to = to.join(name);
            if meta.is_dir() {
                pending.push((child, to));
            } else if meta.is_file() {
                found.push(Entry {
                    to,
                    from: child,
                    size: meta.len(),
                });
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_packages_only_and_sorted() {
        let lock = "[[package]]\nname = \"b\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\n\n\
                    [[package]]\nname = \"own\"\nversion = \"0.1.0\"\n\n\
                    [[package]]\nname = \"a\"\nversion = \"2.0.0\"\nsource = \"registry+x\"\n";
        assert_eq!(packages(lock), ["a-2.0.0", "b-1.0.0"]);
    }

    #[test]
    fn the_limit_is_kept_and_the_choice_is_the_same_each_time() {
        let first = cargo_registry(2 << 20).unwrap();
        let total: u64 = first.iter().map(|entry| entry.size).sum();
        assert!(total <= 2 << 20 && total > 1 << 20, "{total}");
        assert_eq!(first, cargo_registry(2 << 20).unwrap());
    }
}
