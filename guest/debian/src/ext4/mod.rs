//! Ext4 images: made of a folder, and looked at before they are used.
//!
//! The same files give the same bytes, whoever builds and when. `mkfs.ext4 -d` makes an image
//! without root and without a mount; it copies owners and times of the files it reads, so both are
//! set in the image afterwards. Images have no checksums of metadata and may be rewritten in place.

mod superblock;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub use superblock::{Ext4Error, Superblock, inspect};

use crate::DebianError;
use crate::tool::MKFS;
use superblock::SUPERBLOCK;

/// Every time in an image: 2024-01-01 00:00:00 UTC, as seconds.
pub const EPOCH: u32 = 1_704_067_200;
/// Bytes of a block.
pub const BLOCK: u64 = 4096;
/// Bytes of an inode.
pub const INODE: u64 = 256;
/// Bytes of a group descriptor without 64-bit block numbers.
const DESCRIPTOR: u64 = 32;

/// The version of `mkfs.ext4`, which can change an image's bytes.
///
/// # Errors
/// It is not installed.
pub fn version() -> Result<String, DebianError> {
    let output = MKFS.output(Path::new("/"), &["-V"])?;
    let text = String::from_utf8_lossy(&output.stderr);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// A file system that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Format<'a> {
    /// Features, as `mkfs.ext4 -O` has them; none of them may be `64bit` or have checksums.
    pub features: &'a str,
    /// Its identity, the same in all images of a kind.
    pub uuid: &'a str,
    /// Where the order of names in indexed folders comes from.
    pub hash_seed: &'a str,
    /// Size of the journal, where `features` ask for one.
    pub journal_mib: Option<u64>,
    /// Inodes.
    pub inodes: u64,
    /// Blocks of [`BLOCK`] bytes.
    pub blocks: u64,
}

impl Format<'_> {
    /// Makes an image of the folder `stage` at `target`.
    ///
    /// # Errors
    /// `mkfs.ext4` is missing or fails, or there is no room.
    pub fn make(&self, stage: &Path, target: &Path) -> Result<(), DebianError> {
        let folder = target.parent().unwrap_or(target);
        let seed = self.hash_seed;
        let options = format!("hash_seed={seed},lazy_itable_init=0,root_owner=0:0,nodiscard");
        let journal = self.journal_mib.map(|mib| format!("size={mib}"));
        let output = MKFS.output_with(folder, |command| {
            command
                .args(["-q", "-F", "-b", &BLOCK.to_string(), "-m", "0"])
                .args(["-U", self.uuid, "-O", self.features, "-E", &options])
                .args(journal.iter().flat_map(|size| ["-J", size]))
                .args(["-I", &INODE.to_string(), "-N", &self.inodes.to_string()])
                .arg("-d")
                .args([stage, target])
                .arg(self.blocks.to_string())
                .env("E2FSPROGS_FAKE_TIME", EPOCH.to_string())
                .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
                .env("MKE2FS_CONFIG", "/dev/null")
        })?;
        MKFS.check(folder, output)?;
        let image = File::options().read(true).write(true).open(target);
        let settled = image.and_then(|image| {
            settle(&image)?;
            image.sync_all()
        });
        settled.map_err(|error| DebianError::io(target, error))
    }
}

/// Sets the times and the owner (root) of all inodes in use, in a fresh image of this module.
fn settle(image: &File) -> io::Result<()> {
    let word = |at: u64| -> io::Result<u32> {
        let mut raw = [0; 4];
        image.read_exact_at(&mut raw, at)?;
        Ok(u32::from_le_bytes(raw))
    };
    let inodes = u64::from(word(SUPERBLOCK)?);
    let per_group = u64::from(word(SUPERBLOCK + 0x28)?);
    let size = usize::try_from(INODE).unwrap_or_default();
    let mut table = vec![0; usize::try_from(per_group * INODE).unwrap_or_default()];
    for group in 0..inodes.checked_div(per_group).unwrap_or_default() {
        // Group descriptors follow the block that holds the superblock.
        let start = u64::from(word(BLOCK + group * DESCRIPTOR + 8)?) * BLOCK;
        image.read_exact_at(&mut table, start)?;
        for inode in table.chunks_exact_mut(size) {
            // Inodes without links (`i_links_count`) are free.
            if inode[0x1a..0x1c] != [0, 0] {
                settle_inode(inode);
            }
        }
        image.write_all_at(&table, start)?;
    }
    Ok(())
}

fn settle_inode(inode: &mut [u8]) {
    // i_uid, i_gid and their high halves.
    for at in [0x02, 0x18, 0x78, 0x7a] {
        inode[at..at + 2].fill(0);
    }
    // i_atime, i_ctime, i_mtime, i_crtime, and the nanoseconds of each.
    for at in [0x08, 0x0c, 0x10, 0x90] {
        inode[at..at + 4].copy_from_slice(&EPOCH.to_le_bytes());
    }
    for at in [0x84, 0x88, 0x8c, 0x94] {
        inode[at..at + 4].fill(0);
    }
}
