//! A look at an image's ext4 superblock: a cut-off copy is better refused than booted.

use super::{BaseImage, DiskError};

/// Where the superblock is, and how much of it is looked at.
const SUPERBLOCK: u64 = 1024;
const LOOKED_AT: usize = 0x154;
/// s_magic (kernel: Documentation/filesystems/ext4/super.rst).
const MAGIC: u16 = 0xef53;
/// INCOMPAT_64BIT in s_feature_incompat: block counts have a high half.
const INCOMPAT_64BIT: u32 = 0x80;
/// Largest s_log_block_size: blocks of 64 KiB.
const MAX_LOG: u32 = 6;

/// Size in bytes of the ext4 file system in an image; `None` if there is none.
///
/// # Errors
/// When the image is smaller than its file system says, or can't be read.
pub fn ext4_size(image: &BaseImage) -> Result<Option<u64>, DiskError> {
    let mut block = [0; LOOKED_AT];
    image.read(SUPERBLOCK, &mut block)?;
    let word = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&block[at..at + 4]);
        u32::from_le_bytes(bytes)
    };
    let log = word(0x18);
    if u16::from_le_bytes([block[0x38], block[0x39]]) != MAGIC || log > MAX_LOG {
        return Ok(None);
    }
    let high = if word(0x60) & INCOMPAT_64BIT == 0 {
        0
    } else {
        word(0x150)
    };
    let blocks = u64::from(high) << 32 | u64::from(word(0x4));
    let file_system = blocks.saturating_mul(1024 << log);
    if file_system > image.bytes() {
        let (path, image) = (image.path().to_path_buf(), image.bytes());
        return Err(DiskError::Ext4Short {
            path,
            file_system,
            image,
        });
    }
    Ok(Some(file_system))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tempfile::NamedTempFile;

    fn image(size: u64, blocks: u64, log: u32, magic: u16) -> NamedTempFile {
        let mut superblock = [0; 1024];
        let bytes = blocks.to_le_bytes();
        superblock[0x4..0x8].copy_from_slice(&bytes[..4]);
        superblock[0x150..0x154].copy_from_slice(&bytes[4..]);
        superblock[0x60] = 0x80;
        superblock[0x18..0x1c].copy_from_slice(&log.to_le_bytes());
        superblock[0x38..0x3a].copy_from_slice(&magic.to_le_bytes());
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&[0; 1024]).unwrap();
        file.write_all(&superblock).unwrap();
        file.as_file().set_len(size).unwrap();
        file
    }

    #[test]
    fn the_superblocks_size_is_found_and_checked() {
        let whole = image(1 << 20, 256, 2, 0xef53);
        let size = ext4_size(&BaseImage::open(whole.path()).unwrap()).unwrap();
        assert_eq!(size, Some(1 << 20));
        for (size, blocks) in [((1 << 20) - 1, 256), (1 << 20, 1 << 33), (2048, 256)] {
            let cut = image(size, blocks, 2, 0xef53);
            let fault = ext4_size(&BaseImage::open(cut.path()).unwrap()).unwrap_err();
            assert!(matches!(fault, DiskError::Ext4Short { .. }), "{fault}");
        }
    }

    #[test]
    fn other_files_have_no_ext4_size() {
        for file in [
            image(1 << 20, 256, 2, 0),
            image(1 << 20, 256, 60, 0xef53),
            image(3, 1, 2, 0),
        ] {
            assert_eq!(
                ext4_size(&BaseImage::open(file.path()).unwrap()).unwrap(),
                None
            );
        }
    }
}
