//! Debian packages by name and version, downloaded and unpacked into the cache.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::DebianError;
use crate::apt::{self, Apt, Choice};
use crate::cache::{Cache, digest_of};
use crate::tool::{DPKG, says_full};

/// The name of the description beside an unpacked package.
const DESCRIPTION: &str = "package.json";
/// The folder beside it that holds the package's files.
pub(crate) const FILES: &str = "files";

/// A package's files, as they would lie below `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// The folder that holds them. It belongs to the cache: don't change what is in it.
    #[serde(skip)]
    pub folder: PathBuf,
    /// The package's name.
    pub name: String,
    /// Its full version, with epoch and revision.
    pub version: String,
    /// SHA-256 of the package file, in hexadecimal digits.
    pub sha256: String,
}

/// The package `name` in this version, or in the version that apt would install, unpacked in the
/// folder `cache`. It is downloaded if it is not there yet; nothing is installed.
///
/// Without lists or network a package that is in the cache is still found.
///
/// # Errors
/// There is no such package or version, it can't be downloaded, a program is missing, there is no
/// room.
pub fn fetch(
    name: &str,
    version: Option<&str>,
    cache: &Path,
    progress: &dyn Fn(&str),
) -> Result<Unpacked, DebianError> {
    let cache = Cache::open(cache, progress)?;
    fetch_into(&cache, name, version, progress)
}

/// [`fetch`] where the cache is held already.
pub(crate) fn fetch_into(
    cache: &Cache,
    name: &str,
    version: Option<&str>,
    progress: &dyn Fn(&str),
) -> Result<Unpacked, DebianError> {
    let apt = Apt::new(cache)?;
    if !apt::is_name(name) {
        return Err(apt.unknown(name));
    }
    if let Some(version) = version {
        return match cached(cache, name, version) {
            Some(found) => Ok(found),
            None => download(cache, name, version, progress),
        };
    }
    let newest = apt
        .ensure_lists(progress)
        .and_then(|()| apt.candidate(name));
    let version = match newest {
        Ok(Some(version)) => version,
        Ok(None) => return Err(apt.unknown(name)),
        Err(error) => {
            let Some(found) = any_cached(cache, name) else {
                return Err(error);
            };
            progress(&format!("{error}; using {name} {}", found.version));
            return Ok(found);
        }
    };
    match cached(cache, name, &version) {
        Some(found) => Ok(found),
        None => download(cache, name, &version, progress),
    }
}

/// Where a package lies in the cache.
fn place(name: &str, version: &str) -> String {
    format!("packages/{name}_{}", escaped(version))
}

/// A version in a file's name, as apt writes it.
fn escaped(version: &str) -> String {
    version.replace(':', "%3a")
}

pub(crate) fn cached(cache: &Cache, name: &str, version: &str) -> Option<Unpacked> {
    apt::is_version(version).then(|| read(&cache.path(&place(name, version))))?
}

/// The description of an unpacked package.
fn read(folder: &Path) -> Option<Unpacked> {
    let text = fs::read(folder.join(DESCRIPTION)).ok()?;
    let found: Unpacked = serde_json::from_slice(&text).ok()?;
    Some(Unpacked {
        folder: folder.join(FILES),
        ..found
    })
}

/// All packages in the cache, the one unpacked last at the end.
pub(crate) fn all_cached(cache: &Cache) -> Vec<Unpacked> {
    let entries = fs::read_dir(cache.path("packages")).into_iter().flatten();
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.metadata().ok()?.modified().ok()?,
                read(&entry.path())?,
            ))
        })
        .collect();
    found.sort_by_key(|(unpacked, _)| *unpacked);
    found.into_iter().map(|(_, package)| package).collect()
}

/// Any version that is in the cache, the one unpacked last first.
pub(crate) fn any_cached(cache: &Cache, name: &str) -> Option<Unpacked> {
    let mut found = all_cached(cache);
    found.retain(|package| package.name == name);
    found.pop()
}

/// Downloads and unpacks one package, whose version is checked first.
fn download(
    cache: &Cache,
    name: &str,
    version: &str,
    progress: &dyn Fn(&str),
) -> Result<Unpacked, DebianError> {
    let apt = Apt::new(cache)?;
    apt.ensure_lists(progress)?;
    let known = apt.versions(&[name])?;
    if known.is_empty() {
        return Err(apt.unknown(name));
    }
    let Some(choice) = known.iter().find(|choice| choice.version == version) else {
        return Err(apt::unknown_version(name, version, known));
    };
    let mut got = fetch_all(cache, std::slice::from_ref(choice), progress)?;
    got.pop().ok_or_else(|| apt.unknown(name))
}

