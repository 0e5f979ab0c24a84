//! Which kernel: by version number, by package, or the user's own.

use std::fs;
use std::path::{Path, PathBuf};

use crate::apt::{self, Apt, Choice};
use crate::bzimage;
use crate::cache::Cache;
use crate::modules::Tree;
use crate::package::{self, Unpacked};
use crate::{DebianError, package::fetch_into};

/// What Debian builds a kernel for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Guests of clouds: small, with the drivers that virtual machines need (`-cloud-amd64`).
    Cloud,
    /// Any machine; the only one with KVM (`-amd64`).
    Generic,
}

impl Flavour {
    fn suffix(self) -> &'static str {
        match self {
            Self::Cloud => "-cloud-amd64",
            Self::Generic => "-amd64",
        }
    }
}

/// A kernel to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The file to boot (bzImage).
    pub image: PathBuf,
    /// The release, as `uname -r` says it.
    pub release: String,
}

/// The kernel that an unpacked package holds.
///
/// # Errors
/// It holds none.
pub fn kernel_in(package: &Unpacked) -> Result<Kernel, DebianError> {
    let tree = Tree::open(&package.folder, &package.name)?;
    let release = tree.release().to_owned();
    let image = package.folder.join(format!("boot/vmlinuz-{release}"));
    if !image.is_file() {
        return Err(DebianError::NotAKernel {
            what: package.name.clone(),
            reason: format!("it has no file boot/vmlinuz-{release}"),
        });
    }
    Ok(Kernel { image, release })
}

/// The newest kernel package whose version number begins with `wanted` (`6.12`), or the package
/// that is called so, unpacked in the folder `cache`; in the given package version, if any.
///
/// # Errors
/// As [`fetch`](crate::fetch); also that there is no such kernel, with those there are.
pub fn fetch_kernel(
    wanted: &str,
    flavour: Flavour,
    version: Option<&str>,
    cache: &Path,
    progress: &dyn Fn(&str),
) -> Result<Unpacked, DebianError> {
    let cache = Cache::open(cache, progress)?;
    fetch_kernel_into(&cache, wanted, flavour, version, progress)
}

/// [`fetch_kernel`] where the cache is held already.
pub(crate) fn fetch_kernel_into(
    cache: &Cache,
    wanted: &str,
    flavour: Flavour,
    version: Option<&str>,
    progress: &dyn Fn(&str),
) -> Result<Unpacked, DebianError> {
    if !is_number(wanted) {
        return fetch_into(cache, wanted, version, progress);
    }
    let (package, version) = match choose(cache, wanted, flavour, version, progress) {
        Ok(choice) => (choice.name, choice.version),
        Err(error) => {
            let Some(found) = cached(cache, wanted, flavour, version) else {
                return Err(error);
            };
            progress(&format!("{error}; using {} {}", found.name, found.version));
            return Ok(found);
        }
    };
    fetch_into(cache, &package, Some(&version), progress)
}

/// Whether this is a version number rather than a package's name.
fn is_number(wanted: &str) -> bool {
    wanted.starts_with(|first: char| first.is_ascii_digit())
}

/// The newest of the packages that apt knows.
fn choose(
    cache: &Cache,
    wanted: &str,
    flavour: Flavour,
    version: Option<&str>,
    progress: &dyn Fn(&str),
) -> Result<Choice, DebianError> {
    let apt = Apt::new(cache)?;
    apt.ensure_lists(progress)?;
    let mut names = apt.names("linux-image-")?;
    names.retain(|name| number(name, flavour).is_some());
    let fitting: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| fits(name, wanted, flavour))
        .collect();
    let choices = apt.versions(&fitting)?;
    let newest = choices
        .iter()
        .filter(|choice| version.is_none_or(|version| choice.version == version))
        .max_by_key(|choice| (numbers(&choice.name), numbers(&choice.version)));
    match (newest, version) {
        (Some(choice), _) => Ok(choice.clone()),
        (None, Some(version)) if !choices.is_empty() => {
            let name = format!("linux-image-{wanted}*{}", flavour.suffix());
            Err(apt::unknown_version(&name, version, choices))
        }
        _ => Err(DebianError::UnknownKernel {
            wanted: wanted.to_owned(),
            known: series(&names, flavour),
        }),
    }
}

/// A kernel that was unpacked before; for machines without network.
fn cached(
    cache: &Cache,
    wanted: &str,
    flavour: Flavour,
    version: Option<&str>,
) -> Option<Unpacked> {
    package::all_cached(cache)
        .into_iter()
        .filter(|package| fits(&package.name, wanted, flavour))
        .filter(|package| version.is_none_or(|version| package.version == version))
        .max_by_key(|package| (numbers(&package.name), numbers(&package.version)))
}

/// The part of a kernel package's name that is its version, such as `6.12.117+deb12`. Packages that
/// only depend on the current kernel (`linux-image-6.12-cloud-amd64`) have none.
fn number(name: &str, flavour: Flavour) -> Option<&str> {
    let number = name.strip_prefix("linux-image-")?;
    let number = number.strip_suffix(flavour.suffix())?;
    let complete = number.matches('.').count() >= 2;
    let plain = number.starts_with(|first: char| first.is_ascii_digit())
        && !number.ends_with("-cloud")
        && !number.ends_with("-rt");
    (complete && plain).then_some(number)
}

