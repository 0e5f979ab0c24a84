//! How large a root's image is, and what its file system has.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::check::RootError;
use crate::DebianError;
use crate::ext4::{BLOCK, Format, INODE};

/// What a root in use needs (a journal, indexed folders), and nothing with checksums.
const FEATURES: &str = "none,has_journal,filetype,extent,sparse_super,large_file,huge_file,dir_nlink,extra_isize,ext_attr,dir_index";
/// Size of the journal.
const JOURNAL_MIB: u64 = 16;
const UUID: &str = "6d697272-6f72-6261-6c6c-000000000003";
const HASH_SEED: &str = "6d697272-6f72-6261-6c6c-000000000004";
/// Inodes for files that guests make.
const FREE_INODES: u64 = 16_384;

/// How large an image is to be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// In all.
    Total(u64),
    /// Besides what is in it.
    Free(u64),
}

/// Makes an image of the folder `stage` at `target`.
pub(super) fn make(stage: &Path, room: Room, target: &Path) -> Result<(), DebianError> {
    let mut need = Need::default();
    measure(stage, &mut need)?;
    let inodes = need.files + FREE_INODES;
    let tables = (inodes * INODE).div_ceil(BLOCK);
    // Twice the journal: mkfs.ext4 gives it no more than half of what is free.
    let data = need.blocks + tables + 2 * JOURNAL_MIB * (1 << 20) / BLOCK;
    // A 64th more for bitmaps, extent blocks and backups of the superblock, and 1 MiB.
    let least = data + data / 64 + 256;
    let blocks = match room {
        Room::Free(bytes) => least + bytes.div_ceil(BLOCK),
        Room::Total(bytes) if bytes / BLOCK < least => {
            let mib = |blocks: u64| (blocks * BLOCK).div_ceil(1 << 20);
            return Err(RootError::TooSmall {
                given: bytes >> 20,
                needed: mib(least),
            }
            .into());
        }
        Room::Total(bytes) => bytes / BLOCK,
    };
    let format = Format {
        features: FEATURES,
        uuid: UUID,
        hash_seed: HASH_SEED,
        journal_mib: Some(JOURNAL_MIB),
        inodes,
        blocks,
    };
    format.make(stage, target)
}

/// What the files of a folder need.
#[derive(Debug, Default)]
struct Need {
    files: u64,
    blocks: u64,
}

fn measure(folder: &Path, need: &mut Need) -> Result<(), DebianError> {
    let io = |error| DebianError::io(folder, error);
    let mut names = 0;
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let found = entry.metadata().map_err(io)?;
        need.files += 1;
        names += 8 + entry.file_name().len().next_multiple_of(4) as u64;
        if found.is_dir() {
            measure(&entry.path(), need)?;
        } else {
            // A short link lies in its inode; counting it as a block does no harm.
            need.blocks += found.size().div_ceil(BLOCK);
        }
    }
    // Blocks of names are filled to two thirds or more.
    need.blocks += (names * 3 / 2).div_ceil(BLOCK).max(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn stage(names: &[&str], owner: u32) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for name in names {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name.repeat(3000)).unwrap();
            // Only root can; anyone else builds as themselves anyway.
            let _ = std::os::unix::fs::chown(&path, Some(owner), Some(owner));
        }
        fs::set_permissions(root.path().join("b"), fs::Permissions::from_mode(0o4755)).unwrap();
        symlink("b", root.path().join("link")).unwrap();
        root
    }

    fn build(stage: &Path, room: Room) -> Result<Vec<u8>, DebianError> {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("image");
        make(stage, room, &target)?;
        Ok(fs::read(&target).unwrap())
    }

    #[test]
    fn equal_files_make_equal_images_whoever_built_them_and_when() {
        let one = stage(&["z/y/x", "b", "a/1"], 1000);
        // Times have a resolution of a second in what mkfs.ext4 copies.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let two = stage(&["a/1", "b", "z/y/x"], 0);
        let images = [one, two].map(|stage| build(stage.path(), Room::Free(1 << 20)).unwrap());
        assert!(images[0] == images[1], "two builds of equal files differ");
    }

    #[test]
    fn the_image_holds_the_files_as_roots() {
        let image = build(stage(&["b", "a/1"], 1000).path(), Room::Free(1 << 20)).unwrap();
        let system = ext4_view::Ext4::load(Box::new(image)).unwrap();
        assert_eq!(
            system.read("/a/1").unwrap(),
            "a/1".repeat(3000).into_bytes()
        );
        assert_eq!(system.read_link("/link").unwrap(), "b");
        let found = system.metadata("/b").unwrap();
        assert_eq!(
            (found.uid(), found.gid(), found.mode() & 0o7777),
            (0, 0, 0o4755)
        );
    }

    #[test]
    fn the_image_is_sound() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("image");
        make(
            stage(&["b", "a/1", "a/2/3"], 7).path(),
            Room::Free(1 << 20),
            &target,
        )
        .unwrap();
        // The package of mkfs.ext4 has it too.
        let check = crate::tool::Tool::new("e2fsck", "e2fsprogs");
        let arguments = ["-f", "-n", &target.to_string_lossy()];
        check.run(folder.path(), &arguments).unwrap();
    }

    #[test]
    fn sizes_are_kept_or_refused() {
        let stage = stage(&["b"], 0);
        let total = 64 << 20;
        let image = build(stage.path(), Room::Total(total)).unwrap();
        assert_eq!(image.len() as u64, total);
        let text = build(stage.path(), Room::Total(4 << 20))
            .unwrap_err()
            .to_string();
        assert!(text.contains("4 MiB is too small"), "{text}");
    }
}