/// All these packages, in their order. Those that are missing are downloaded at once.
pub(crate) fn fetch_all(
    cache: &Cache,
    choices: &[Choice],
    progress: &dyn Fn(&str),
) -> Result<Vec<Unpacked>, DebianError> {
    let missing: Vec<&Choice> = choices
        .iter()
        .filter(|choice| cached(cache, &choice.name, &choice.version).is_none())
        .collect();
    if let [first, others @ ..] = missing.as_slice() {
        let more = if others.is_empty() {
            String::new()
        } else {
            format!(" and {} more packages", others.len())
        };
        progress(&format!(
            "downloading {} {}{more}",
            first.name, first.version
        ));
        let scratch = cache.scratch()?;
        get(&Apt::new(cache)?, scratch.path(), &missing)?;
        for (done, choice) in missing.iter().enumerate() {
            progress(&format!(
                "unpacking {} {} ({} of {})",
                choice.name,
                choice.version,
                done + 1,
                missing.len()
            ));
            unpack(cache, scratch.path(), choice)?;
        }
    }
    let mut packages = Vec::new();
    for Choice { name, version } in choices {
        let found = cached(cache, name, version);
        packages.push(found.ok_or_else(|| apt::unknown_version(name, version, Vec::new()))?);
    }
    Ok(packages)
}

/// Unpacks a package that was downloaded into `folder`, and gives it its place in the cache.
fn unpack(cache: &Cache, folder: &Path, choice: &Choice) -> Result<(), DebianError> {
    let file = package_file(folder, choice)?;
    let made = folder.join("package");
    let files = made.join(FILES);
    fs::create_dir_all(&files).map_err(|error| DebianError::io(&files, error))?;
    let arguments = ["-x", &file.to_string_lossy(), &files.to_string_lossy()];
    DPKG.run(folder, &arguments)?;
    let unpacked = Unpacked {
        folder: files,
        name: choice.name.clone(),
        version: choice.version.clone(),
        sha256: digest_of(&file)?,
    };
    keep(cache, &made, unpacked)?;
    fs::remove_file(&file).map_err(|error| DebianError::io(&file, error))
}

/// Gives a folder with a package's files its place in the cache.
pub(crate) fn keep(
    cache: &Cache,
    made: &Path,
    unpacked: Unpacked,
) -> Result<Unpacked, DebianError> {
    let path = made.join(DESCRIPTION);
    let text = serde_json::to_vec_pretty(&unpacked)
        .map_err(|error| DebianError::io(&path, error.into()))?;
    fs::write(&path, text).map_err(|error| DebianError::io(&path, error))?;
    let kept = cache.keep(made, &place(&unpacked.name, &unpacked.version))?;
    Ok(Unpacked {
        folder: kept.join(FILES),
        ..unpacked
    })
}

/// Downloads into `folder`.
fn get(apt: &Apt, folder: &Path, choices: &[&Choice]) -> Result<(), DebianError> {
    let packages = choices
        .iter()
        .map(|Choice { name, version }| format!("{name}={version}"));
    let packages: Vec<String> = packages.collect();
    let Err(reason) = apt.download(folder, &packages)? else {
        return Ok(());
    };
    if says_full(&reason) {
        let path = folder.to_owned();
        return Err(DebianError::NoSpace { path });
    }
    Err(DebianError::Download {
        package: packages.join(" "),
        reason,
    })
}

/// The file that apt made of a package in a folder.
fn package_file(folder: &Path, choice: &Choice) -> Result<PathBuf, DebianError> {
    let start = format!("{}_{}_", choice.name, escaped(&choice.version));
    let entries = fs::read_dir(folder).map_err(|error| DebianError::io(folder, error))?;
    let found = entries
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&start));
    let missing = || std::io::Error::other(format!("apt-get download left no file {start}*.deb"));
    let found = found.map(|entry| entry.path());
    found.ok_or_else(|| DebianError::io(folder, missing()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(cache: &Cache, name: &str, version: &str) -> Unpacked {
        let folder = cache.path(&place(name, version));
        fs::create_dir_all(folder.join(FILES)).unwrap();
        let package = Unpacked {
            folder: folder.join(FILES),
            name: name.to_owned(),
            version: version.to_owned(),
            sha256: "00".to_owned(),
        };
        let text = serde_json::to_vec(&package).unwrap();
        fs::write(folder.join(DESCRIPTION), text).unwrap();
        package
    }

    #[test]
    fn a_package_in_the_cache_needs_no_apt() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), &|_| ()).unwrap();
        let package = put(&cache, "mirrorball-no-such", "1:2.0-1");
        drop(cache);
        let found = fetch(
            "mirrorball-no-such",
            Some("1:2.0-1"),
            folder.path(),
            &|_| (),
        );
        assert_eq!(found.unwrap(), package);
    }

    #[test]
    fn a_folder_without_description_is_no_package() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), &|_| ()).unwrap();
        let package = put(&cache, "x1", "1");
        assert_eq!(cached(&cache, "x1", "1"), Some(package.clone()));
        assert_eq!(any_cached(&cache, "x1"), Some(package));
        fs::remove_file(cache.path(&place("x1", "1")).join(DESCRIPTION)).unwrap();
        assert_eq!(cached(&cache, "x1", "1"), None);
        assert_eq!(any_cached(&cache, "x1"), None);
    }
}
