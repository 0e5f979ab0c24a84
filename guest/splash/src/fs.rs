//! The ext4 file system on a virtual disk, read through the buffer cache.
//!
//! `ext4-view` keeps its state in non-atomic cells, so each thread opens its own view; what they
//! share is the buffer cache below.

use crate::cache;
use crate::hash;
use crate::memory;
use crate::shared;
use crate::sync::Spin;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;
use ext4_view::{Ext4, Ext4Error, Ext4Read, File, PathBuf};
use mirrorball_abi::layout::PAGE_SIZE;

/// The table file of the `scan` workload, in images that have one.
pub const TABLE: &[u8] = b"/table.dat";

/// Offset of the superblock (Linux Documentation/filesystems/ext4, "Super Block").
const SUPERBLOCK: u64 = 1024;
/// Offset of `s_log_block_size` and friends inside of the superblock.
const BLOCKS_LOW: usize = 0x4;
const LOG_BLOCK_SIZE: usize = 0x18;
const MAGIC_AT: usize = 0x38;
const INCOMPATIBLE: usize = 0x60;
const BLOCKS_HIGH: usize = 0x150;
const MAGIC: u32 = 0xef53;
const FEATURE_64BIT: u32 = 0x80;

#[derive(Debug)]
struct CachedDisk(usize);

impl Ext4Read for CachedDisk {
    fn read(&mut self, start: u64, to: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        cache::read(self.0, start, to).map_err(Into::into)
    }
}

/// The blocks of a disk that were read, by the checksums of their content.
type Seen = Arc<Spin<BTreeMap<u64, u64>>>;

/// A disk that remembers which blocks were read. The file system keeps some for itself, so that what
/// a file's next bytes are need not be what is read next.
#[derive(Debug)]
struct TracedDisk {
    disk: CachedDisk,
    seen: Seen,
}

impl Ext4Read for TracedDisk {
    fn read(&mut self, start: u64, to: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.disk.read(start, to)?;
        if start.is_multiple_of(PAGE_SIZE as u64) {
            let mut seen = self.seen.lock();
            for (block, content) in (start / PAGE_SIZE as u64..).zip(to.chunks_exact(PAGE_SIZE)) {
                seen.insert(hash::bytes(content), block);
            }
        }
        Ok(())
    }
}

/// A file system that tells where its files' blocks are.
#[derive(Debug)]
pub struct Located {
    /// The file system.
    pub view: Ext4,
    disk: usize,
    seen: Seen,
}

/// Opens the file system on a disk so that its blocks can be located.
///
/// # Errors
/// As [`open`].
pub fn open_located(disk: usize) -> Result<Located, String> {
    let seen = Seen::new(Spin::new(BTreeMap::new()));
    let traced = TracedDisk {
        disk: CachedDisk(disk),
        seen: Arc::clone(&seen),
    };
    let view = Ext4::load(Box::new(traced)).map_err(|error| describe(&error))?;
    Ok(Located { view, disk, seen })
}

impl Located {
    /// Reads a file's next block, the last one with zeros behind its end; answers a block of the
    /// disk that holds the same bytes, or none if they are all zero.
    ///
    /// # Errors
    /// The file can't be read, or its bytes are in no block of 4 KiB.
    pub fn next_block(
        &self,
        file: &mut File,
        left: u64,
        content: &mut [u8; PAGE_SIZE],
    ) -> Result<Option<u64>, String> {
        let wanted = shared::usize_of(left.min(PAGE_SIZE as u64));
        content.fill(0);
        let mut got = 0;
        while got < wanted {
            let more = file.read_bytes(&mut content[got..wanted]);
            got += match more.map_err(|error| describe(&error))? {
                0 => return Err("a file ends before its end".into()),
                more => more,
            };
        }
        if content.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let block = self.seen.lock().get(&hash::bytes(content)).copied();
        let mut same = [0; PAGE_SIZE];
        if let Some(block) = block {
            cache::with_block(self.disk, block, |words| {
                memory::copy_out(words, 0, &mut same);
            })
            .map_err(|error| error.to_string())?;
        }
        match block.filter(|_| same == *content) {
            Some(block) => Ok(Some(block)),
            None => Err("a file's bytes are in no block of 4 KiB of the disk".into()),
        }
    }
}

