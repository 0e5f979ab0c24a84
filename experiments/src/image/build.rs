//! A list of files to an ext4 image, the same bytes each time.
//!
//! The files are copied to a staging folder with fixed modes and times, in order of their paths;
//! `mkfs.ext4 -d` turns that into an image, without root and without a mount.

use std::fs::{self, File, FileTimes};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mirrorball_debian::ext4::{BLOCK, EPOCH, Format, INODE};

use super::sources::Entry;
use super::{ImageError, table};
use crate::output::is_full;

/// Bytes of the table file.
pub const TABLE_BYTES: u64 = 8 << 20;
/// Features of the file system: what the guest's read-only reader knows, and nothing that holds
/// randomness or checksums.
const FEATURES: &str =
    "none,filetype,extent,sparse_super,large_file,huge_file,dir_nlink,extra_isize,ext_attr";
const UUID: &str = "6d697272-6f72-6261-6c6c-000000000001";
const HASH_SEED: &str = "6d697272-6f72-6261-6c6c-000000000002";

/// Builds an image of `entries` and a table from `seed` at `target`, staging under `scratch`.
///
/// # Errors
/// A file can't be read, there is no room, or `mkfs.ext4` fails.
pub fn build(
    entries: &[Entry],
    seed: u64,
    scratch: &Path,
    target: &Path,
) -> Result<(), ImageError> {
    let stage = tempfile::tempdir_in(scratch).map_err(|error| ImageError::io(scratch, error))?;
    let folders = fill(stage.path(), entries, seed)?;
    let sizes = entries.iter().map(|entry| entry.size).chain([TABLE_BYTES]);
    let data: u64 = sizes.map(|size| size.div_ceil(BLOCK).max(1)).sum::<u64>() + folders;
    let inodes = entries.len() as u64 + folders + 64;
    let tables = (inodes * INODE).div_ceil(BLOCK);
    // A sixteenth more for extent blocks, bitmaps and backups of the superblock, and 2 MiB.
    let blocks = (data + tables) + (data + tables) / 16 + 512;
    let format = Format {
        features: FEATURES,
        uuid: UUID,
        hash_seed: HASH_SEED,
        journal_mib: None,
        inodes,
        blocks,
    };
    Ok(format.make(stage.path(), target)?)
}

/// Copies all files into the stage; the number of folders.
fn fill(stage: &Path, entries: &[Entry], seed: u64) -> Result<u64, ImageError> {
    let mut folders = vec![stage.to_owned()];
    for entry in entries {
        let to = stage.join(&entry.to);
        let mut missing = to
            .ancestors()
            .skip(1)
            .take_while(|path| !path.exists())
            .collect::<Vec<_>>();
        missing.reverse();
        for folder in missing {
            fs::create_dir(folder).map_err(|error| ImageError::io(folder, error))?;
            folders.push(folder.to_owned());
        }
        copy(&entry.from, &to)?;
    }
    let path = stage.join("table.dat");
    if !path.exists() {
        let table = File::create(&path).map_err(|error| ImageError::io(&path, error))?;
        let mut out = BufWriter::new(&table);
        let written = table::write(&mut out, seed, TABLE_BYTES).and_then(|()| out.flush());
        written.map_err(|error| ImageError::io(&path, error))?;
        settle(&table, 0o644).map_err(|error| ImageError::io(&path, error))?;
    }
    // Last and from the inside out: creating a child changes its folder's times.
    for folder in folders.iter().rev() {
        let set = File::open(folder).and_then(|open| settle(&open, 0o755));
        set.map_err(|error| ImageError::io(folder, error))?;
    }
    Ok(folders.len() as u64)
}

fn copy(from: &Path, to: &Path) -> Result<(), ImageError> {
    let mut source = File::open(from).map_err(|error| ImageError::io(from, error))?;
    let mut target = File::create_new(to).map_err(|error| ImageError::io(to, error))?;
    io::copy(&mut source, &mut target).map_err(|error| {
        let culprit = if is_full(&error) { to } else { from };
        ImageError::io(culprit, error)
    })?;
    settle(&target, 0o644).map_err(|error| ImageError::io(to, error))
}

/// Fixed mode and times.
fn settle(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH.into());
    file.set_times(FileTimes::new().set_accessed(time).set_modified(time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::sources;

    fn tree(names: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for name in names {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name.repeat(3000)).unwrap();
        }
        root
    }

    #[test]
    fn equal_files_make_equal_images_wherever_and_in_whatever_order_they_were_made() {
        let names = [
            "src/z/lib.rs",
            "src/a/mod.rs",
            "b.txt",
            "src/a/one.rs",
            "empty/deep/x",
        ];
        let mut images = Vec::new();
        for reversed in [false, true] {
            let mut names = names.to_vec();
            if reversed {
                names.reverse();
                // Change times have a resolution of a clock tick.
                std::thread::sleep(Duration::from_millis(1100));
            }
            let (files, scratch) = (tree(&names), tempfile::tempdir().unwrap());
            let target = scratch.path().join("image");
            build(
                &sources::directory(files.path()).unwrap(),
                5,
                scratch.path(),
                &target,
            )
            .unwrap();
            images.push(fs::read(&target).unwrap());
        }
        assert!(
            images[0] == images[1],
            "two builds of the same files differ"
        );
        assert!(
            images[0]
                .windows(12)
                .any(|window| window == b"src/z/lib.rs")
        );
    }

    #[test]
    fn the_guests_reader_takes_the_image() {
        let (files, scratch) = (
            tree(&["src/a/mod.rs", "b.txt"]),
            tempfile::tempdir().unwrap(),
        );
        let target = scratch.path().join("image");
        build(
            &sources::directory(files.path()).unwrap(),
            5,
            scratch.path(),
            &target,
        )
        .unwrap();
        let image = fs::read(&target).unwrap();
        let system = ext4_view::Ext4::load(Box::new(image)).unwrap();
        assert_eq!(
            system.read("/src/a/mod.rs").unwrap(),
            "src/a/mod.rs".repeat(3000).into_bytes()
        );
        assert_eq!(system.read("/table.dat").unwrap().len() as u64, TABLE_BYTES);
        assert_eq!(
            mirrorball_debian::ext4::inspect(&target)
                .unwrap()
                .block_size,
            4096
        );
    }
}
