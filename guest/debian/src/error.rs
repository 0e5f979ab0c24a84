//! Why there is no package or no image, each with what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::ext4::Ext4Error;
use crate::modules::ModuleError;
use crate::root::RootError;

/// Why something could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// No package has this name.
    #[error("there is no Debian package `{name}`{}", offer(.near, "; did you mean"))]
    UnknownPackage {
        /// The name asked for.
        name: String,
        /// Names that exist and look like it.
        near: Vec<String>,
    },
    /// The package exists, but not in this version.
    #[error("the package `{name}` has no version {version}{}", offer(.known, "; there is"))]
    UnknownVersion {
        /// The package.
        name: String,
        /// The version asked for.
        version: String,
        /// Versions that can be had.
        known: Vec<String>,
    },
    /// A kernel was asked for by a version number that no package has.
    #[error("no Debian kernel is called `{wanted}`{}", offer(.known, "; there is"))]
    UnknownKernel {
        /// What was asked for.
        wanted: String,
        /// Version numbers that can be had.
        known: Vec<String>,
    },
    /// The packages can't be had together.
    #[error("the packages {packages} can't be put into one root: {reason}")]
    Unsatisfiable {
        /// The packages.
        packages: String,
        /// What apt says.
        reason: String,
    },
    /// A program is not installed.
    #[error(
        "`{tool}` was not found; install the Debian package `{package}` (apt-get install {package})"
    )]
    ToolMissing {
        /// The program.
        tool: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// A program ran and failed.
    #[error("`{tool}` failed ({status}): {reason}")]
    ToolFailed {
        /// The program.
        tool: &'static str,
        /// Its exit status.
        status: String,
        /// What it said.
        reason: String,
    },
    /// apt does not know what packages there are.
    #[error(
        "apt has no package lists and could not get them ({reason}); run `apt-get update` as root"
    )]
    NoLists {
        /// Why not.
        reason: String,
    },
    /// A package is known but can't be downloaded.
    #[error(
        "the package {package} could not be downloaded; is there a network? apt says: {reason}"
    )]
    Download {
        /// The package and its version.
        package: String,
        /// What apt says.
        reason: String,
    },
    /// There is no room for it.
    #[error("{path}: no space left; make room there or name another cache folder")]
    NoSpace {
        /// Where.
        path: PathBuf,
    },
    /// What should be a kernel is none.
    #[error("{what} is not a Linux kernel for guests: {reason}")]
    NotAKernel {
        /// The package or file.
        what: String,
        /// What is missing.
        reason: String,
    },
    /// The kernel's modules can't be had.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// A file can't be a guest's root.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A file can't be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl DebianError {
    /// Whether what was asked for can't be had on any machine: the remedy is to ask for something
    /// else.
    #[must_use]
    pub const fn is_of_the_request(&self) -> bool {
        match self {
            Self::Root(RootError::Image {
                error: Ext4Error::Io(_),
                ..
            }) => false,
            Self::UnknownPackage { .. }
            | Self::UnknownVersion { .. }
            | Self::UnknownKernel { .. }
            | Self::Unsatisfiable { .. }
            | Self::NotAKernel { .. }
            | Self::Module(_)
            | Self::Root(_) => true,
            _ => false,
        }
    }

    /// An error of a file, with a full disk told apart.
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            _ => Self::Io { path, error },
        }
    }
}

/// A list of what exists as the end of a sentence; nothing where nothing is known.
fn offer(names: &[String], words: &str) -> String {
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => format!("{words} {last}"),
        Some((last, others)) => format!("{words} {} or {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exists_is_offered() {
        let error = |known: &[&str]| {
            let known = known.iter().map(|&name| name.to_owned()).collect();
            let (name, version) = ("gcc".to_owned(), "7".to_owned());
            DebianError::UnknownVersion {
                name,
                version,
                known,
            }
            .to_string()
        };
        assert_eq!(error(&[]), "the package `gcc` has no version 7");
        assert_eq!(
            error(&["4:12"]),
            "the package `gcc` has no version 7; there is 4:12"
        );
        assert!(error(&["1", "2", "3"]).ends_with("; there is 1, 2 or 3"));
    }

    #[test]
    fn a_full_disk_says_where_and_what_to_do() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let text = DebianError::io(Path::new("/cache"), full).to_string();
        assert!(
            text.contains("/cache") && text.contains("make room"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let (tool, package) = ("mkfs.ext4", "e2fsprogs");
        let text = DebianError::ToolMissing { tool, package }.to_string();
        assert!(text.contains("apt-get install e2fsprogs"), "{text}");
    }
}
