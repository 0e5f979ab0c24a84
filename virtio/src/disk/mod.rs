//! Disco's copy-on-write disk (section 4.2 of the paper): one base image, many guests.
//!
//! A [`BaseImage`] never changes. The [`BlockCache`] keeps, for the whole machine, which frame
//! holds which block of it; a read of a whole block into a page is served by mapping that frame.
//! What a guest writes goes to its own overlay, and so does everything that only looks like a
//! write. Nothing here knows of rings or requests; [`crate::block`] speaks that language.

mod bitmap;
mod cache;
mod error;
mod ext4;
mod header;
mod image;
mod overlay;
mod plan;
mod resting;
mod reused;
mod transfer;

pub use cache::BlockCache;
pub use error::DiskError;
pub use ext4::ext4_size;
pub use image::BaseImage;
pub use overlay::OverlayMode;
pub use resting::Rest;

use crate::queue::Buffers;
use bitmap::Bitmap;
use cache::BlockTable;
use mirrorball_pmap::{Access, GroupId, Mechanism, PAGE_BYTES, PAGE_SIZE, PinnedFrames, Ppn};
use overlay::Overlay;
use parking_lot::Mutex;
use plan::{Piece, Source};
use resting::{Copied, Resting};
use reused::Reused;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Bytes of a block: a page, so that a page can be one.
pub const BLOCK_BYTES: u64 = PAGE_BYTES;

/// [`BLOCK_BYTES`] as `usize`, for buffers.
const BLOCK_SIZE: usize = PAGE_SIZE;

/// What one disk operation did, for the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Guest pages that now map a block's frame.
    pub mapped_pages: u64,
    /// Pages' worth of bytes copied into guest memory, each contiguous piece rounded up.
    pub copied_pages: u64,
    /// Reads of the base image's file.
    pub image_reads: u64,
}

/// One guest's disk: a base image, scratch space after it, and the guest's own overlay.
#[derive(Debug)]
pub struct Disk {
    image: Arc<BaseImage>,
    table: Arc<BlockTable>,
    blocks: u64,
    overlay: Mutex<Overlay>,
    reused: Mutex<Reused>,
    resting: Option<Arc<Resting>>,
    /// Blocks of the image that the guest has read into whole pages.
    read_before: Mutex<Bitmap>,
    rested_pages: Arc<AtomicU64>,
}

impl Disk {
    /// A disk over `image` for a guest of `group`.
    ///
    /// `scratch_bytes` of zeros follow the image; both are rounded up to whole blocks.
    ///
    /// # Errors
    /// When a persistent overlay can't be opened, is in use, or was made over another image.
    pub fn new(
        image: Arc<BaseImage>,
        cache: Arc<BlockCache>,
        group: GroupId,
        mode: OverlayMode,
        scratch_bytes: u64,
    ) -> Result<Self, DiskError> {
        let blocks = image.blocks() + scratch_bytes.div_ceil(BLOCK_BYTES);
        let overlay = match mode {
            OverlayMode::Nonpersistent => Overlay::temporary(blocks),
            OverlayMode::Persistent(path) => Overlay::open(&path, &image, blocks)?,
        };
        let table = cache.table(&image, group);
        Ok(Self {
            read_before: Mutex::new(Bitmap::new(image.blocks())),
            image,
            table,
            blocks,
            overlay: Mutex::new(overlay),
            reused: Mutex::default(),
            resting: cache.resting().cloned(),
            rested_pages: Arc::default(),
        })
    }