/// Opens the file system on a disk.
///
/// # Errors
/// When the disk can't be read or holds no ext4.
pub fn open(disk: usize) -> Result<Ext4, String> {
    Ext4::load(Box::new(CachedDisk(disk))).map_err(|error| describe(&error))
}

/// An error of the file system with its cause.
pub fn describe(error: &Ext4Error) -> String {
    error.to_string()
}

/// Blocks of 4 KiB that the file system on a disk takes; what follows is free for other use.
///
/// # Errors
/// When the disk can't be read or holds no ext4.
pub fn size_in_blocks(disk: usize) -> Result<u64, String> {
    let mut superblock = [0; 1024];
    cache::read(disk, SUPERBLOCK, &mut superblock).map_err(|error| error.to_string())?;
    size_of_superblock(&superblock).ok_or_else(|| "the disk holds no ext4".into())
}

fn size_of_superblock(superblock: &[u8; 1024]) -> Option<u64> {
    let word = |at: usize| {
        superblock
            .get(at..at + 4)
            .and_then(|bytes| Some(u32::from_le_bytes(*bytes.first_chunk()?)))
    };
    if word(MAGIC_AT)? & 0xffff != MAGIC {
        return None;
    }
    let high = if word(INCOMPATIBLE)? & FEATURE_64BIT != 0 {
        word(BLOCKS_HIGH)?
    } else {
        0
    };
    let blocks = u64::from(high) << 32 | u64::from(word(BLOCKS_LOW)?);
    let bytes = blocks.checked_mul(1024_u64.checked_shl(word(LOG_BLOCK_SIZE)?)?)?;
    Some(bytes.div_ceil(4096))
}

/// A regular file found by [`files`].
#[derive(Clone, Debug)]
pub struct Entry {
    /// Absolute path.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
}

/// All regular files of a file system, in the order of their paths.
///
/// # Errors
/// When a directory can't be read.
pub fn files(fs: &Ext4) -> Result<Vec<Entry>, String> {
    let mut found = Vec::new();
    let mut pending = alloc::vec![PathBuf::new("/")];
    while let Some(directory) = pending.pop() {
        for entry in fs.read_dir(&directory).map_err(|error| describe(&error))? {
            let entry = entry.map_err(|error| describe(&error))?;
            let name = entry.file_name();
            if matches!(name.as_ref(), b"." | b".." | b"lost+found") {
                continue;
            }
            let metadata = entry.metadata().map_err(|error| describe(&error))?;
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.file_type().is_regular_file() {
                found.push(Entry {
                    path: entry.path(),
                    size: metadata.len(),
                });
            }
        }
    }
    found.sort_unstable_by(|a, b| path_bytes(a).cmp(path_bytes(b)));
    Ok(found)
}

/// The bytes of an entry's path.
pub fn path_bytes(entry: &Entry) -> &[u8] {
    entry.path.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_comes_from_the_superblock() {
        let mut superblock = [0; 1024];
        assert_eq!(size_of_superblock(&superblock), None);
        superblock[MAGIC_AT..MAGIC_AT + 2].copy_from_slice(&[0x53, 0xef]);
        superblock[BLOCKS_LOW..BLOCKS_LOW + 4].copy_from_slice(&1001_u32.to_le_bytes());
        assert_eq!(
            size_of_superblock(&superblock),
            Some(251),
            "1 KiB blocks, rounded up"
        );
        superblock[LOG_BLOCK_SIZE] = 2;
        assert_eq!(size_of_superblock(&superblock), Some(1001));
        superblock[BLOCKS_HIGH] = 1;
        assert_eq!(
            size_of_superblock(&superblock),
            Some(1001),
            "high half only with the 64bit feature"
        );
        superblock[INCOMPATIBLE] = 0x80;
        assert_eq!(size_of_superblock(&superblock), Some((1 << 32) + 1001));
        superblock[LOG_BLOCK_SIZE] = 200;
        assert_eq!(size_of_superblock(&superblock), None);
    }
}
