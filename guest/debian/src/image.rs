//! Guest images: a kernel, its initramfs and a root, made of what a [`GuestImageSpec`] names.
//!
//! In the cache, `images/<id>/` holds the kernel, the initramfs and a description; roots lie beside
//! them (`roots/<id>.ext4`), since guests of several kernels may share one. An id is a digest of
//! everything that went in, so an image in the cache is never out of date.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::DebianError;
use crate::cache::{Cache, digest, digest_of};
use crate::cpio::Archive;
use crate::kernel::{Flavour, Kernel, Own, fetch_kernel_into, kernel_in, own};
use crate::modules::{Module, Tree};
use crate::package::{Unpacked, fetch_into};
use crate::root::{self, Root, applets, busybox_in, check_root};

/// Raised when the builder's output changes for the same contents.
const BUILDER_VERSION: &[u8] = b"2";
/// The first process of every guest.
const INIT: &[u8] = include_bytes!("init.sh");
/// What connects it to the host: `connect.s`, assembled.
const CONNECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/connect"));
/// Modules without which a guest can't be talked to, or has no root.
const NEEDED: &[&str] = &["virtio_mmio", "virtio_console", "virtio_blk", "ext4"];
/// Modules that are loaded where the kernel has them.
const WELCOME: &[&str] = &[
    "crc32c_generic",
    "virtio_balloon",
    "virtio_rng",
    "vmw_vsock_virtio_transport",
];
const DESCRIPTION: &str = "image.json";
/// Digits of an id in file names: more than enough to tell images apart.
const DIGITS: usize = 20;

/// What a guest image is to be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestImageSpec {
    /// The beginning of a kernel's version number (`6.12`: the newest such cloud kernel), a kernel
    /// package's name, or a path (anything with a `/`): a bzImage with every driver built in, or a
    /// folder with `boot/vmlinuz-*` and `lib/modules`.
    pub kernel: String,
    /// The kernel package's version; by default the one that apt would install.
    pub version: Option<String>,
    /// The root.
    pub root: Root,
    /// Bytes of the root's file system; by default its contents and 256 MiB.
    pub size: Option<u64>,
    /// Kernel modules that are loaded besides those which every guest needs, with all that they depend
    /// on. A bzImage must have them built in.
    pub modules: Vec<String>,
}

/// A guest image that is ready to be booted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestImage {
    /// The kernel (bzImage).
    pub kernel: PathBuf,
    /// The initramfs, to be followed by a [`job`](crate::job).
    pub initramfs: PathBuf,
    /// The root's ext4 image, to be the guest's first disk. Images are shared: give guests an
    /// overlay of it.
    pub root: Option<PathBuf>,
    /// The kernel's release, as `uname -r` says it.
    pub release: String,
    /// What it is made of, as a digest.
    pub id: String,
}

/// An image in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedImage {
    /// The kernel's package and version, or its path.
    pub kernel: String,
    /// The root, in words.
    pub root: String,
    /// Bytes on disk, of kernel, initramfs and root.
    pub bytes: u64,
    /// The image.
    pub image: GuestImage,
}

/// The image that `spec` describes, built in the folder `cache` if it is not there yet. `progress`
/// is told what is being done, in one short line each time.
///
/// # Errors
/// See [`DebianError`]. Nothing half-built is left in the cache.
pub fn guest_image(
    spec: &GuestImageSpec,
    cache: &Path,
    progress: &dyn Fn(&str),
) -> Result<GuestImage, DebianError> {
    // What is wrong with the user's own files is said before anything is downloaded.
    let own = own(&spec.kernel)?;
    if let Root::Image(path) = &spec.root {
        check_root(path)?;
    }
    let cache = Cache::open(cache, progress)?;
    let source = Source::find(spec, own, &cache, progress)?;
    let busybox = fetch_into(&cache, "busybox-static", None, progress)?;
    let root = root::prepare(&spec.root, spec.size, &busybox, &cache, progress)?;
    let root_id = root.as_ref().map_or("", |root| root.id.as_str());
    let asked = spec.modules.iter().map(String::as_str);
    let modules: Vec<&str> = (WELCOME.iter().chain(NEEDED).copied())
        .chain(asked)
        .collect();
    let modules = modules.join(" ");
    let id = digest(&[
        BUILDER_VERSION,
        source.id.as_bytes(),
        INIT,
        CONNECT,
        modules.as_bytes(),
        busybox.sha256.as_bytes(),
        root_id.as_bytes(),
    ]);
    let place = format!("images/{}", &id[..DIGITS]);
    if let Some(found) = read(&cache.path(&place)) {
        return Ok(found.image);
    }
    progress(&format!("building the image of {}", source.name));
    let image = GuestImage {
        kernel: cache.path(&place).join("vmlinuz"),
        initramfs: cache.path(&place).join("initramfs"),
        root: root.map(|root| root.path),
        release: source.kernel.release.clone(),
        id,
    };
    let initramfs = initramfs(
        &busybox,
        &source.modules(&spec.modules)?,
        image.root.is_some(),
    )?;
    let described = CachedImage {
        kernel: source.name,
        root: spec.root.to_string(),
        bytes: 0,
        image,
    };
    keep(&cache, &place, &source.kernel.image, &initramfs, &described)?;
    Ok(described.image)
}

