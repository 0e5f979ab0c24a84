//! What one guest wrote: a sparse file with a block for each block of the disk, and a bitmap
//! that says which of them count.
//!
//! A persistent overlay's file is header, bitmap, data. At a flush the data is synced before the
//! bitmap's changed pages are written and synced in their turn, so a bit on the disk always
//! stands for data on the disk, whenever the host stops.

use super::bitmap::Bitmap;
use super::header::Header;
use super::{BLOCK_BYTES, BLOCK_SIZE, BaseImage, DiskError, transfer};
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use vm_memory::VolatileSlice;
use zerocopy::IntoBytes;

/// Where a guest's writes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverlayMode {
    /// An unlinked file in the directory for temporary files (`TMPDIR`), gone with the disk.
    Nonpersistent,
    /// A file of its own, made if it isn't there; durable at each flush.
    Persistent(PathBuf),
}

/// One guest's written blocks.
#[derive(Debug)]
pub(super) struct Overlay {
    path: PathBuf,
    blocks: u64,
    bitmap: Bitmap,
    file: Option<File>,
    /// Byte offset of block 0's data in the file.
    data: u64,
    persistent: bool,
    /// Something was written since the last flush.
    unsynced: bool,
    /// A flush failed: the kernel may have dropped what it could not write.
    lost: bool,
}

impl Overlay {
    /// An overlay that ends with the disk; its file is made at the first write.
    pub(super) fn temporary(blocks: u64) -> Self {
        Self {
            path: std::env::temp_dir(),
            blocks,
            bitmap: Bitmap::new(blocks),
            file: None,
            data: 0,
            persistent: false,
            unsynced: false,
            lost: false,
        }
    }

    /// Opens a persistent overlay, or makes it where there is none or an empty file.
    pub(super) fn open(path: &Path, image: &BaseImage, blocks: u64) -> Result<Self, DiskError> {
        let file = lock(path)?;
        let wanted = Header::new(image, blocks)?;
        let failed = |action, source| overlay_error(path, action, source);
        let metadata = file
            .metadata()
            .map_err(|error| failed("opening the disk overlay", error))?;
        let data = BLOCK_BYTES + Bitmap::file_bytes(blocks);
        let bytes = data + blocks * BLOCK_BYTES;
        let bitmap = if metadata.len() == 0 {
            create(&file, path, &wanted, data, bytes)
                .map_err(|error| failed("making the disk overlay", error))?;
            Bitmap::new(blocks)
        } else {
            load(&file, path, &wanted, blocks, bytes)?
        };
        Ok(Self {
            path: path.to_owned(),
            blocks,
            bitmap,
            file: Some(file),
            data,
            persistent: true,
            unsynced: false,
            lost: false,
        })
    }

    /// Whether the guest wrote a block.
    pub(super) fn has(&self, block: u64) -> bool {
        self.bitmap.has(block)
    }

    /// Reads from disk offset `offset` on; only blocks that are here mean anything.
    pub(super) fn read_scattered(
        &self,
        offset: u64,
        slices: &[VolatileSlice<'_>],
    ) -> Result<(), DiskError> {
        let file = self
            .file
            .as_ref()
            .ok_or(io::ErrorKind::UnexpectedEof.into());
        let done = file
            .and_then(|file| transfer::read(file, slices, self.data + offset))
            .map_err(|error| self.failed("reading the disk overlay", error))?;
        if done < slices.iter().map(|slice| slice.len() as u64).sum() {
            let short = io::ErrorKind::UnexpectedEof.into();
            return Err(self.failed("reading the disk overlay", short));
        }
        Ok(())
    }

    /// Writes from disk offset `offset` on. Blocks covered in part must be here already.
    pub(super) fn write_scattered(
        &mut self,
        offset: u64,
        slices: &[VolatileSlice<'_>],
    ) -> Result<(), DiskError> {
        let bytes = slices.iter().map(|slice| slice.len() as u64).sum();
        let at = self.data + offset;
        self.change(offset, bytes, |file| transfer::write(file, slices, at))
    }

    /// Writes from disk offset `offset` on. Blocks covered in part must be here already.
    pub(super) fn write(&mut self, offset: u64, content: &[u8]) -> Result<(), DiskError> {
        let at = self.data + offset;
        self.change(offset, content.len() as u64, |file| {
            file.write_all_at(content, at)
        })
    }

    /// Makes a range read as zeros. Blocks covered in part must be here already.
    pub(super) fn write_zeroes(&mut self, offset: u64, bytes: u64) -> Result<(), DiskError> {
        let at = self.data + offset;
        self.change(offset, bytes, |file| punch(file, at, bytes))
    }

    /// Makes every completed write durable; nothing to do for a temporary overlay.
    pub(super) fn flush(&mut self) -> Result<(), DiskError> {
        if self.lost {
            return Err(DiskError::Lost {
                path: self.path.clone(),
            });
        }
        let Some(file) = self
            .file
            .as_ref()
            .filter(|_| self.persistent && self.unsynced)
        else {
            return Ok(());
        };
        let mut lost = false;
        let outcome = sync(file, &self.bitmap, &mut lost);
        self.lost = lost;
        outcome.map_err(|error| self.failed("flushing the disk overlay", error))?;
        self.bitmap.saved();
        self.unsynced = false;
        Ok(())
    }

    /// Changes the file, and only then counts the blocks as here.
    fn change(
        &mut self,
        offset: u64,
        bytes: u64,
        with: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), DiskError> {
        if self.file.is_none() {
            let made = tempfile::tempfile_in(&self.path)
                .and_then(|file| file.set_len(self.blocks * BLOCK_BYTES).map(|()| file))
                .map_err(|error| self.failed("making a temporary disk overlay in", error))?;
            self.file = Some(made);
        }
        self.unsynced = true;
        let outcome = self.file.as_ref().map_or(Ok(()), with);
        outcome.map_err(|error| self.failed("writing the disk overlay", error))?;
        self.bitmap
            .set(offset / BLOCK_BYTES..(offset + bytes).div_ceil(BLOCK_BYTES));
        Ok(())
    }

    fn failed(&self, action: &'static str, source: io::Error) -> DiskError {
        overlay_error(&self.path, action, source)
    }
}

/// An orderly end keeps what the guest never flushed; only a crash may lose that.
impl Drop for Overlay {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "a disk overlay was not saved whole");
        }
        // Closing is not enough while a process that was just forked still has the file open.
        if let Some(file) = self.file.as_ref().filter(|_| self.persistent) {
            let _ = rustix::fs::flock(file, FlockOperation::Unlock);
        }
    }
}

