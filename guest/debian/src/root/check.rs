//! What is checked of a user's own root image before a guest gets it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ext4_view::Ext4;

/// Byte offset of the superblock.
pub(super) const SUPERBLOCK: u64 = 1024;
const MAGIC: u16 = 0xef53;
/// `EXT4_FEATURE_INCOMPAT_RECOVER`: the journal must be replayed.
const RECOVER: u32 = 0x4;
/// `EXT4_FEATURE_INCOMPAT_64BIT`: block numbers have 64 bits.
const WIDE: u32 = 0x80;
/// `EXT4_ERROR_FS` of `s_state`: the kernel met an error.
const DAMAGED: u16 = 0x2;
/// Block sizes are 1 KiB to 64 KiB.
const LARGEST_SHIFT: u32 = 6;

/// Why a file can't be a guest's root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It can't be read.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It holds something else.
    #[error("{path} is not an ext4 image: {reason}")]
    NotExt4 {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is cut off.
    #[error("{path} has {file} bytes, but its file system {system}: it is cut off")]
    Short {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        file: u64,
        /// The bytes of the file system.
        system: u64,
    },
    /// It was in use when it was copied, or the kernel found errors in it.
    #[error("{path} was not unmounted cleanly; run `e2fsck -p {path}` first")]
    Dirty {
        /// The file.
        path: PathBuf,
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
    superblock(path)?;
    let not = |error: &dyn std::fmt::Display| RootError::NotExt4 {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let system = Ext4::load_from_path(path).map_err(|error| not(&error))?;
    for missing in ["/sbin/init", "/bin/sh"] {
        if !system.exists(missing).map_err(|error| not(&error))? {
            let path = path.to_owned();
            return Err(RootError::NoInit { path, missing });
        }
    }
    Ok(())
}

/// What the superblock says of size and state.
fn superblock(path: &Path) -> Result<(), RootError> {
    let io = |error| RootError::Io {
        path: path.to_owned(),
        error,
    };
    let not = |reason: &str| RootError::NotExt4 {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let image = File::open(path).map_err(io)?;
    let file = image.metadata().map_err(io)?.len();
    let mut raw = [0; 1024];
    match image.read_exact_at(&mut raw, SUPERBLOCK) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(not("it is shorter than a superblock"));
        }
        other => other.map_err(io)?,
    }
    let short = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
    let word = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
    if short(0x38) != MAGIC {
        return Err(not("there is no superblock"));
    }
    let (shift, features) = (word(0x18), word(0x60));
    let high = if features & WIDE == 0 { 0 } else { word(0x150) };
    let blocks = u64::from(high) << 32 | u64::from(word(0x4));
    let system = 1024_u64.checked_shl(shift.min(LARGEST_SHIFT));
    let system = system.and_then(|block| block.checked_mul(blocks));
    match system {
        _ if shift > LARGEST_SHIFT => return Err(not("its block size is impossible")),
        None | Some(0) => return Err(not("its size is impossible")),
        Some(system) if system > file => {
            let path = path.to_owned();
            return Err(RootError::Short { path, file, system });
        }
        Some(_) => {}
    }
    if features & RECOVER != 0 || short(0x3a) & DAMAGED != 0 {
        let path = path.to_owned();
        return Err(RootError::Dirty { path });
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
    const AT: usize = 1024;

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
    fn a_dirty_journal_is_named_with_its_remedy() {
        for (at, bit) in [(0x60, 4), (0x3a, 2)] {
            let text = image(WHOLE, |raw| raw[AT + at] |= bit)
                .unwrap_err()
                .to_string();
            assert!(text.contains("e2fsck -p"), "{text}");
        }
    }

    #[test]
    fn what_is_no_image_or_half_of_one_is_refused() {
        let text = |change: fn(&mut Vec<u8>)| image(WHOLE, change).unwrap_err().to_string();
        assert!(text(|raw| raw.truncate(1500)).contains("shorter than a superblock"));
        assert!(text(|raw| raw[AT + 0x38] = 0).contains("no superblock"));
        assert!(text(|raw| raw[AT + 0x18] = 200).contains("block size"));
        assert!(text(|raw| raw.truncate(1 << 20)).contains("cut off"));
        assert!(text(|raw| raw[AT + 4..AT + 8].fill(0)).contains("impossible"));
        let gone = check_root(Path::new("/nowhere/root")).unwrap_err();
        assert!(matches!(gone, RootError::Io { .. }));
    }
}