/// Whether a package's version begins with `wanted`, in whole numbers: 6.1 is not 6.12.
fn fits(name: &str, wanted: &str, flavour: Flavour) -> bool {
    let rest = number(name, flavour).and_then(|number| number.strip_prefix(wanted));
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// All numbers in a text, for comparing versions.
fn numbers(text: &str) -> Vec<u64> {
    text.split(|byte: char| !byte.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// The first two numbers of each kernel's version, once each, in order.
fn series(names: &[String], flavour: Flavour) -> Vec<String> {
    let found = names.iter().filter_map(|name| number(name, flavour));
    let mut found: Vec<Vec<u64>> = found
        .map(|number| numbers(number).into_iter().take(2).collect())
        .collect();
    found.sort();
    found.dedup();
    let text = |numbers: &Vec<u64>| {
        let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
        numbers.join(".")
    };
    found.iter().map(text).collect()
}

/// Where a user's own kernel is: a file, or a folder laid out like an unpacked package.
#[derive(Debug)]
pub(crate) enum Own {
    /// A kernel with every driver built in.
    File(Kernel),
    /// `boot/vmlinuz-*` and `lib/modules`.
    Folder(Unpacked),
}

/// The user's own kernel, if `wanted` is a path: if it has a `/`.
pub(crate) fn own(wanted: &str) -> Result<Option<Own>, DebianError> {
    if !wanted.contains('/') {
        return Ok(None);
    }
    let path = Path::new(wanted);
    let found = fs::metadata(path).map_err(|error| DebianError::io(path, error))?;
    if found.is_dir() {
        return Ok(Some(Own::Folder(Unpacked {
            folder: path.to_owned(),
            name: wanted.to_owned(),
            version: String::new(),
            sha256: String::new(),
        })));
    }
    let release = bzimage::release(path)?;
    let image = path.to_owned();
    Ok(Some(Own::File(Kernel { image, release })))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &[
        "linux-image-6.1.0-9-cloud-amd64",
        "linux-image-6.1.0-53-cloud-amd64",
        "linux-image-6.1.0-53-cloud-amd64-unsigned",
        "linux-image-6.1.0-53-rt-amd64",
        "linux-image-6.12.117+deb12-cloud-amd64",
        "linux-image-6.12.117+deb12-amd64",
        "linux-image-6.12-cloud-amd64",
        "linux-image-cloud-amd64",
        "linux-image-amd64-dbg",
    ];

    fn fitting(wanted: &str, flavour: Flavour) -> Vec<&'static str> {
        let names = NAMES.iter().copied();
        names.filter(|name| fits(name, wanted, flavour)).collect()
    }

    #[test]
    fn a_number_is_compared_in_whole_numbers() {
        let cloud = |wanted| fitting(wanted, Flavour::Cloud);
        assert_eq!(
            cloud("6.1"),
            [
                "linux-image-6.1.0-9-cloud-amd64",
                "linux-image-6.1.0-53-cloud-amd64"
            ]
        );
        assert_eq!(cloud("6.12"), ["linux-image-6.12.117+deb12-cloud-amd64"]);
        assert_eq!(cloud("6").len(), 3);
        assert_eq!(cloud("6.1.0-53").len(), 1);
        assert!(cloud("7").is_empty());
        assert_eq!(
            fitting("6.12", Flavour::Generic),
            ["linux-image-6.12.117+deb12-amd64"]
        );
    }

    #[test]
    fn the_newest_is_the_highest_number_not_the_last_letter() {
        let newest = fitting("6.1", Flavour::Cloud);
        let newest = newest.iter().max_by_key(|name| numbers(name));
        assert_eq!(newest, Some(&"linux-image-6.1.0-53-cloud-amd64"));
    }

    #[test]
    fn kernels_are_offered_by_their_first_two_numbers() {
        let names: Vec<String> = NAMES.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(series(&names, Flavour::Cloud), ["6.1", "6.12"]);
    }

    #[test]
    fn a_kernel_package_needs_its_image() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("lib/modules/6.0-x/kernel")).unwrap();
        let package = Unpacked {
            folder: folder.path().to_owned(),
            name: "linux-image-6.0-x".to_owned(),
            version: String::new(),
            sha256: String::new(),
        };
        let text = kernel_in(&package).unwrap_err().to_string();
        assert!(
            text.ends_with("it has no file boot/vmlinuz-6.0-x"),
            "{text}"
        );
        let image = folder.path().join("boot/vmlinuz-6.0-x");
        fs::create_dir_all(image.parent().unwrap()).unwrap();
        fs::write(&image, "x").unwrap();
        let release = "6.0-x".to_owned();
        assert_eq!(kernel_in(&package).unwrap(), Kernel { image, release });
    }

    #[test]
    fn a_path_is_the_users_own_kernel() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert!(matches!(own(path), Ok(Some(Own::Folder(_)))));
        assert!(
            own(&format!("{path}/none"))
                .unwrap_err()
                .to_string()
                .contains("none")
        );
        assert!(own("6.12").unwrap().is_none());
    }
}
