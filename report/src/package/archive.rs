//! The archive: a gzipped tar that every system opens.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use thiserror::Error;

use crate::html::ReportError;
use crate::results::ResultsError;

/// Files by their names in the package, in order.
pub type Entries = BTreeMap<String, Vec<u8>>;

/// No package is larger when it is unpacked: a small file must not fill the memory.
const LARGEST: u64 = 4 << 30;

/// A package that could not be made or read.
#[derive(Debug, Error)]
pub enum PackageError {
    /// A file can't be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// An entry has a name or a kind that packages do not have.
    #[error("{}: {reason}", path.display())]
    Strange {
        /// The package.
        path: PathBuf,
        /// What is strange.
        reason: String,
    },
    /// The results can't be read.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The report can't be made.
    #[error(transparent)]
    Report(#[from] ReportError),
}

impl PackageError {
    pub(super) fn file(path: &Path, error: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            error,
        }
    }
}

/// Writes a package; all its files are in one folder of that name.
///
/// # Errors
/// It can't be written.
pub fn write(path: &Path, folder: &str, entries: &Entries) -> Result<(), PackageError> {
    let attempt = || -> io::Result<()> {
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let file = tempfile::Builder::new()
            .prefix(".unfinished-")
            .tempfile_in(parent.unwrap_or(Path::new(".")))?;
        let gzip = GzBuilder::new()
            .mtime(0)
            .write(file, Compression::default());
        let mut tar = tar::Builder::new(gzip);
        for (name, bytes) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            tar.append_data(&mut header, format!("{folder}/{name}"), bytes.as_slice())?;
        }
        let file = tar.into_inner()?.finish()?;
        let file = file.persist(path).map_err(|error| error.error)?;
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
    };
    attempt().map_err(|error| PackageError::file(path, error))
}

/// Reads a package.
///
/// # Errors
/// It can't be read, or it holds what packages do not hold: links, names that lead out of it.
pub fn read(path: &Path) -> Result<Entries, PackageError> {
    let failed = |error| PackageError::file(path, error);
    let strange = |reason: String| PackageError::Strange {
        path: path.to_owned(),
        reason,
    };
    let file = File::open(path).map_err(failed)?;
    let mut tar = tar::Archive::new(GzDecoder::new(io::BufReader::new(file)).take(LARGEST));
    let mut entries = Entries::new();
    for entry in tar.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let name = entry.path().map_err(failed)?.into_owned();
        if !entry.header().entry_type().is_file() {
            return Err(strange(format!("{} is no plain file", name.display())));
        }
        let inner = inner(&name)
            .ok_or_else(|| strange(format!("{} is no name of a package's file", name.display())))?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(failed)?;
        if entries.insert(inner, bytes).is_some() {
            return Err(strange(format!("{} is in it twice", name.display())));
        }
    }
    // The archive's checksum comes last; a reader of files only would never look at it.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(failed)?;
    Ok(entries)
}

/// The name inside the package's one folder.
fn inner(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => parts.push(name.to_str()?),
            _ => return None,
        }
    }
    (parts.len() > 1).then(|| parts[1..].join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(inner(Path::new("x/a/b")).as_deref(), Some("a/b"));
        for outside in ["x", "/etc/passwd", "x/../../y", "../x/y"] {
            assert_eq!(inner(Path::new(outside)), None, "{outside}");
        }
    }
}
