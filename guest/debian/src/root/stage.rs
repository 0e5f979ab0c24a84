//! A root put together in a folder: packages laid over each other, and what their installation
//! scripts would have done that guests can't do without.
//!
//! Packages are unpacked, not configured: their scripts would need root and would make the result
//! depend on the machine. `/bin`, `/sbin` and `/lib*` are links into `/usr`, as on every current
//! Debian. Manuals, translations and other documentation are left out.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use crate::DebianError;

/// Folders of `/` that are links into `/usr`.
const MERGED: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Folders that every root has, with their permissions.
const FOLDERS: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
];
/// Folders that guests don't read.
const LEFT_OUT: &[&str] = &[
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
];
/// Names that installation scripts choose among alternatives, each with what it stands for. The
/// first that exists is taken.
const ALTERNATIVES: &[(&str, &str)] = &[
    ("usr/bin/awk", "gawk"),
    ("usr/bin/awk", "mawk"),
    ("usr/bin/c++", "g++"),
    ("usr/bin/c89", "c89-gcc"),
    ("usr/bin/c99", "c99-gcc"),
    ("usr/bin/cc", "gcc"),
    ("usr/bin/nc", "nc.openbsd"),
    ("usr/bin/nc", "nc.traditional"),
    ("usr/bin/pager", "less"),
    ("usr/bin/vi", "vim.tiny"),
    ("usr/bin/which", "which.debianutils"),
];
/// Files that installation scripts copy.
const COPIES: &[(&str, &str)] = &[
    ("usr/share/base-passwd/group.master", "etc/group"),
    ("usr/share/base-passwd/passwd.master", "etc/passwd"),
];

/// A root in the making.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    root: &'a Path,
}

impl<'a> Stage<'a> {
    /// An empty root in an existing folder.
    pub(super) fn new(root: &'a Path, merged: bool) -> Result<Self, DebianError> {
        let stage = Self { root };
        for (folder, mode) in FOLDERS {
            stage.folder(folder, *mode)?;
        }
        for folder in MERGED.iter().filter(|_| merged) {
            stage.folder(&format!("usr/{folder}"), 0o755)?;
            stage.link(folder, &format!("usr/{folder}"))?;
        }
        Ok(stage)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    fn folder(&self, below: &str, mode: u32) -> Result<(), DebianError> {
        let path = self.path(below);
        fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(|error| DebianError::io(&path, error))
    }

    fn parent(&self, below: &str) -> Result<PathBuf, DebianError> {
        let path = self.path(below);
        let parent = path.parent().unwrap_or(self.root);
        fs::create_dir_all(parent).map_err(|error| DebianError::io(parent, error))?;
        Ok(path)
    }

    /// Makes a symbolic link, unless there is something by this name.
    pub(super) fn link(&self, below: &str, target: &str) -> Result<(), DebianError> {
        let path = self.parent(below)?;
        match symlink(target, &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(DebianError::io(&path, error))
            }
            _ => Ok(()),
        }
    }

    /// Writes a file, unless there is something by this name.
    pub(super) fn file(&self, below: &str, mode: u32, bytes: &[u8]) -> Result<(), DebianError> {
        let path = self.parent(below)?;
        if path.symlink_metadata().is_ok() {
            return Ok(());
        }
        fs::write(&path, bytes)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(|error| DebianError::io(&path, error))
    }

    /// Lays a package's files over what is there. They are not copied but linked.
    pub(super) fn lay(&self, package: &Path) -> Result<(), DebianError> {
        self.lay_folder(package, Path::new(""))
    }

    fn lay_folder(&self, package: &Path, below: &Path) -> Result<(), DebianError> {
        let folder = package.join(below);
        let entries = fs::read_dir(&folder).map_err(|error| DebianError::io(&folder, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| DebianError::io(&folder, error))?;
            let below = below.join(entry.file_name());
            if LEFT_OUT.iter().any(|left_out| below == Path::new(left_out)) {
                continue;
            }
            let (from, to) = (entry.path(), self.root.join(in_usr(&below)));
            let found = entry
                .metadata()
                .map_err(|error| DebianError::io(&from, error))?;
            if found.is_dir() {
                // A link to a folder, made by another package, is a folder here.
                if !to.is_dir() {
                    fs::create_dir_all(&to).map_err(|error| DebianError::io(&to, error))?;
                    fs::set_permissions(&to, found.permissions())
                        .map_err(|error| DebianError::io(&to, error))?;
                }
                self.lay_folder(package, &below)?;
            } else {
                replace(&from, &to, &found).map_err(|error| DebianError::io(&to, error))?;
            }
        }
        Ok(())
    }