fn overlay_error(path: &Path, action: &'static str, source: io::Error) -> DiskError {
    DiskError::Overlay {
        path: path.to_owned(),
        action,
        source,
    }
}

/// Opens an overlay's file, or makes an empty one, for this disk alone.
fn lock(path: &Path) -> Result<File, DiskError> {
    let failed = |error| overlay_error(path, "opening the disk overlay", error);
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(DiskError::OverlayInvalid {
            path: path.to_owned(),
            reason: "it is not a regular file",
        });
    }
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(DiskError::OverlayInUse {
            path: path.to_owned(),
        }),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Checks that an overlay's file of `bytes` bytes is for the `wanted` disk, and reads its bitmap.
fn load(
    file: &File,
    path: &Path,
    wanted: &Header,
    blocks: u64,
    bytes: u64,
) -> Result<Bitmap, DiskError> {
    let failed = |error| overlay_error(path, "reading the disk overlay", error);
    let invalid = |reason| DiskError::OverlayInvalid {
        path: path.to_owned(),
        reason,
    };
    let start = read_start(file, Header::BYTES).map_err(failed)?;
    let header = Header::parse(&start).map_err(invalid)?;
    if let Some(reason) = header.mismatch(wanted) {
        return Err(DiskError::WrongBase {
            path: path.to_owned(),
            reason,
        });
    }
    if file.metadata().map_err(failed)?.len() != bytes {
        return Err(invalid("its size is not what its header says"));
    }
    let mut bits = vec![0; usize::try_from(Bitmap::file_bytes(blocks)).unwrap_or(0)];
    file.read_exact_at(&mut bits, BLOCK_BYTES).map_err(failed)?;
    Bitmap::load(blocks, &bits).ok_or_else(|| invalid("its bitmap is damaged"))
}

/// Lays a new overlay out. The header comes last: a file without one was never finished, a file
/// with one has its name on the disk as well. The bitmap's space is taken now, so that a flush
/// needs none on a full disk.
fn create(file: &File, path: &Path, header: &Header, data: u64, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, data) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(errno) => return Err(errno.into()),
    }
    file.sync_all()?;
    sync_name(path)?;
    file.write_all_at(header.as_bytes(), 0)?;
    file.sync_all()
}

/// Makes a new file's name durable: syncing the file alone need not (fsync(2)), and a flush into a
/// file that a crash leaves without a name keeps nothing.
fn sync_name(path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    match rustix::fs::fsync(File::open(directory.unwrap_or(Path::new(".")))?) {
        // File systems that have no such thing keep names in another way.
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn read_start(file: &File, bytes: usize) -> io::Result<Vec<u8>> {
    let mut start = vec![0; bytes];
    let mut done = 0;
    while done < bytes {
        match file.read_at(&mut start[done..], done as u64)? {
            0 => break,
            more => done += more,
        }
    }
    start.truncate(done);
    Ok(start)
}

/// Syncs data, then bitmap. A failed write can be tried again; after a failed sync the kernel may
/// have dropped what it could not write, so a later success would mean nothing: `lost`.
fn sync(file: &File, bitmap: &Bitmap, lost: &mut bool) -> io::Result<()> {
    file.sync_data().inspect_err(|_| *lost = true)?;
    for (page, bits) in bitmap.changed() {
        file.write_all_at(&bits, (page + 1) * BLOCK_BYTES)?;
    }
    file.sync_data().inspect_err(|_| *lost = true)
}

/// Frees a range of a file, or writes zeros where the file system can't.
fn punch(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, offset, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let zeros = [0; BLOCK_SIZE];
            let mut done = 0;
            while done < bytes {
                let len = zeros
                    .len()
                    .min(usize::try_from(bytes - done).unwrap_or(zeros.len()));
                file.write_all_at(&zeros[..len], offset + done)?;
                done += len as u64;
            }
            Ok(())
        }
        outcome => outcome.map_err(io::Error::from),
    }
}
