//! Root file systems: a busybox, or Debian packages with all they depend on, as an ext4 image.
//!
//! Packages are chosen by apt's own solver, on paper, for a machine that has nothing; then they are
//! unpacked (see [`stage`] for what that leaves out). No root is needed, and the same packages
//! give the same bytes.

mod check;
mod ext4;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};

pub use check::{RootError, check_root};

use crate::DebianError;
use crate::apt::{self, Apt, Choice};
use crate::cache::{Cache, digest};
use crate::package::{Unpacked, fetch_all};
use crate::source::fetch_sources;
use crate::tool::Tool;
use ext4::Room;
use stage::Stage;

/// Raised when the builder's output changes for the same packages.
const BUILDER_VERSION: &str = "1";
/// What every full root has: a shell and the tools that scripts expect.
const BASE: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "mawk",
    "sed",
    "tar",
    "usr-is-merged",
    "util-linux",
];
/// Free room in a root whose size is not given.
const FREE: u64 = 256 << 20;

/// A guest's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// None: commands run in the initramfs, with busybox.
    None,
    /// A small ext4 image with busybox and nothing else.
    Busybox,
    /// An ext4 image with these Debian packages (`name` or `name=version`), all they depend on, and
    /// the usual small tools.
    Full {
        /// The packages.
        packages: Vec<String>,
        /// Source packages (`name` or `name=version`), each unpacked below `/usr/src/NAME`.
        sources: Vec<String>,
    },
    /// The user's own ext4 image, used as it is.
    Image(PathBuf),
}

impl std::fmt::Display for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Busybox => f.write_str("busybox"),
            Self::Full { packages, sources } => {
                f.write_str("debian")?;
                if !packages.is_empty() {
                    write!(f, " with {}", packages.join(" "))?;
                }
                if !sources.is_empty() {
                    write!(f, ", sources of {}", sources.join(" "))?;
                }
                Ok(())
            }
            Self::Image(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A root that is ready.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// The image.
    pub(crate) path: PathBuf,
    /// SHA-256 of what it was made of.
    pub(crate) id: String,
}

/// The root's image, built if it is not in the cache yet; none for [`Root::None`].
pub(crate) fn prepare(
    root: &Root,
    size: Option<u64>,
    busybox: &Unpacked,
    cache: &Cache,
    progress: &dyn Fn(&str),
) -> Result<Option<Made>, DebianError> {
    let packages = match root {
        Root::None => return Ok(None),
        Root::Image(path) => return given(path).map(Some),
        Root::Busybox => Vec::new(),
        Root::Full { packages, sources } => {
            let mut all = chosen(packages, cache, progress)?;
            all.extend(fetch_sources(cache, sources, progress)?);
            all
        }
    };
    let parts = [
        BUILDER_VERSION.to_owned(),
        crate::ext4::version()?,
        format!("{size:?}"),
        describe(&packages, busybox),
    ];
    let id = digest(&parts.each_ref().map(String::as_bytes));
    let name = format!("roots/{id}.ext4");
    let path = cache.path(&name);
    if path.is_file() {
        return Ok(Some(Made { path, id }));
    }
    progress(&format!("building the root image ({root})"));
    let scratch = cache.scratch()?;
    let folder = scratch.path().join("root");
    let stage = Stage::new(&folder, !packages.is_empty())?;
    for package in &packages {
        stage.lay(&package.folder)?;
    }
    add_busybox(&stage, busybox, packages.is_empty())?;
    stage.configure()?;
    let image = scratch.path().join("image");
    let room = size.map_or(Room::Free(FREE), Room::Total);
    ext4::make(&folder, room, &image)?;
    // First what it holds: the image is what says that all is there.
    let listing = scratch.path().join("packages");
    fs::write(&listing, describe(&packages, busybox))
        .map_err(|error| DebianError::io(&listing, error))?;
    cache.keep(&listing, &format!("roots/{id}.packages"))?;
    let path = cache.keep(&image, &name)?;
    Ok(Some(Made { path, id }))
}

/// The packages of a root, one in a line.
fn describe(packages: &[Unpacked], busybox: &Unpacked) -> String {
    let all = packages.iter().chain([busybox]);
    all.map(|package| {
        let Unpacked {
            name,
            version,
            sha256,
            ..
        } = package;
        format!("{name} {version} {sha256}\n")
    })
    .collect()
}

/// An image that is used as it is. It is known by its place, size and time.
fn given(path: &Path) -> Result<Made, DebianError> {
    check_root(path)?;
    let io = |error| DebianError::io(path, error);
    let path = path.canonicalize().map_err(io)?;
    let found = fs::metadata(&path).map_err(io)?;
    let time = format!("{:?} {}", found.modified().map_err(io)?, found.len());
    let id = digest(&[path.as_os_str().as_encoded_bytes(), time.as_bytes()]);
    Ok(Made { path, id })
}

/// The packages of a full root, unpacked.
fn chosen(
    packages: &[String],
    cache: &Cache,
    progress: &dyn Fn(&str),
) -> Result<Vec<Unpacked>, DebianError> {
    let apt = Apt::new(cache)?;
    if let Some(name) = packages.iter().find(|package| !apt::is_request(package)) {
        return Err(apt.unknown(name));
    }
    apt.ensure_lists(progress)?;
    progress("choosing packages");
    let mut choices: Vec<Choice> = apt.solve(BASE, packages)?;
    choices.dedup();
    fetch_all(cache, &choices, progress)
}

/// Puts busybox into a root: as every program where there is nothing else, and as `/sbin/init`
/// where no package brings one.
fn add_busybox(stage: &Stage<'_>, busybox: &Unpacked, alone: bool) -> Result<(), DebianError> {
    let path = busybox_in(busybox);
    let bytes = fs::read(&path).map_err(|error| DebianError::io(&path, error))?;
    stage.file("bin/busybox", 0o755, &bytes)?;
    if alone {
        for name in applets(busybox)? {
            stage.link(&name, "/bin/busybox")?;
        }
    }
    stage.link("sbin/init", "/bin/busybox")
}

/// The program in the package `busybox-static`.
pub(crate) fn busybox_in(package: &Unpacked) -> PathBuf {
    let places = ["usr/bin/busybox", "bin/busybox"].map(|place| package.folder.join(place));
    let [usr, bin] = places;
    if usr.is_file() { usr } else { bin }
}

/// The names by which busybox can be called, as paths below `/`.
pub(crate) fn applets(busybox: &Unpacked) -> Result<Vec<String>, DebianError> {
    const BUSYBOX: Tool = Tool::new("busybox", "busybox-static");
    let output = BUSYBOX.output_at(&busybox_in(busybox), &["--list-full"])?;
    let text = BUSYBOX.check(Path::new("/"), output)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_told_in_words() {
        let packages = vec!["gcc".to_owned(), "make".to_owned()];
        let full = |packages, sources| Root::Full { packages, sources }.to_string();
        assert_eq!(full(packages.clone(), Vec::new()), "debian with gcc make");
        let sources = vec!["lua5.4".to_owned()];
        assert_eq!(
            full(packages, sources),
            "debian with gcc make, sources of lua5.4"
        );
        assert_eq!(Root::Busybox.to_string(), "busybox");
        assert_eq!(Root::Image("/x/y".into()).to_string(), "/x/y");
    }

    #[test]
    fn a_given_image_is_checked_first() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = given(file.path()).unwrap_err();
        assert!(
            matches!(error, DebianError::Root(RootError::Image { .. })),
            "{error}"
        );
    }
}
