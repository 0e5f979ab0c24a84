//! Files that guests boot from, as frames that all guests of a group map.
//!
//! The frames are remembered weakly: once every guest has freed or overwritten its pages, nothing
//! is held, and the file is read again for the next guest.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mirrorball_abi::layout::PAGE_SIZE;
use mirrorball_pmap::{GroupId, Pmap, WeakFrame};
use parking_lot::Mutex;

use super::LinuxError;
use super::initramfs::{self, Sizes};
use super::kernel::{self, Kernel};
use crate::boot::Content;

/// Kernels and initramfs archives of a machine.
#[derive(Debug, Default)]
pub(crate) struct Shelves {
    kernels: Shelf<Kernel>,
    archives: Shelf<Sizes>,
}

/// For whom a file is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) pmap: &'a Pmap,
    pub(super) group: GroupId,
    /// Whether guests map frames, or get copies.
    pub(super) shared: bool,
}

impl Shelves {
    pub(super) fn kernel(
        &self,
        reader: Reader<'_>,
        path: &Path,
    ) -> Result<(Kernel, Content), LinuxError> {
        self.kernels
            .get(reader, "the kernel", path, || kernel::read(path))
    }

    pub(super) fn archive(
        &self,
        reader: Reader<'_>,
        path: &Path,
    ) -> Result<(Sizes, Content), LinuxError> {
        self.archives
            .get(reader, "the initramfs", path, || initramfs::read(path))
    }
}

/// Which content of which file, for which group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    group: GroupId,
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

#[derive(Debug)]
struct Shelf<T>(Mutex<HashMap<Key, (T, Vec<WeakFrame>)>>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Copy> Shelf<T> {
    fn get(
        &self,
        reader: Reader<'_>,
        what: &'static str,
        path: &Path,
        read: impl FnOnce() -> Result<(T, Vec<u8>), LinuxError>,
    ) -> Result<(T, Content), LinuxError> {
        let publish = |bytes| {
            let bytes = whole_pages(bytes);
            Content::publish(reader.pmap, bytes, reader.group, reader.shared)
        };
        if !reader.shared {
            let (known, bytes) = read()?;
            return Ok((known, publish(bytes)?));
        }
        let key = Key::of(path, reader.group).map_err(|source| LinuxError::Unreadable {
            what,
            path: path.into(),
            source,
        })?;
        let mut shelf = self.0.lock();
        if let Some((known, weak)) = shelf.get(&key) {
            let pinned = reader.pmap.frames().pin_run(weak);
            let whole = pinned.filter(|frames| frames.pages() as usize == weak.len());
            if let Some(frames) = whole {
                return Ok((*known, Content::Shared(frames)));
            }
        }
        let (known, bytes) = read()?;
        let content = publish(bytes)?;
        if let Content::Shared(frames) = &content {
            shelf.insert(key, (known, frames.weak_all()));
        }
        Ok((known, content))
    }
}

impl Key {
    fn of(path: &Path, group: GroupId) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            group,
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

fn whole_pages(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(PAGE_SIZE), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirrorball_pmap::PmapConfig;

    fn pmap() -> std::sync::Arc<Pmap> {
        let config = PmapConfig {
            frame_capacity: 64 << 20,
            ..PmapConfig::default()
        };
        Pmap::new(&config).unwrap()
    }

    #[test]
    fn a_file_is_read_once_while_it_is_in_use_and_again_when_it_changes() {
        let pmap = pmap();
        let (group, shared) = (GroupId(0), true);
        let reader = Reader {
            pmap: &pmap,
            group,
            shared,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("initrd");
        let archive = initramfs::tests::archive(b"hello");
        std::fs::write(&path, &archive).unwrap();
        let shelves = Shelves::default();
        let frames = |content: &Content| match content {
            Content::Shared(frames) => frames.start(),
            Content::Copied(_) => panic!("copied"),
        };
        let (sizes, first) = shelves.archive(reader, &path).unwrap();
        assert_eq!(sizes.packed, archive.len() as u64);
        let (_, second) = shelves.archive(reader, &path).unwrap();
        assert_eq!(frames(&first), frames(&second));
        let other = Reader {
            group: GroupId(1),
            ..reader
        };
        let (_, foreign) = shelves.archive(other, &path).unwrap();
        assert_ne!(frames(&first), frames(&foreign));
        std::fs::write(&path, initramfs::tests::archive(b"changed!")).unwrap();
        let (_, changed) = shelves.archive(reader, &path).unwrap();
        assert_ne!(frames(&first), frames(&changed));

        drop((first, second, foreign, changed));
        assert_eq!(pmap.totals().frames, 0, "nothing is held for nobody");
        let (_, again) = shelves.archive(reader, &path).unwrap();
        let Content::Shared(frames) = again else {
            panic!("copied")
        };
        assert!(frames.bytes().windows(8).any(|bytes| bytes == b"changed!"));
    }

    #[test]
    fn without_sharing_each_guest_gets_a_copy() {
        let pmap = pmap();
        let reader = Reader {
            pmap: &pmap,
            group: GroupId(0),
            shared: false,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("initrd");
        std::fs::write(&path, initramfs::tests::archive(b"hello")).unwrap();
        let (_, content) = Shelves::default().archive(reader, &path).unwrap();
        assert!(matches!(content, Content::Copied(_)));
        assert_eq!(pmap.totals().frames, 0);
    }
}
