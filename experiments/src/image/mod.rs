//! Disk images: real files in ext4, built once and kept by content.
//!
//! An image's key is a digest of everything that can change its bytes: every file's path and
//! content, the table's seed, the version of `mkfs.ext4` and of this builder. The cache therefore
//! never serves an old image, and needs no cleaning of wrong ones.

mod build;
mod sources;
mod table;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mirrorball_debian::{DebianError, ext4};
use sha2::{Digest, Sha256};

pub use build::TABLE_BYTES;
pub use sources::{Entry, SourcesError};
pub use table::{GROUPS, ROW};

use crate::spec::{ImageSource, resolve};

/// Raised when the builder's output changes for the same files.
const BUILDER_VERSION: u32 = 2;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// `mkfs.ext4` is missing, failed or found no room.
    #[error(transparent)]
    Mkfs(#[from] DebianError),
    /// The files can't be listed.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// A file can't be read or written.
    #[error("{path}: {error}{}", remedy(.error))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The image that the experiment names is no good.
    #[error("{path}: {error}")]
    Ext4 {
        /// The image.
        path: PathBuf,
        /// Why.
        error: ext4::Ext4Error,
    },
}

/// What to do about an error of a file, where there is a thing to do.
fn remedy(error: &io::Error) -> &'static str {
    if crate::output::is_full(error) {
        "\n  make room there, or set XDG_CACHE_HOME to a folder with room for the image and its files"
    } else {
        ""
    }
}

impl ImageError {
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            error,
        }
    }
}

/// An image that is ready to be used.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Image {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of what it was made of (of the file itself where it was given as it is).
    pub digest: String,
    /// Files in it, where it was made here.
    pub files: Option<u64>,
    /// Whether it was there already.
    pub cached: bool,
}

/// The folder where images are kept: `$XDG_CACHE_HOME/mirrorball/images`, or below `~/.cache`.
#[must_use]
pub fn cache_folder() -> PathBuf {
    mirrorball_debian::default_cache().with_file_name("images")
}

/// The folder beside it where Debian packages, and what is made of them, are kept.
#[must_use]
pub fn packages_folder() -> PathBuf {
    mirrorball_debian::default_cache()
}

/// The image of a source, built if it is not in the cache yet.
///
/// # Errors
/// The source can't be read, there is no room, or `mkfs.ext4` is missing or fails.
pub fn prepare(
    source: &ImageSource,
    folder: &Path,
    seed: u64,
    cache: &Path,
) -> Result<Image, ImageError> {
    let entries = match source {
        ImageSource::File(path) => return given(&resolve(folder, path)),
        ImageSource::CargoRegistry { limit } => in_folder("src", sources::cargo_registry(limit.0)?),
        ImageSource::Directory(path) => sources::directory(&resolve(folder, path))?,
    };
    let digest = key(&entries, seed)?;
    let path = cache.join(format!("{digest}.ext4"));
    let cached = path.exists();
    if !cached {
        fs::create_dir_all(cache).map_err(|error| ImageError::io(cache, error))?;
        // Built under a name of its own and renamed: another builder of the same image does no
        // harm, and a killed one leaves nothing that looks like an image.
        let scratch = tempfile::Builder::new()
            .prefix(".building-")
            .tempdir_in(cache);
        let scratch = scratch.map_err(|error| ImageError::io(cache, error))?;
        let unfinished = scratch.path().join("image");
        build::build(&entries, seed, scratch.path(), &unfinished)?;
        fs::rename(&unfinished, &path).map_err(|error| ImageError::io(&path, error))?;
    }
    let bytes = fs::metadata(&path)
        .map_err(|error| ImageError::io(&path, error))?
        .len();
    Ok(Image {
        path,
        bytes,
        digest,
        files: Some(entries.len() as u64 + 1),
        cached,
    })
}

/// An image in a cache folder.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CachedDisk {
    /// What it was made of, as SHA-256.
    pub digest: String,
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// The images in a cache folder. A folder that does not exist has none.
#[must_use]
pub fn list(cache: &Path) -> Vec<CachedDisk> {
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    let image = |entry: fs::DirEntry| {
        let (path, name) = (entry.path(), entry.file_name());
        let digest = name.to_str()?.strip_suffix(".ext4")?.to_owned();
        let bytes = entry.metadata().ok().filter(fs::Metadata::is_file)?.len();
        Some(CachedDisk {
            digest,
            path,
            bytes,
        })
    };
    let mut found: Vec<_> = entries.filter_map(image).collect();
    found.sort_by(|one, two| one.digest.cmp(&two.digest));
    found
}

/// Entries moved below a folder of the image.
fn in_folder(folder: &str, entries: Vec<Entry>) -> Vec<Entry> {
    entries
        .into_iter()
        .map(|entry| Entry {
            to: Path::new(folder).join(entry.to),
            ..entry
        })
        .collect()
}

/// An image that is used as it is.
fn given(path: &Path) -> Result<Image, ImageError> {
    ext4::inspect(path).map_err(|error| ImageError::Ext4 {
        path: path.to_owned(),
        error,
    })?;
    as_it_is(path)
}

/// A file that is booted or read as it is, by its content.
///
/// # Errors
/// It can't be read.
pub fn as_it_is(path: &Path) -> Result<Image, ImageError> {
    let mut file = File::open(path).map_err(|error| ImageError::io(path, error))?;
    let mut digest = Sha256::new();
    let bytes = io::copy(&mut file, &mut Hashing(&mut digest))
        .map_err(|error| ImageError::io(path, error))?;
    Ok(Image {
        path: path.to_owned(),
        bytes,
        digest: hex(&digest.finalize()),
        files: None,
        cached: true,
    })
}

fn key(entries: &[Entry], seed: u64) -> Result<String, ImageError> {
    let version = ext4::version()?;
    let mut digest = Sha256::new();
    digest.update(format!(
        "{BUILDER_VERSION} {version} {seed} {TABLE_BYTES}\n"
    ));
    for entry in entries {
        digest.update(format!("{} {}\n", entry.size, entry.to.display()));
        let mut file =
            File::open(&entry.from).map_err(|error| ImageError::io(&entry.from, error))?;
        io::copy(&mut file, &mut Hashing(&mut digest))
            .map_err(|error| ImageError::io(&entry.from, error))?;
    }
    Ok(hex(&digest.finalize()))
}

struct Hashing<'a>(&'a mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_built_once_and_again_when_a_file_changes() {
        let (files, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(files.path().join("a"), "one").unwrap();
        let source = ImageSource::Directory(files.path().to_owned());
        let prepare = || prepare(&source, Path::new("."), 1, cache.path()).unwrap();
        let first = prepare();
        assert!(!first.cached);
        assert!(prepare().cached);
        fs::write(files.path().join("a"), "two").unwrap();
        let second = prepare();
        assert!(!second.cached && second.digest != first.digest);
        let left = fs::read_dir(cache.path()).unwrap().count();
        assert_eq!(left, 2, "something half-built was left");
        fs::create_dir(cache.path().join(".building-x")).unwrap();
        let listed = list(cache.path());
        let is_there = |image: &Image| listed.iter().any(|disk| disk.path == image.path);
        assert!(listed.len() == 2 && is_there(&first) && is_there(&second));
        assert!(list(&cache.path().join("none")).is_empty());
    }

    #[test]
    fn a_given_image_that_is_none_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = ImageSource::File(file.path().to_owned());
        let error = prepare(&source, Path::new("/"), 1, Path::new("/nowhere")).unwrap_err();
        assert!(error.to_string().contains("not an ext4 image"), "{error}");
    }
}
