//! What is checked of a user's own root image before a guest gets it.

use std::path::{Path, PathBuf};

use ext4_view::Ext4;

use crate::ext4::{Ext4Error, inspect};

/// Why a file can't be a guest's root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It is no whole, clean image, or can't be read.
    #[error("{path}: {error}")]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: Ext4Error,
    },
    /// It is no root.
    #[error("{path} has no {missing}, so it is not the root of a system")]
    NoInit {
        /// The file.
        path: PathBuf,
        /// The program that is missing.
        missing: &'static str,
    },
    /// The size asked for is too small.
    #[error(
        "a root of {given} MiB is too small for these packages: they need at least {needed} MiB"
    )]
    TooSmall {
        /// The size asked for.
        given: u64,
        /// The size of what goes in.
        needed: u64,
    },
}

/// Checks that a file is a whole, clean ext4 file system with `/sbin/init` and `/bin/sh`.
///
/// # Errors
/// It is not.
pub fn check_root(path: &Path) -> Result<(), RootError> {
    let of = |error| RootError::Image {
        path: path.to_owned(),
        error,
    };
    let not = |error: ext4_view::Ext4Error| of(Ext4Error::NotExt4(error.to_string()));
    inspect(path).map_err(of)?;
    let system =
        Ext4::load_from_path(path).map_err(|error| of(Ext4Error::NotExt4(error.to_string())))?;
    for missing in ["/sbin/init", "/bin/sh"] {
        if !system.exists(missing).map_err(not)? {
            let path = path.to_owned();
            return Err(RootError::NoInit { path, missing });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::ext4::{Room, make};
    use super::*;
    use std::fs;

    /// An image with these files, changed at these bytes.
    fn image(files: &[&str], change: impl FnOnce(&mut Vec<u8>)) -> Result<(), RootError> {
        let folder = tempfile::tempdir().unwrap();
        let stage = folder.path().join("stage");
        fs::create_dir(&stage).unwrap();
        for file in files {
            let path = stage.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let target = folder.path().join("image");
        make(&stage, Room::Free(1 << 20), &target).unwrap();
        let mut raw = fs::read(&target).unwrap();
        change(&mut raw);
        fs::write(&target, raw).unwrap();
        check_root(&target)
    }

    const WHOLE: &[&str] = &["sbin/init", "bin/sh"];

    #[test]
    fn a_whole_root_is_taken() {
        image(WHOLE, |_| ()).unwrap();
    }

    #[test]
    fn a_root_without_init_is_told_apart() {
        let text = image(&["bin/sh"], |_| ()).unwrap_err().to_string();
        assert!(text.contains("has no /sbin/init"), "{text}");
        let text = image(&["sbin/init"], |_| ()).unwrap_err().to_string();
        assert!(text.contains("has no /bin/sh"), "{text}");
    }

    #[test]
    fn what_is_wrong_with_an_image_is_told_with_its_place() {
        let dirty = image(WHOLE, |raw| raw[1024 + 0x60] |= 4).unwrap_err();
        let text = dirty.to_string();
        assert!(
            text.contains("image: ") && text.contains("e2fsck -p"),
            "{text}"
        );
        let cut = image(WHOLE, |raw| raw.truncate(1 << 20)).unwrap_err();
        assert!(cut.to_string().contains("cut off"), "{cut}");
    }
}