/// Puts an image together and gives it its place in the cache.
fn keep(
    cache: &Cache,
    place: &str,
    kernel: &Path,
    initramfs: &[u8],
    described: &CachedImage,
) -> Result<(), DebianError> {
    let scratch = cache.scratch()?;
    let made = scratch.path().join("image");
    fs::create_dir(&made).map_err(|error| DebianError::io(&made, error))?;
    write(&made.join("initramfs"), initramfs)?;
    let copy = made.join("vmlinuz");
    fs::hard_link(kernel, &copy)
        .or_else(|_| fs::copy(kernel, &copy).map(|_| ()))
        .map_err(|error| DebianError::io(kernel, error))?;
    let path = made.join(DESCRIPTION);
    let text = serde_json::to_vec_pretty(described)
        .map_err(|error| DebianError::io(&path, error.into()))?;
    write(&path, &text)?;
    cache.keep(&made, place)?;
    Ok(())
}

/// The images in a cache folder, by release and root. A folder that does not exist has none.
#[must_use]
pub fn list(cache: &Path) -> Vec<CachedImage> {
    let entries = fs::read_dir(cache.join("images")).into_iter().flatten();
    let mut found: Vec<CachedImage> = entries
        .flatten()
        .filter_map(|entry| read(&entry.path()))
        .collect();
    found.sort_by(|one, two| {
        let key = |cached: &CachedImage| (cached.image.release.clone(), cached.root.clone());
        key(one).cmp(&key(two))
    });
    found
}

/// The image in a folder of the cache, if it is all there.
fn read(folder: &Path) -> Option<CachedImage> {
    let text = fs::read(folder.join(DESCRIPTION)).ok()?;
    let described: CachedImage = serde_json::from_slice(&text).ok()?;
    // The cache may have been moved, with its roots.
    let root = match described.image.root {
        Some(root) => Some(moved(root, folder)?),
        None => None,
    };
    let image = GuestImage {
        kernel: folder.join("vmlinuz"),
        initramfs: folder.join("initramfs"),
        root,
        ..described.image
    };
    let files = [
        Some(&image.kernel),
        Some(&image.initramfs),
        image.root.as_ref(),
    ];
    let mut bytes = 0;
    for file in files.into_iter().flatten() {
        bytes += on_disk(file).ok()?;
    }
    Some(CachedImage {
        bytes,
        image,
        ..described
    })
}

/// Where a root is now, if it still is.
fn moved(root: PathBuf, folder: &Path) -> Option<PathBuf> {
    if root.is_file() {
        return Some(root);
    }
    let roots = folder.parent()?.parent()?.join("roots");
    let path = roots.join(root.file_name()?);
    path.is_file().then_some(path)
}

/// Bytes that a file takes; root images have holes.
fn on_disk(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(path)?.blocks() * 512)
}

/// Where an image's kernel comes from.
#[derive(Debug)]
struct Source {
    name: String,
    /// What its bytes depend on.
    id: String,
    kernel: Kernel,
    package: Option<Unpacked>,
}

impl Source {
    fn find(
        spec: &GuestImageSpec,
        own: Option<Own>,
        cache: &Cache,
        progress: &dyn Fn(&str),
    ) -> Result<Self, DebianError> {
        let package = match own {
            Some(Own::File(kernel)) => {
                return Ok(Self {
                    name: kernel.image.display().to_string(),
                    id: format!("file {}", digest_of(&kernel.image)?),
                    kernel,
                    package: None,
                });
            }
            Some(Own::Folder(package)) => package,
            None => {
                let version = spec.version.as_deref();
                fetch_kernel_into(cache, &spec.kernel, Flavour::Cloud, version, progress)?
            }
        };
        let kernel = kernel_in(&package)?;
        let id = if package.sha256.is_empty() {
            format!("folder {}", own_id(&kernel, &package, &spec.modules)?)
        } else {
            format!("package {}", package.sha256)
        };
        let name = format!("{} {}", package.name, package.version);
        Ok(Self {
            name: name.trim().to_owned(),
            id,
            kernel,
            package: Some(package),
        })
    }

    /// The modules for a guest, in load order.
    fn modules(&self, asked: &[String]) -> Result<Vec<Module>, DebianError> {
        let package = self.package.as_ref();
        package.map_or(Ok(Vec::new()), |package| guest_modules(package, asked))
    }
}

