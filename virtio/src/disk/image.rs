//! Base images: opened read-only, never changed by us, and watched for changes by others.

use super::{BLOCK_BYTES, DiskError, transfer};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use vm_memory::VolatileSlice;

/// SHA-256 of a whole image.
pub(super) type ImageDigest = [u8; 32];

/// What tells one state of a file from any other, as `fstat` sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    fn difference(&self, now: &Self) -> Option<String> {
        if self.size != now.size {
            return Some(format!(
                "its size went from {} to {} bytes",
                self.size, now.size
            ));
        }
        let at = |(seconds, nanos): (i64, u64)| format!("{seconds}.{nanos:09}");
        if self.modified != now.modified {
            let (was, is) = (at(self.modified), at(now.modified));
            return Some(format!(
                "it was written (modification time from {was} to {is})"
            ));
        }
        if self.changed != now.changed {
            let (was, is) = (at(self.changed), at(now.changed));
            return Some(format!(
                "it was replaced, linked or had its times set (change time from {was} to {is})"
            ));
        }
        None
    }
}

/// A disk image that any number of guests read and none can write.
#[derive(Debug)]
pub struct BaseImage {
    path: PathBuf,
    file: File,
    identity: Identity,
    digest: OnceLock<ImageDigest>,
}

impl BaseImage {
    /// Opens an image, which must be a regular file with at least one byte.
    ///
    /// # Errors
    /// When there is no such file, it is of another kind, or it can't be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Arc<Self>, DiskError> {
        let path = path.as_ref().to_path_buf();
        // Without NONBLOCK the open of a named pipe would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = rustix::fs::open(&path, flags, Mode::empty())
            .and_then(|fd| rustix::fs::fstat(&fd).map(|stat| (fd, stat)));
        let (fd, stat) = match opened {
            Ok(opened) => opened,
            Err(errno) => {
                return Err(DiskError::Image {
                    path,
                    source: errno.into(),
                });
            }
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => None,
            FileType::Directory => Some("a directory"),
            FileType::BlockDevice | FileType::CharacterDevice => Some("a device"),
            FileType::Fifo => Some("a named pipe"),
            _ => Some("something else"),
        };
        if let Some(kind) = kind {
            return Err(DiskError::NotAFile { path, kind });
        }
        let identity = Identity::of(&stat);
        if identity.size == 0 {
            return Err(DiskError::Empty { path });
        }
        Ok(Arc::new(Self {
            path,
            file: fd.into(),
            identity,
            digest: OnceLock::new(),
        }))
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.identity.size
    }

    /// Size in blocks of 4 KiB; zeros complete the last one.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.identity.size.div_ceil(BLOCK_BYTES)
    }

    /// Checks that the file is as it was when it was opened.
    ///
    /// A store through a shared memory mapping shows only once the kernel has noticed it.
    ///
    /// # Errors
    /// [`DiskError::ImageChanged`] with what changed.
    pub fn verify_unchanged(&self) -> Result<(), DiskError> {
        let stat = rustix::fs::fstat(&self.file).map_err(|errno| self.failed(errno.into()))?;
        match self.identity.difference(&Identity::of(&stat)) {
            Some(what) => Err(DiskError::ImageChanged {
                path: self.path.clone(),
                what,
            }),
            None => Ok(()),
        }
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// SHA-256 of the whole image; computed once, at the first call.
    pub(super) fn digest(&self) -> Result<ImageDigest, DiskError> {
        if let Some(digest) = self.digest.get() {
            return Ok(*digest);
        }
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < self.bytes() {
            let len = chunk
                .len()
                .min(usize::try_from(self.bytes() - offset).unwrap_or(usize::MAX));
            let chunk = &mut chunk[..len];
            self.read(offset, chunk)?;
            hash.update(&*chunk);
            offset += len as u64;
        }
        Ok(*self.digest.get_or_init(|| hash.finalize().into()))
    }

    /// Reads from byte `offset` on, zeros past the end. The content is the opened image's: what
    /// was read is only believed if the file is still unchanged after reading.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), DiskError> {
        let inside = self.inside(offset, data.len() as u64);
        let (from_file, past_end) = data.split_at_mut(usize::try_from(inside).unwrap_or(0));
        past_end.fill(0);
        let outcome = self.file.read_exact_at(from_file, offset);
        self.verify_unchanged()?;
        outcome.map_err(|error| self.failed(error))
    }

    /// As [`read`](Self::read), straight into guest memory.
    pub(super) fn read_scattered(
        &self,
        offset: u64,
        slices: &[VolatileSlice<'_>],
    ) -> Result<(), DiskError> {
        let total = slices.iter().map(|slice| slice.len() as u64).sum();
        let inside = self.inside(offset, total);
        let outcome = transfer::read(&self.file, slices, offset);
        self.verify_unchanged()?;
        let done = outcome.map_err(|error| self.failed(error))?;
        if done < inside {
            return Err(self.failed(io::ErrorKind::UnexpectedEof.into()));
        }
        transfer::zero(slices, inside);
        Ok(())
    }

    /// How many of `bytes` bytes at `offset` the file has.
    fn inside(&self, offset: u64, bytes: u64) -> u64 {
        self.identity.size.saturating_sub(offset).min(bytes)
    }

    fn failed(&self, source: io::Error) -> DiskError {
        DiskError::Image {
            path: self.path.clone(),
            source,
        }
    }
}
