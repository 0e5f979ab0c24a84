//! Sets every inode's change time in a fresh ext4 image.
//!
//! `mkfs.ext4 -d` copies the times of the files it reads. Access and modification times can be set
//! beforehand; the change time can't, so it is the one thing in the image that would differ from
//! one build to the next. The image has no metadata checksums, so it may be rewritten in place.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Byte offset of the superblock.
const SUPERBLOCK: u64 = 1024;
/// Bytes of a group descriptor without 64-bit block numbers.
const DESCRIPTOR: u64 = 32;
/// Offset of `i_ctime` in an inode, and of its nanoseconds.
const CTIME: usize = 0x0c;
const CTIME_EXTRA: usize = 0x84;
/// Offset of `i_links_count`: 0 in a free inode.
const LINKS: usize = 0x1a;

/// Sets the change time of all inodes in use to `seconds`.
///
/// # Errors
/// The image's I/O errors, or a superblock that is not like those that this crate makes.
pub fn set_change_times(image: &File, seconds: u32) -> io::Result<()> {
    let word = |at: u64| -> io::Result<u32> {
        let mut raw = [0; 4];
        image.read_exact_at(&mut raw, at)?;
        Ok(u32::from_le_bytes(raw))
    };
    let block_size = 1024_u64 << word(SUPERBLOCK + 0x18)?.min(6);
    let inodes = u64::from(word(SUPERBLOCK)?);
    let per_group = u64::from(word(SUPERBLOCK + 0x28)?);
    let inode_size = usize::try_from(word(SUPERBLOCK + 0x58)? & 0xffff).unwrap_or(0);
    if per_group == 0 || inode_size < CTIME_EXTRA + 4 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "unexpected inode layout in a fresh image",
        ));
    }
    // The group descriptors follow the block that holds the superblock.
    let descriptors = if block_size == 1024 {
        2 * block_size
    } else {
        block_size
    };
    let mut table = vec![0; usize::try_from(per_group).unwrap_or(0) * inode_size];
    for group in 0..inodes.div_ceil(per_group) {
        let start = u64::from(word(descriptors + group * DESCRIPTOR + 8)?) * block_size;
        image.read_exact_at(&mut table, start)?;
        for inode in table
            .chunks_exact_mut(inode_size)
            .filter(|inode| inode[LINKS..LINKS + 2] != [0, 0])
        {
            inode[CTIME..CTIME + 4].copy_from_slice(&seconds.to_le_bytes());
            inode[CTIME_EXTRA..CTIME_EXTRA + 4].fill(0);
        }
        image.write_all_at(&table, start)?;
    }
    Ok(())
}
