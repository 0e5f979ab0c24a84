//! What is read of an ext4 image before it is used: its superblock.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Byte offset of the superblock.
const SUPERBLOCK: u64 = 1024;
const MAGIC: u16 = 0xef53;
/// Block numbers have 64 bits (`INCOMPAT_64BIT`).
const INCOMPAT_64BIT: u32 = 0x80;
/// The file system was not unmounted: its journal must be replayed.
const INCOMPAT_RECOVER: u32 = 0x4;

/// What a superblock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Bytes in a block.
    pub block_size: u64,
    /// Blocks of the file system.
    pub blocks: u64,
}

/// Why a file is no usable ext4 image.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// It can't be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It holds something else.
    #[error("not an ext4 image ({0})")]
    NotExt4(&'static str),
    /// It is cut off.
    #[error("the image has {file} bytes, its file system says {system}: it is cut off")]
    Short {
        /// Bytes of the file.
        file: u64,
        /// Bytes of the file system.
        system: u64,
    },
    /// It was in use when it was copied.
    #[error("the file system was not unmounted cleanly; run `e2fsck -p` on it first")]
    NeedsRecovery,
}

/// Reads and checks the superblock of an image.
///
/// # Errors
/// The file is no whole ext4 image.
pub fn inspect(path: &Path) -> Result<Superblock, Ext4Error> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut raw = [0; 1024];
    match file.read_exact_at(&mut raw, SUPERBLOCK) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(Ext4Error::NotExt4("it is shorter than a superblock"));
        }
        other => other?,
    }
    let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    if u16::from_le_bytes([raw[0x38], raw[0x39]]) != MAGIC {
        return Err(Ext4Error::NotExt4("there is no superblock"));
    }
    let shift = word(0x18);
    if shift > 6 {
        return Err(Ext4Error::NotExt4("its block size is impossible"));
    }
    let block_size = 1024_u64 << shift;
    let features = word(0x60);
    let high = if features & INCOMPAT_64BIT == 0 {
        0
    } else {
        u64::from(word(0x150))
    };
    let blocks = high << 32 | u64::from(word(0x4));
    if features & INCOMPAT_RECOVER != 0 {
        return Err(Ext4Error::NeedsRecovery);
    }
    match blocks.checked_mul(block_size) {
        None | Some(0) => Err(Ext4Error::NotExt4("its size is impossible")),
        Some(system) if system > length => Err(Ext4Error::Short {
            file: length,
            system,
        }),
        Some(_) => Ok(Superblock { block_size, blocks }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(change: impl FnOnce(&mut Vec<u8>)) -> Result<Superblock, Ext4Error> {
        let mut raw = vec![0; 64 << 10];
        raw[1024 + 0x38..1024 + 0x3a].copy_from_slice(&MAGIC.to_le_bytes());
        raw[1024 + 0x18] = 2;
        raw[1024 + 4] = 16;
        change(&mut raw);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &raw).unwrap();
        inspect(file.path())
    }

    #[test]
    fn a_whole_image_is_taken() {
        assert_eq!(
            image(|_| ()).unwrap(),
            Superblock {
                block_size: 4096,
                blocks: 16
            }
        );
    }

    #[test]
    fn broken_images_are_named() {
        let text = |change: fn(&mut Vec<u8>)| image(change).unwrap_err().to_string();
        assert!(text(|raw| raw.truncate(1500)).contains("shorter than a superblock"));
        assert!(text(|raw| raw[1024 + 0x38] = 0).contains("no superblock"));
        assert!(text(|raw| raw[1024 + 0x18] = 200).contains("block size"));
        assert!(text(|raw| raw[1024 + 4] = 17).contains("cut off"));
        assert!(text(|raw| raw[1024 + 0x60] = 4).contains("e2fsck"));
        // Block counts of 64 bits that overflow a byte count.
        assert!(
            text(|raw| {
                raw[1024 + 0x60] = 0x80;
                raw[1024 + 0x150..1024 + 0x154].fill(0xff);
            })
            .contains("impossible")
        );
    }
}