    /// Size in bytes, scratch space included; a multiple of [`BLOCK_BYTES`].
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blocks * BLOCK_BYTES
    }

    /// The image below.
    #[must_use]
    pub fn image(&self) -> &Arc<BaseImage> {
        &self.image
    }

    /// Pages that were copied first and mapped when they had rested.
    #[must_use]
    pub fn rested_pages(&self) -> u64 {
        self.rested_pages.load(Ordering::Relaxed)
    }

    /// Reads from byte `offset` on into `buffers`; with `sharing`, by mapping the blocks' frames
    /// wherever a whole block of the image meets a whole page that the guest may keep.
    ///
    /// # Errors
    /// When the image changed or a file can't be read; some of the buffers may be filled then.
    pub fn read(
        &self,
        offset: u64,
        buffers: &Buffers,
        access: &Access<'_>,
        sharing: bool,
    ) -> Result<Moved, DiskError> {
        let overlay = self.overlay.lock();
        let source = |block| {
            if overlay.has(block) {
                Source::Overlay
            } else if block < self.image.blocks() {
                Source::Base
            } else {
                Source::Zero
            }
        };
        let kept = sharing && !self.reused.lock().visit(buffers);
        let pieces = plan::read(offset, buffers, sharing, source);
        // What a guest sends on is to be the block's frame, and not a copy of which others map frames.
        let resting = self.resting.as_ref();
        let resting = resting.filter(|_| !access.space().expects_lending());
        let mut moved = Moved::default();
        for run in plan::runs(&pieces) {
            let whole = run[0].map;
            if whole && kept && resting.is_none() && self.map(run, access, &mut moved)? {
                continue;
            }
            if !whole || !self.copy_frames(run, access, &mut moved)? {
                self.copy(&overlay, run, access.memory(), &mut moved)?;
            }
            match resting {
                Some(resting) if whole && kept => self.rest(resting, run, access),
                Some(resting) if whole => overwritten(resting, run, access),
                _ => {}
            }
        }
        Ok(moved)
    }

    /// Maps a run's frames; `false` if the frame store is full and the run is to be copied.
    fn map(
        &self,
        run: &[Piece],
        access: &Access<'_>,
        moved: &mut Moved,
    ) -> Result<bool, DiskError> {
        let blocks = blocks(run);
        let pages = blocks.end - blocks.start;
        let found = self.table.frames(&self.image, blocks.start, pages)?;
        let Some((parts, image_reads)) = found else {
            return Ok(false);
        };
        moved.image_reads += image_reads;
        for (guest, frames) in plan::pair(run, &parts) {
            place(guest, &frames, access, moved)?;
        }
        Ok(true)
    }

    /// Copies a run from its blocks' frames, if guests map all of them; `false` if not.
    fn copy_frames(
        &self,
        run: &[Piece],
        access: &Access<'_>,
        moved: &mut Moved,
    ) -> Result<bool, DiskError> {
        let Some(parts) = self.table.present(blocks(run)) else {
            return Ok(false);
        };
        for (guest, frames) in plan::pair(run, &parts) {
            access
                .memory()
                .write_slice(frames.bytes(), GuestAddress(guest))
                .map_err(DiskError::Guest)?;
            moved.copied_pages += u64::from(frames.pages());
            if let Ok(ppn) = u32::try_from(guest / PAGE_BYTES) {
                // If the guest sends the page on, it is the block's frame that goes.
                access.note_twin(Ppn(ppn), &frames);
            }
        }
        Ok(true)
    }

    /// Takes note of a run of whole blocks that was copied, so that it is mapped later.
    fn rest(&self, resting: &Resting, run: &[Piece], access: &Access<'_>) {
        let blocks = blocks(run);
        let again = {
            let mut before = self.read_before.lock();
            let again = blocks.clone().all(|block| before.has(block));
            before.set(blocks);
            again
        };
        for piece in run {
            let Some((at, pages)) = pages(piece) else {
                continue;
            };
            let copied = Copied {
                image: Arc::clone(&self.image),
                table: Arc::clone(&self.table),
                block: piece.disk / BLOCK_BYTES,
                pages,
                again,
                mapped: Arc::clone(&self.rested_pages),
            };
            resting.add(access.space().vm(), at, copied);
        }
    }

    /// Copies a run, whose pieces are consecutive on the disk and of one source.
    fn copy(
        &self,
        overlay: &Overlay,
        run: &[Piece],
        memory: &GuestMemoryMmap,
        moved: &mut Moved,
    ) -> Result<(), DiskError> {
        let slices = transfer::slices(memory, run.iter().map(|piece| (piece.guest, piece.len)))?;
        match run[0].source {
            Source::Base => {
                self.image.read_scattered(run[0].disk, &slices)?;
                moved.image_reads += 1;
            }
            Source::Overlay => overlay.read_scattered(run[0].disk, &slices)?,
            Source::Zero => transfer::zero(&slices, 0),
        }
        moved.copied_pages += run
            .iter()
            .map(|piece| piece.len.div_ceil(PAGE_BYTES))
            .sum::<u64>();
        Ok(())
    }

    /// Writes `buffers` to the overlay from byte `offset` on.
    ///
    /// # Errors
    /// When the overlay's file can't be written, for want of space for example; the blocks that
    /// were there before may be partly overwritten then, as on a disk. When a page of `buffers` is lost;
    /// nothing was written then.
    pub fn write(
        &self,
        offset: u64,
        buffers: &Buffers,
        access: &Access<'_>,
    ) -> Result<Moved, DiskError> {
        if access.space().can_lose_pages() {
            return self.write_copied(offset, buffers, access);
        }
        let ranges = buffers.iter().map(|b| (b.address, b.len.into()));
        let slices = transfer::slices(access.memory(), ranges)?;
        let mut moved = Moved::default();
        let mut overlay = self.overlay.lock();
        self.complete_edges(&mut overlay, offset, buffers.bytes(), &mut moved)?;
        overlay.write_scattered(offset, &slices)?;
        Ok(moved)
    }

    /// As [`write`](Self::write), but has all bytes in hand before any is written: what the kernel took
    /// from guest memory itself would be in the file before it is known that it was no lost page.
    fn write_copied(
        &self,
        offset: u64,
        buffers: &Buffers,
        access: &Access<'_>,
    ) -> Result<Moved, DiskError> {
        let mut content = vec![0; usize::try_from(buffers.bytes()).unwrap_or(usize::MAX)];
        buffers
            .read(access.memory(), &mut content)
            .map_err(DiskError::Guest)?;
        if access.space().is_abandoned() {
            return Err(DiskError::PageLost);
        }
        let mut moved = Moved::default();
        let mut overlay = self.overlay.lock();
        self.complete_edges(&mut overlay, offset, buffers.bytes(), &mut moved)?;
        overlay.write(offset, &content)?;
        Ok(moved)
    }

    /// Makes `bytes` bytes from `offset` on read as zeros.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn write_zeroes(&self, offset: u64, bytes: u64) -> Result<Moved, DiskError> {
        let mut moved = Moved::default();
        let mut overlay = self.overlay.lock();
        self.complete_edges(&mut overlay, offset, bytes, &mut moved)?;
        overlay.write_zeroes(offset, bytes)?;
        Ok(moved)
    }

    /// Gives back the space of the whole blocks in a range; they read as zeros afterwards.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn discard(&self, offset: u64, bytes: u64) -> Result<(), DiskError> {
        let first = offset.next_multiple_of(BLOCK_BYTES);
        let end = (offset + bytes) / BLOCK_BYTES * BLOCK_BYTES;
        if first < end {
            self.overlay.lock().write_zeroes(first, end - first)
        } else {
            Ok(())
        }
    }

    /// Makes every completed write durable, if the overlay is persistent.
    ///
    /// # Errors
    /// When the host can't; from then on every flush fails, for the data may be lost.
    pub fn flush(&self) -> Result<(), DiskError> {
        self.overlay.lock().flush()
    }

    /// Brings the blocks that a write covers only partly into the overlay.
    fn complete_edges(
        &self,
        overlay: &mut Overlay,
        offset: u64,
        bytes: u64,
        moved: &mut Moved,
    ) -> Result<(), DiskError> {
        for edge in [offset, offset + bytes] {
            let block = edge / BLOCK_BYTES;
            if edge.is_multiple_of(BLOCK_BYTES) || overlay.has(block) {
                continue;
            }
            let mut content = [0; BLOCK_SIZE];
            if block < self.image.blocks() {
                self.image.read(block * BLOCK_BYTES, &mut content)?;
                moved.image_reads += 1;
            }
            overlay.write(block * BLOCK_BYTES, &content)?;
        }
        Ok(())
    }
}

