//! `mirrorball image`: what guests boot and read, made before a run or looked at afterwards.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use mirrorball_debian::{CachedImage, DebianError, GuestImage, GuestImageSpec, Root};
use mirrorball_experiments::run::{RunError, linux};
use mirrorball_experiments::spec::{ImageSource, Size};
use mirrorball_experiments::{exit, image};

use crate::{load, print};

/// Digits of an id that are shown.
const DIGITS: usize = 12;

/// What `image` is asked for.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct ImageCommand {
    #[command(subcommand)]
    other: Option<Other>,
    /// An experiment file, or a folder of files
    #[arg(required = true)]
    source: Option<PathBuf>,
    /// Seed of the table file (of a folder's image)
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Subcommand)]
enum Other {
    /// List the images in the cache
    List,
    /// Make what a Linux guest boots from Debian packages, and print where it is
    Linux(LinuxOptions),
}

#[derive(Args)]
struct LinuxOptions {
    /// A kernel series such as 6.12, a kernel package, or a path (with a /)
    #[arg(long)]
    kernel: String,
    /// Version of the kernel package [default: what apt would install]
    #[arg(long)]
    version: Option<String>,
    /// Without packages: `none`, `busybox`, or the path of an ext4 image
    #[arg(long, default_value = "busybox", conflicts_with_all = ["package", "source"])]
    root: String,
    /// A Debian package in the root, NAME or NAME=VERSION, with what it depends on (may be repeated)
    #[arg(long, value_name = "NAME")]
    package: Vec<String>,
    /// A Debian source package in the root, below /usr/src (may be repeated)
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Size of the root's file system [default: what is in it and 256 MiB]
    #[arg(long)]
    size: Option<Size>,
    /// A kernel module to be loaded besides those that every guest needs (may be repeated)
    #[arg(long, value_name = "NAME")]
    module: Vec<String>,
}

impl LinuxOptions {
    fn wanted(&self) -> GuestImageSpec {
        let (packages, sources) = (self.package.clone(), self.source.clone());
        let root = match self.root.as_str() {
            _ if !packages.is_empty() || !sources.is_empty() => Root::Full { packages, sources },
            "none" => Root::None,
            "busybox" => Root::Busybox,
            path => Root::Image(path.into()),
        };
        GuestImageSpec {
            kernel: self.kernel.clone(),
            version: self.version.clone(),
            root,
            size: self.size.map(|size| size.0),
            modules: self.module.clone(),
        }
    }
}

/// Does it; the exit code.
pub(crate) fn run(command: &ImageCommand, json: bool) -> anyhow::Result<u8> {
    match (&command.other, &command.source) {
        (Some(Other::List), _) => list(json),
        (Some(Other::Linux(options)), _) => linux(options, json),
        (None, Some(source)) => make(source, command.seed, json),
        (None, None) => Ok(exit::USAGE),
    }
}

/// The disk images, and what the Linux guests boot, of an experiment or a folder.
fn make(source: &Path, seed: u64, json: bool) -> anyhow::Result<u8> {
    let (sources, folder, seed, experiment) = if source.is_dir() {
        let source = ImageSource::Directory(source.to_owned());
        let sources = vec![("directory".to_owned(), source)];
        (sources, PathBuf::from("."), seed, None)
    } else {
        match load(source, &[], None) {
            Ok(loaded) => {
                let seed = loaded.experiment.seed;
                let sources = loaded.experiment.images.clone().into_iter().collect();
                (sources, loaded.folder, seed, Some(loaded.experiment))
            }
            Err(code) => return Ok(code),
        }
    };
    let mut made = serde_json::Map::new();
    for (id, source) in sources {
        let image = match image::prepare(&source, &folder, seed, &image::cache_folder()) {
            Ok(image) => image,
            Err(error) => {
                eprintln!("mirrorball: image {id}: {error}");
                return Ok(exit::HOST);
            }
        };
        if !json {
            let (path, size) = (image.path.display(), image.bytes >> 20);
            print(&format!("{id}: {path} ({size} MiB)\n"))?;
        }
        made.insert(id, serde_json::to_value(image)?);
    }
    if let Some(experiment) = experiment {
        match linux::prepare(&experiment, &folder, &|line| eprintln!("{line}")) {
            Ok(images) => {
                for (id, image) in images.of(&experiment) {
                    if !json {
                        print(&format!("{id}: {}", told(&image)))?;
                    }
                    made.insert(id, serde_json::to_value(image)?);
                }
            }
            Err(error) => return Ok(refused(&error)),
        }
    }
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&made)?))?;
    }
    Ok(exit::OK)
}

fn refused(error: &RunError) -> u8 {
    eprintln!("mirrorball: {error}");
    error.exit_code()
}

/// One image that a Linux guest boots.
fn linux(options: &LinuxOptions, json: bool) -> anyhow::Result<u8> {
    let (wanted, cache) = (options.wanted(), image::packages_folder());
    match mirrorball_debian::guest_image(&wanted, &cache, &|line| eprintln!("{line}")) {
        Ok(image) if json => print(&format!("{}\n", serde_json::to_string_pretty(&image)?))?,
        Ok(image) => print(&told(&image))?,
        Err(error) => {
            eprintln!("mirrorball: {error}");
            let asked = DebianError::is_of_the_request(&error);
            return Ok(if asked { exit::USAGE } else { exit::HOST });
        }
    }
    Ok(exit::OK)
}

/// An image in lines for people.
fn told(image: &GuestImage) -> String {
    let root = image.root.as_deref();
    let root = root.map_or_else(|| "none".into(), |root| root.display().to_string());
    format!(
        "Linux {}\n  kernel     {}\n  initramfs  {}\n  root       {root}\n",
        image.release,
        image.kernel.display(),
        image.initramfs.display()
    )
}

/// What is in the cache.
fn list(json: bool) -> anyhow::Result<u8> {
    let (packages, disks) = (image::packages_folder(), image::cache_folder());
    let (guests, files) = (mirrorball_debian::list(&packages), image::list(&disks));
    if json {
        let all = serde_json::json!({ "linux": guests, "disks": files });
        print(&format!("{all:#}\n"))?;
        return Ok(exit::OK);
    }
    let mut text = format!("Linux guests, in {}:\n", packages.display());
    for guest in &guests {
        text += &row(guest);
    }
    if guests.is_empty() {
        text += "  none\n";
    }
    text += &format!("disk images, in {}:\n", disks.display());
    for file in &files {
        let id: String = file.digest.chars().take(DIGITS).collect();
        text += &format!("  {id}  {:>6} MiB\n", file.bytes >> 20);
    }
    if files.is_empty() {
        text += "  none\n";
    }
    print(&text)?;
    Ok(exit::OK)
}

fn row(cached: &CachedImage) -> String {
    let CachedImage {
        kernel,
        root,
        bytes,
        image,
    } = cached;
    let id: String = image.id.chars().take(DIGITS).collect();
    let (release, size) = (&image.release, bytes >> 20);
    format!("  {id}  {size:>6} MiB  {release}, root {root} (from {kernel})\n")
}
