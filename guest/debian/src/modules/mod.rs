//! A kernel's modules in the order in which they can be loaded, from the package itself.
//!
//! `depmod` runs when a kernel package is installed, which never happens here. What it would find
//! stands in the modules: the section `.modinfo` names what a module needs (`depends=`) and what is
//! to be loaded before it (`softdep=pre:`).

mod modinfo;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::tool::Tool;
use crate::{DebianError, Unpacked};
use modinfo::Needs;

/// Why a kernel's modules can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The kernel has no module of this name, nor is it built in.
    #[error("the kernel {release} has no module `{name}`{}", .needed_by.as_ref().map(|by| format!(", which `{by}` needs")).unwrap_or_default())]
    Missing {
        /// The module.
        name: String,
        /// The kernel.
        release: String,
        /// The module that depends on it.
        needed_by: Option<String>,
    },
    /// A module's file is damaged.
    #[error("{path} is not a kernel module: {reason}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A kernel module, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name as the kernel has it, with `_` and never `-`.
    pub name: String,
    /// The file's content, decompressed.
    pub bytes: Vec<u8>,
}

/// The modules `wanted` and all that they depend on, each after those it needs. Names that are
/// built into the kernel are left out, as are modules wanted twice; `-` and `_` are the same.
///
/// # Errors
/// A module does not exist or is damaged, or the package is no kernel.
pub fn closure(kernel: &Unpacked, wanted: &[&str]) -> Result<Vec<Module>, DebianError> {
    Tree::open(&kernel.folder, &kernel.name)?.closure(wanted)
}

/// The modules of one kernel.
#[derive(Debug)]
pub(crate) struct Tree {
    release: String,
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Tree {
    /// The modules below `folder`, which is laid out like `/`. `what` is its name in errors.
    pub(crate) fn open(folder: &Path, what: &str) -> Result<Self, DebianError> {
        let not = |reason: &str| DebianError::NotAKernel {
            what: what.to_owned(),
            reason: reason.to_owned(),
        };
        let places = ["lib/modules", "usr/lib/modules"].map(|place| folder.join(place));
        let modules = places.iter().find(|place| place.is_dir());
        let modules = modules.ok_or_else(|| {
            not("it has no folder lib/modules (packages that only depend on a kernel have none)")
        })?;
        let entries = fs::read_dir(modules).map_err(|error| DebianError::io(modules, error))?;
        let mut releases: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.join("kernel").is_dir())
            .collect();
        let release = match (releases.pop(), releases.is_empty()) {
            (Some(release), true) => release,
            (None, _) => return Err(not("there are no modules in lib/modules")),
            (Some(_), false) => return Err(not("lib/modules has modules of several kernels")),
        };
        let mut files = BTreeMap::new();
        collect(&release.join("kernel"), &mut files)?;
        // A kernel without this list has nothing built in that could be asked for.
        let builtin = fs::read_to_string(release.join("modules.builtin")).unwrap_or_default();
        Ok(Self {
            release: file_name(&release),
            files,
            builtin: builtin.lines().filter_map(module_name).collect(),
        })
    }

    /// The kernel's release, as `uname -r` says it.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// Whether the module exists or is built in.
    pub(crate) fn has(&self, name: &str) -> bool {
        let name = name.replace('-', "_");
        self.files.contains_key(&name) || self.builtin.contains(&name)
    }

    /// See [`closure`].
    pub(crate) fn closure(&self, wanted: &[&str]) -> Result<Vec<Module>, DebianError> {
        let mut walk = Walk {
            tree: self,
            seen: BTreeSet::new(),
            order: Vec::new(),
        };
        for name in wanted {
            walk.visit(&name.replace('-', "_"), None)?;
        }
        Ok(walk.order)
    }
}

/// A depth-first walk over what modules need.
struct Walk<'a> {
    tree: &'a Tree,
    seen: BTreeSet<String>,
    order: Vec<Module>,
}

impl Walk<'_> {
    fn visit(&mut self, name: &str, needed_by: Option<&str>) -> Result<(), DebianError> {
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(path) = self.tree.files.get(name) else {
            if self.tree.builtin.contains(name) {
                return Ok(());
            }
            return Err(ModuleError::Missing {
                name: name.to_owned(),
                release: self.tree.release.clone(),
                needed_by: needed_by.map(str::to_owned),
            }
            .into());
        };
        let bytes = read(path)?;
        let Needs { modules, before } = modinfo::needs(&bytes).map_err(|reason| {
            let path = path.clone();
            ModuleError::Broken { path, reason }
        })?;
        for other in &before {
            // A wish, often by an alias; only what can be granted is.
            if self.tree.files.contains_key(other) {
                self.visit(other, Some(name))?;
            }
        }
        for other in &modules {
            self.visit(other, Some(name))?;
        }
        let name = name.to_owned();
        self.order.push(Module { name, bytes });
        Ok(())
    }
}

/// All module files below a folder, by name.
fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), DebianError> {
    let entries = fs::read_dir(folder).map_err(|error| DebianError::io(folder, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| DebianError::io(folder, error))?;
        let path = entry.path();
        // Links are not followed: a package's modules are its own files.
        let kind = entry
            .file_type()
            .map_err(|error| DebianError::io(&path, error))?;
        if kind.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = module_name(&file_name(&path)) {
            files.insert(name, path);
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The name of the module in a file such as `kernel/lib/crc7.ko.xz`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, _) = file.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

/// A module's file, decompressed.
fn read(path: &Path) -> Result<Vec<u8>, DebianError> {
    let tool = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => Tool::new("xz", "xz-utils"),
        Some("zst") => Tool::new("zstd", "zstd"),
        Some("gz") => Tool::new("gzip", "gzip"),
        _ => return fs::read(path).map_err(|error| DebianError::io(path, error)),
    };
    tool.run(Path::new("/"), &["-dc", "--", &path.to_string_lossy()])
}

#[cfg(test)]
mod tests;
