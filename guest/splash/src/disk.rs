//! Virtual disks: requests that block the calling thread, never the vCPU.
//!
//! Several requests can be under way; the driver's queue gives completions in its own order, so
//! each thread waits for its token to come to the front and then takes it off.
//!
//! Which descriptor a request gets depends on whether the one before it was answered yet, so what a
//! queue's pages hold after a workload is a matter of chance. A guest at rest shall hold the same each
//! time: between workloads its queues are as new.

use crate::hal::{SplashHal, transport};
use crate::sched;
use crate::shared::{BLOCKS_READ, BLOCKS_WRITTEN, usize_of};
use crate::sync::Spin;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::ptr::with_exposed_provenance_mut;
use mirrorball_abi::MAX_DEVICES;
use mirrorball_abi::layout::PAGE_SIZE;
use virtio_drivers::Error;
use virtio_drivers::device::blk::{BlkReq, BlkResp, SECTOR_SIZE, VirtIOBlk};
use virtio_drivers::transport::Transport;
use virtio_drivers::transport::mmio::MmioTransport;

/// virtio device id of a block device (virtio 1.2, clause 5.2.1).
const BLOCK_DEVICE: u32 = 2;
const SECTORS_PER_BLOCK: usize = PAGE_SIZE / SECTOR_SIZE;

type Driver<T> = VirtIOBlk<SplashHal, T>;

/// A disk request that failed, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskError(pub String);

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for DiskError {}

/// One virtual disk.
pub struct Disk<T: Transport = MmioTransport<'static>> {
    line: Spin<Line<T>>,
    blocks: u64,
}

/// The driver, and what it has not given back yet.
struct Line<T: Transport> {
    /// `None` once it did not come up again.
    driver: Option<Driver<T>>,
    /// Requests under way.
    requests: usize,
}

impl<T: Transport> fmt::Debug for Disk<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("blocks", &self.blocks)
            .finish_non_exhaustive()
    }
}

static DISKS: Spin<[Option<&'static Disk>; MAX_DEVICES]> = Spin::new([None; MAX_DEVICES]);

/// The `index`th disk, set up when first asked for (a guest that needs no disk pays for none).
///
/// # Errors
/// When there is no such disk or its driver does not come up.
pub fn disk(index: usize) -> Result<&'static Disk, DiskError> {
    let mut disks = DISKS.lock();
    let place = disks
        .get_mut(index)
        .ok_or_else(|| DiskError(format!("no disk {index}")))?;
    if let Some(disk) = *place {
        return Ok(disk);
    }
    let transport =
        transport(BLOCK_DEVICE, index).ok_or_else(|| DiskError(format!("no disk {index}")))?;
    let disk = Disk::new(transport).map_err(|error| DiskError(format!("disk {index}: {error}")))?;
    let disk: &'static Disk = Box::leak(Box::new(disk));
    *place = Some(disk);
    Ok(disk)
}

/// Makes the queues of all disks that are set up as new, but those with requests under way. A disk that
/// does not come up again refuses its requests.
pub fn renew() {
    let disks = *DISKS.lock();
    for (index, disk) in disks.iter().enumerate() {
        if let Some(disk) = disk {
            disk.renew(|| transport(BLOCK_DEVICE, index));
        }
    }
}

impl<T: Transport> Disk<T> {
    /// Sets the device behind `transport` up.
    fn new(transport: T) -> virtio_drivers::Result<Self> {
        let driver = Driver::new(transport)?;
        let blocks = driver.capacity() / SECTORS_PER_BLOCK as u64;
        Ok(Self {
            line: Spin::new(Line {
                driver: Some(driver),
                requests: 0,
            }),
            blocks,
        })
    }

    /// Sets the device up again, behind a transport to it.
    fn renew(&self, transport: impl FnOnce() -> Option<T>) {
        let mut line = self.line.lock();
        if line.requests > 0 {
            return;
        }
        // The old one first: dropping it takes the queue from the device.
        line.driver = None;
        line.driver = transport().and_then(|transport| Driver::new(transport).ok());
    }

