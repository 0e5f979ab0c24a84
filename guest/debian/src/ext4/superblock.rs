//! What an image's superblock says of its size and state.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

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
    NotExt4(String),
    /// It is cut off.
    #[error("the image has {file} bytes, its file system says {system}: it is cut off")]
    Short {
        /// Bytes of the file.
        file: u64,
        /// Bytes of the file system.
        system: u64,
    },
    /// It was in use when it was copied, or the kernel found errors in it.
    #[error("the file system was not unmounted cleanly; run `e2fsck -p` on it first")]
    Dirty,
}

/// Reads and checks the superblock of an image.
///
/// # Errors
/// The file is no whole, clean ext4 image.
pub fn inspect(path: &Path) -> Result<Superblock, Ext4Error> {
    let not = |reason: &str| Ext4Error::NotExt4(reason.to_owned());
    let image = File::open(path)?;
    let file = image.metadata()?.len();
    let mut raw = [0; 1024];
    match image.read_exact_at(&mut raw, SUPERBLOCK) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(not("it is shorter than a superblock"));
        }
        other => other?,
    }
    let short = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
    let word = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
    if short(0x38) != MAGIC {
        return Err(not("there is no superblock"));
    }
    let (shift, features) = (word(0x18), word(0x60));
    if shift > LARGEST_SHIFT {
        return Err(not("its block size is impossible"));
    }
    let block_size = 1024_u64 << shift;
    let high = if features & WIDE == 0 { 0 } else { word(0x150) };
    let blocks = u64::from(high) << 32 | u64::from(word(0x4));
    match blocks.checked_mul(block_size) {
        None | Some(0) => return Err(not("its size is impossible")),
        Some(system) if system > file => return Err(Ext4Error::Short { file, system }),
        Some(_) => {}
    }
    if features & RECOVER != 0 || short(0x3a) & DAMAGED != 0 {
        return Err(Ext4Error::Dirty);
    }
    Ok(Superblock { block_size, blocks })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: usize = 1024;

    fn image(change: impl FnOnce(&mut Vec<u8>)) -> Result<Superblock, Ext4Error> {
        let mut raw = vec![0; 64 << 10];
        raw[AT + 0x38..AT + 0x3a].copy_from_slice(&MAGIC.to_le_bytes());
        raw[AT + 0x18] = 2;
        raw[AT + 4] = 16;
        change(&mut raw);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &raw).unwrap();
        inspect(file.path())
    }

    #[test]
    fn a_whole_image_is_taken() {
        let (block_size, blocks) = (4096, 16);
        assert_eq!(image(|_| ()).unwrap(), Superblock { block_size, blocks });
    }

    #[test]
    fn broken_images_are_named() {
        let text = |change: fn(&mut Vec<u8>)| image(change).unwrap_err().to_string();
        assert!(text(|raw| raw.truncate(1500)).contains("shorter than a superblock"));
        assert!(text(|raw| raw[AT + 0x38] = 0).contains("no superblock"));
        assert!(text(|raw| raw[AT + 0x18] = 200).contains("block size"));
        assert!(text(|raw| raw[AT + 4] = 17).contains("cut off"));
        assert!(text(|raw| raw[AT + 4] = 0).contains("impossible"));
        assert!(text(|raw| raw[AT + 0x60] = 4).contains("e2fsck"));
        assert!(text(|raw| raw[AT + 0x3a] = 2).contains("e2fsck"));
        // Block counts of 64 bits that overflow a byte count.
        let wide = |raw: &mut Vec<u8>| {
            raw[AT + 0x60] = 0x80;
            raw[AT + 0x150..AT + 0x154].fill(0xff);
        };
        assert!(text(wide).contains("impossible"));
        assert!(matches!(
            inspect(Path::new("/nowhere/image")),
            Err(Ext4Error::Io(_))
        ));
    }
}
