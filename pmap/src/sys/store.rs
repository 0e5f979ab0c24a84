//! The frame store's memory: one memfd, and the monitor's own shared view of it.

use super::bytes_of;
use crate::types::{Mpn, PAGE_SIZE};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, fstat, ftruncate, memfd_create};
use rustix::io::pwrite;
use rustix::mm::{self, Advice, MapFlags, ProtFlags};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr, slice,
};

/// A sparse memfd of `frames` pages with a read-write view.
///
/// Which frames may be read or written through the view, and by whom, is the ledger's business:
/// a frame is written only by its maker before it is published, and is immutable from then on.
#[derive(Debug)]
pub(crate) struct StoreMemory {
    fd: OwnedFd,
    view: *mut u8,
    frames: u32,
}

// SAFETY: plain process memory; accesses follow the rules of `bytes` and `bytes_mut`.
unsafe impl Send for StoreMemory {}
// SAFETY: as above.
unsafe impl Sync for StoreMemory {}

impl StoreMemory {
    /// Makes the memfd and maps it; uses no memory until frames are written.
    pub(crate) fn new(frames: u32) -> io::Result<Self> {
        let fd = memfd_create("mirrorball-frames", MemfdFlags::CLOEXEC)?;
        ftruncate(&fd, bytes_of(frames) as u64)?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let view = unsafe {
            mm::mmap(
                ptr::null_mut(),
                bytes_of(frames),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                &fd,
                0,
            )?
        };
        // SAFETY: the mapping just made; the advice changes no content.
        unsafe { mm::madvise(view, bytes_of(frames), Advice::LinuxDontFork)? };
        Ok(Self {
            fd,
            view: view.cast(),
            frames,
        })
    }

    /// The memfd, for overlays.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn at(&self, first: Mpn, pages: u32) -> *mut u8 {
        assert!(
            u64::from(first.0) + u64::from(pages) <= u64::from(self.frames),
            "{first:?}+{pages} is outside the store"
        );
        self.view.wrapping_add(bytes_of(first.0))
    }

    /// The bytes of published frames.
    ///
    /// # Safety
    /// The frames are published and kept alive (pinned or referenced) while the slice lives.
    pub(crate) unsafe fn bytes(&self, first: Mpn, pages: u32) -> &[u8] {
        // SAFETY: mapped for the store's life; the caller keeps the frames from being reused, and
        // nobody writes a published frame.
        unsafe { slice::from_raw_parts(self.at(first, pages), bytes_of(pages)) }
    }

    /// The bytes of frames that are being made.
    ///
    /// # Safety
    /// The caller is the only one who knows these frames: allocated, not yet published.
    #[allow(
        clippy::mut_from_ref,
        reason = "exclusive by the contract above: each frame has one maker"
    )]
    pub(crate) unsafe fn bytes_mut(&self, first: Mpn, pages: u32) -> &mut [u8] {
        // SAFETY: mapped for the store's life, and exclusive by this function's contract.
        unsafe { slice::from_raw_parts_mut(self.at(first, pages), bytes_of(pages)) }
    }

    /// Writes into frames that are being made, through the file.
    pub(crate) fn write(&self, first: Mpn, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let mut at = (bytes_of(first.0) + offset) as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = pwrite(&self.fd, rest, at)?;
            rest = &rest[written..];
            at += written as u64;
        }
        Ok(())
    }

    /// Gives the memory of frames back to the kernel; they read as zeros afterwards.
    pub(crate) fn punch(&self, first: Mpn, pages: u32) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(
            &self.fd,
            flags,
            bytes_of(first.0) as u64,
            bytes_of(pages) as u64,
        )?)
    }

    /// Bytes of the store that are resident, as the kernel counts them.
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        let blocks = fstat(&self.fd)?.st_blocks;
        Ok(u64::try_from(blocks).unwrap_or(0) * 512)
    }
}

impl Drop for StoreMemory {
    fn drop(&mut self) {
        // SAFETY: the view ends with the store; every handle to a frame keeps the store alive.
        let _ = unsafe { mm::munmap(self.view.cast(), self.frames as usize * PAGE_SIZE) };
    }
}
