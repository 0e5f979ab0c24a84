//! Linux guests in the experiment file: kernel, root file system, commands.
//!
//! Names only: packages and images are `mirrorball-debian`'s, booting is the monitor's.

use std::path::PathBuf;

use serde::Serialize;

use super::reader::{At, FromNode};
use super::text::{Node, Value};
use super::units::{Size, Time};

/// A Linux guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LinuxSpec {
    /// A series of Debian's cloud kernels (`6.12`), the name of a kernel package, or a path (with a
    /// `/`) of a bzImage or of a folder with `boot/` and `lib/modules/`.
    pub kernel: String,
    /// Version of that package; the newest where not given.
    pub version: Option<String>,
    /// Its root file system.
    pub root: RootSpec,
    /// Shell commands, run one after the other when all guests are up.
    pub run: Vec<String>,
    /// Kernel parameters after the monitor's own.
    pub command_line: String,
    /// How long it may take to boot; then it is ended, and the others go on.
    pub boot_timeout: Option<Time>,
    /// How long each command may take.
    pub command_timeout: Option<Time>,
}

/// The root file system of a Linux guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootSpec {
    /// None: commands run in the initramfs.
    None,
    /// A small one with busybox on a disk.
    Busybox,
    /// Debian packages and what they depend on, on a disk.
    Packages {
        /// Their names.
        packages: Vec<String>,
        /// Source packages, unpacked below `/usr/src`.
        sources: Vec<String>,
        /// Size of the file system; by default what is in it and some room.
        size: Option<Size>,
    },
    /// The user's own ext4 image.
    Image(PathBuf),
}

impl FromNode for LinuxSpec {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let fields = at.fields(node, "a map with `kernel`, `run`")?;
        let kernel = fields.need::<String>("kernel");
        let version = fields.get::<String>("version");
        let root = fields.or("root", RootSpec::Busybox);
        let run = fields.need::<Vec<String>>("run");
        let command_line = fields.or("command-line", String::new());
        let boot_timeout = fields.get("boot-timeout");
        let command_timeout = fields.get("command-timeout");
        fields.finish();
        Some(Self {
            kernel: kernel?,
            version,
            root,
            run: run?,
            command_line,
            boot_timeout,
            command_timeout,
        })
    }
}

impl FromNode for RootSpec {
    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        if let Value::Map(_) = node.value {
            let fields = at.fields(node, "a map with `packages` or `image`")?;
            let image = fields.get::<String>("image").map(PathBuf::from);
            if let Some(image) = image {
                fields.finish();
                return Some(Self::Image(image));
            }
            let packages = fields.need::<Vec<String>>("packages");
            let sources = fields.or("sources", Vec::new());
            let size = fields.get("size");
            fields.finish();
            return Some(Self::Packages {
                packages: packages?,
                sources,
                size,
            });
        }
        at.word(node, &[("none", 0), ("busybox", 1)])
            .map(|word| if word == 0 { Self::None } else { Self::Busybox })
    }
}