    /// Size in blocks of 4 KiB.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    fn check(&self, block: u64, pages: usize) -> Result<usize, DiskError> {
        let end = block
            .checked_add(pages as u64)
            .filter(|end| pages > 0 && *end <= self.blocks);
        end.ok_or_else(|| {
            DiskError(format!(
                "blocks {block}+{pages} are not on a disk of {}",
                self.blocks
            ))
        })?;
        Ok(usize_of(block) * SECTORS_PER_BLOCK)
    }

    /// Reads `pages` blocks into the pages at `address`.
    ///
    /// # Errors
    /// When the blocks are not on the disk or the device reports an error.
    ///
    /// # Safety
    /// The pages belong to the caller and nobody reads or writes them until this returns.
    pub unsafe fn read(&self, block: u64, address: usize, pages: usize) -> Result<(), DiskError> {
        let sector = self.check(block, pages)?;
        // SAFETY: the caller grants the pages.
        let buffer = unsafe {
            core::slice::from_raw_parts_mut(with_exposed_provenance_mut(address), pages * PAGE_SIZE)
        };
        let (mut request, mut response) = (BlkReq::default(), BlkResp::default());
        // SAFETY: request, buffer and response stay where they are and untouched until completed.
        let token = self.submit(|driver| unsafe {
            driver.read_blocks_nb(sector, &mut request, buffer, &mut response)
        })?;
        // SAFETY: the same buffers as submitted.
        self.complete(token, |driver| unsafe {
            driver.complete_read_blocks(token, &request, buffer, &mut response)
        })?;
        BLOCKS_READ.increase(pages as u64);
        Ok(())
    }

    /// Writes the `pages` pages at `address` to the disk.
    ///
    /// # Errors
    /// As [`Disk::read`].
    ///
    /// # Safety
    /// The pages are mapped and nobody writes them until this returns.
    pub unsafe fn write(&self, block: u64, address: usize, pages: usize) -> Result<(), DiskError> {
        let sector = self.check(block, pages)?;
        // SAFETY: the caller grants the pages.
        let buffer: &[u8] = unsafe {
            core::slice::from_raw_parts(with_exposed_provenance_mut(address), pages * PAGE_SIZE)
        };
        let (mut request, mut response) = (BlkReq::default(), BlkResp::default());
        // SAFETY: request, buffer and response stay where they are and untouched until completed.
        let token = self.submit(|driver| unsafe {
            driver.write_blocks_nb(sector, &mut request, buffer, &mut response)
        })?;
        // SAFETY: the same buffers as submitted.
        self.complete(token, |driver| unsafe {
            driver.complete_write_blocks(token, &request, buffer, &mut response)
        })?;
        BLOCKS_WRITTEN.increase(pages as u64);
        Ok(())
    }

    fn submit(
        &self,
        mut add: impl FnMut(&mut Driver<T>) -> virtio_drivers::Result<u16>,
    ) -> Result<u16, DiskError> {
        let mut result = Err(Error::QueueFull);
        sched::block_until(|| {
            let mut line = self.line.lock();
            result = line.driver.as_mut().map_or(Err(Error::NotReady), &mut add);
            line.requests += usize::from(result.is_ok());
            result != Err(Error::QueueFull)
        });
        result.map_err(|error| DiskError(format!("disk request refused: {error}")))
    }

    fn complete(
        &self,
        token: u16,
        take: impl FnOnce(&mut Driver<T>) -> virtio_drivers::Result<()>,
    ) -> Result<(), DiskError> {
        sched::block_until(|| {
            let mut line = self.line.lock();
            let driver = line.driver.as_mut();
            driver.is_none_or(|driver| driver.peek_used() == Some(token))
        });
        let mut line = self.line.lock();
        let result = line.driver.as_mut().map_or(Err(Error::NotReady), take);
        line.requests = line.requests.saturating_sub(1);
        drop(line);
        // The next completion may belong to a thread whose vCPU sleeps since before it came.
        sched::notify();
        result.map_err(|error| DiskError(format!("disk request failed: {error}")))
    }
}

#[cfg(test)]
mod tests;