/// Takes note that a run went to pages that are no cache: nothing there waits to be mapped any more.
fn overwritten(resting: &Resting, run: &[Piece], access: &Access<'_>) {
    for (at, pages) in run.iter().filter_map(pages) {
        resting.overwritten(access.space().vm(), at, pages);
    }
}

/// The guest's pages that a piece of whole blocks goes to.
fn pages(piece: &Piece) -> Option<(Ppn, u32)> {
    let at = u32::try_from(piece.guest / PAGE_BYTES).ok()?;
    let pages = u32::try_from(piece.len / BLOCK_BYTES).ok()?;
    Some((Ppn(at), pages))
}

/// The blocks that a run of whole ones reads.
fn blocks(run: &[Piece]) -> Range<u64> {
    let first = run.first().map_or(0, |piece| piece.disk / BLOCK_BYTES);
    let pages: u64 = run.iter().map(|piece| piece.len / BLOCK_BYTES).sum();
    first..first + pages
}

/// Maps frames at a guest-physical address, or copies them where the pmap refuses.
fn place(
    guest: u64,
    frames: &PinnedFrames,
    access: &Access<'_>,
    moved: &mut Moved,
) -> Result<(), DiskError> {
    let pages = u64::from(frames.pages());
    let mapped = u32::try_from(guest / PAGE_BYTES)
        .is_ok_and(|ppn| access.map_frames(Ppn(ppn), frames, Mechanism::Disk).is_ok());
    if mapped {
        moved.mapped_pages += pages;
        return Ok(());
    }
    moved.copied_pages += pages;
    access
        .memory()
        .write_slice(frames.bytes(), GuestAddress(guest))
        .map_err(DiskError::Guest)
}