fn guest_modules(package: &Unpacked, asked: &[String]) -> Result<Vec<Module>, DebianError> {
    let tree = Tree::open(&package.folder, &package.name)?;
    let welcome = WELCOME.iter().filter(|name| tree.has(name));
    let asked = asked.iter().map(String::as_str);
    let wanted: Vec<&str> = welcome.chain(NEEDED).copied().chain(asked).collect();
    tree.closure(&wanted)
}

/// What a user's own kernel and its modules are known by: their contents, since they may change in
/// place.
fn own_id(kernel: &Kernel, package: &Unpacked, asked: &[String]) -> Result<String, DebianError> {
    let kernel = digest_of(&kernel.image)?;
    let modules = guest_modules(package, asked)?;
    let modules = modules.iter().map(|module| module.bytes.as_slice());
    let parts: Vec<&[u8]> = [kernel.as_bytes()].into_iter().chain(modules).collect();
    Ok(digest(&parts))
}

/// The guest's initramfs: busybox by all its names, the modules by number, and `init`.
fn initramfs(busybox: &Unpacked, modules: &[Module], root: bool) -> Result<Vec<u8>, DebianError> {
    let path = busybox_in(busybox);
    let program = fs::read(&path).map_err(|error| DebianError::io(&path, error))?;
    let mut archive = Archive::new();
    for folder in ["dev", "proc", "sys", "modules"] {
        archive.dir(folder);
    }
    for name in applets(busybox)? {
        archive.link(&name, "/bin/busybox");
    }
    archive.file("bin/busybox", 0o755, &program);
    archive.file("bin/connect", 0o755, CONNECT);
    archive.file("init", 0o755, INIT);
    for (number, module) in modules.iter().enumerate() {
        let name = format!("modules/{number:03}-{}.ko", module.name);
        archive.file(&name, 0o644, &module.bytes);
    }
    if root {
        archive.file("etc/mirrorball/root", 0o644, b"/dev/vda\n");
    }
    Ok(archive.finish())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DebianError> {
    fs::write(path, bytes).map_err(|error| DebianError::io(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn without_a_host_that_listens_init_begins_with_no_stream_and_what_it_was_given() {
        let program = concat!(env!("OUT_DIR"), "/connect");
        let script = "echo \"$0 $1 $WORD\"; [ -e /proc/self/fd/3 ] || echo none";
        let said = Command::new(program)
            .args(["/bin/sh", "-c", script, "name", "argument"])
            .env("WORD", "word")
            .output()
            .unwrap();
        let text = String::from_utf8(said.stdout).unwrap();
        assert_eq!(text, "name argument word\nnone\n");
        let nothing = Command::new(program).status().unwrap();
        assert_eq!(nothing.code(), Some(127));
    }

    fn put(cache: &Path, name: &str, release: &str, root: Option<PathBuf>) {
        let folder = cache.join("images").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("vmlinuz"), "k").unwrap();
        fs::write(folder.join("initramfs"), "i").unwrap();
        let described = CachedImage {
            kernel: "linux 1".to_owned(),
            root: "busybox".to_owned(),
            bytes: 0,
            image: GuestImage {
                kernel: PathBuf::new(),
                initramfs: PathBuf::new(),
                root,
                release: release.to_owned(),
                id: name.to_owned(),
            },
        };
        let text = serde_json::to_vec(&described).unwrap();
        fs::write(folder.join(DESCRIPTION), text).unwrap();
    }

    #[test]
    fn what_is_complete_is_listed_in_order() {
        let cache = tempfile::tempdir().unwrap();
        assert!(list(&cache.path().join("none")).is_empty());
        fs::create_dir(cache.path().join("roots")).unwrap();
        fs::write(cache.path().join("roots/r.ext4"), "r").unwrap();
        put(
            cache.path(),
            "b",
            "6.12",
            Some("/moved/away/roots/r.ext4".into()),
        );
        put(cache.path(), "a", "6.1", None);
        put(cache.path(), "c", "6.2", Some("/gone/roots/x.ext4".into()));
        put(cache.path(), "d", "6.3", None);
        fs::remove_file(cache.path().join("images/d/initramfs")).unwrap();
        let found = list(cache.path());
        let releases: Vec<_> = found.iter().map(|one| one.image.release.as_str()).collect();
        assert_eq!(releases, ["6.1", "6.12"]);
        assert_eq!(found[1].image.root, Some(cache.path().join("roots/r.ext4")));
        assert!(found[1].bytes > 0);
    }

    #[test]
    fn a_users_bad_root_or_kernel_is_refused_before_the_cache_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let mut spec = GuestImageSpec {
            kernel: "6.12".to_owned(),
            version: None,
            root: Root::Image(folder.path().join("none")),
            size: None,
            modules: Vec::new(),
        };
        assert!(guest_image(&spec, &cache, &|_| ()).is_err());
        spec.kernel = "./no/such/kernel".to_owned();
        spec.root = Root::None;
        let text = guest_image(&spec, &cache, &|_| ()).unwrap_err().to_string();
        assert!(text.contains("no/such/kernel"), "{text}");
        assert!(!cache.exists());
    }
}