    /// Does what the packages' scripts would have done.
    pub(super) fn configure(&self) -> Result<(), DebianError> {
        for (name, stands_for) in ALTERNATIVES {
            let folder = Path::new(name).parent().unwrap_or(Path::new(""));
            if self.root.join(folder).join(stands_for).exists() {
                self.link(name, stands_for)?;
            }
        }
        for (from, to) in COPIES {
            let from = self.path(from);
            if from.exists() {
                let bytes = fs::read(&from).map_err(|error| DebianError::io(&from, error))?;
                self.file(to, 0o644, &bytes)?;
            }
        }
        self.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
        self.file("etc/group", 0o644, b"root:x:0:\n")?;
        self.file("etc/hostname", 0o644, b"guest\n")?;
        self.file("etc/hosts", 0o644, b"127.0.0.1 localhost guest\n")
    }
}

/// Where a package's path is once `/bin` and its like are links into `/usr`.
fn in_usr(below: &Path) -> PathBuf {
    let merged = |first: Component<'_>| MERGED.iter().any(|folder| first.as_os_str() == *folder);
    match below.components().next() {
        Some(first) if merged(first) => Path::new("usr").join(below),
        _ => below.to_owned(),
    }
}

/// Links a file, or makes the same symbolic link, in place of what is there.
fn replace(from: &Path, to: &Path, found: &fs::Metadata) -> io::Result<()> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if found.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    // Some systems don't let anyone link what they can't write.
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.strip_prefix("-> ") {
                Some(target) => symlink(target, path).unwrap(),
                None => fs::write(path, content).unwrap(),
            }
        }
        root
    }

    fn read(root: &Path, below: &str) -> String {
        fs::read_to_string(root.join(below)).unwrap()
    }

    #[test]
    fn packages_meet_in_usr_and_documentation_stays_out() {
        let root = tempfile::tempdir().unwrap();
        let stage = Stage::new(root.path(), true).unwrap();
        let one = package(&[
            ("bin/dash", "dash"),
            ("bin/sh", "-> dash"),
            ("usr/share/doc/dash/copyright", "c"),
            ("usr/share/dash/x", "x"),
        ]);
        let two = package(&[
            ("usr/bin/gcc", "gcc"),
            ("lib/x.so", "x"),
            ("usr/lib/y.so", "y"),
        ]);
        stage.lay(one.path()).unwrap();
        stage.lay(two.path()).unwrap();
        for path in ["bin/sh", "usr/bin/sh", "usr/bin/dash"] {
            assert_eq!(read(root.path(), path), "dash");
        }
        assert_eq!(
            read(root.path(), "usr/lib/x.so") + &read(root.path(), "lib/y.so"),
            "xy"
        );
        assert_eq!(
            fs::read_link(root.path().join("bin")).unwrap(),
            Path::new("usr/bin")
        );
        assert!(!root.path().join("usr/share/doc").exists());
        assert_eq!(read(root.path(), "usr/share/dash/x"), "x");
    }

    #[test]
    fn a_later_package_replaces_a_file_and_leaves_the_cache_alone() {
        let root = tempfile::tempdir().unwrap();
        let stage = Stage::new(root.path(), true).unwrap();
        let (one, two) = (package(&[("etc/x", "one")]), package(&[("etc/x", "two")]));
        stage.lay(one.path()).unwrap();
        stage.lay(two.path()).unwrap();
        stage.file("etc/x", 0o644, b"three").unwrap();
        assert_eq!(read(root.path(), "etc/x"), "two");
        assert_eq!(read(one.path(), "etc/x"), "one");
    }

    #[test]
    fn names_that_scripts_would_choose_are_there() {
        let root = tempfile::tempdir().unwrap();
        let stage = Stage::new(root.path(), true).unwrap();
        let files = package(&[
            ("usr/bin/gcc", "gcc"),
            ("usr/bin/mawk", "mawk"),
            ("usr/share/base-passwd/passwd.master", "root:*:0"),
        ]);
        stage.lay(files.path()).unwrap();
        stage.configure().unwrap();
        assert_eq!(read(root.path(), "bin/cc"), "gcc");
        assert_eq!(read(root.path(), "bin/awk"), "mawk");
        assert_eq!(read(root.path(), "etc/passwd"), "root:*:0");
        assert!(!root.path().join("usr/bin/c++").exists());
    }
}
