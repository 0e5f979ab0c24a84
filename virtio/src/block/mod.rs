//! virtio-blk (virtio 1.2, clause 5.2) over a [`Disk`].
//!
//! A request goes through three steps that know little of each other: [`request`] checks what the
//! guest wrote into its ring, [`BlockDevice`] does it on the disk, and the status byte and the
//! used length tell the guest. A request that can't be served gets an error status and is counted;
//! only a chain that can't carry a status, or a base image that changed, stops the VM.

mod config;
pub mod request;
mod stats;

pub use stats::BlockStats;

use crate::device::{Completed, Device, DeviceError};
use crate::disk::{Disk, DiskError, Moved};
use crate::queue::{self, Chain};
use config::Config;
use mirrorball_pmap::Access;
use parking_lot::Mutex;
use request::{Operation, Refusal, Request};
use stats::Kind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_queue::Queue;
use vm_memory::{Bytes, GuestAddress};

/// One request queue, large enough that 1 MiB in scattered pages is two requests.
const QUEUE_SIZES: [u16; 1] = [256];
/// Bytes of a serial number.
const SERIAL_BYTES: usize = VIRTIO_BLK_ID_BYTES as usize;

/// A guest's disk, as the guest sees it.
#[derive(Debug)]
pub struct BlockDevice {
    disk: Disk,
    serial: [u8; SERIAL_BYTES],
    config: Config,
    sharing: AtomicBool,
    /// The log has an error of the disk that did not end its guest.
    told: AtomicBool,
    stats: Mutex<BlockStats>,
}

impl BlockDevice {
    /// A device over `disk` that calls itself `serial` (cut to 20 bytes); sharing is on.
    #[must_use]
    pub fn new(disk: Disk, serial: &str) -> Self {
        let mut padded = [0; SERIAL_BYTES];
        padded
            .iter_mut()
            .zip(serial.bytes())
            .for_each(|(to, from)| *to = from);
        let config = Config::new(disk.bytes(), QUEUE_SIZES[0]);
        Self {
            disk,
            serial: padded,
            config,
            sharing: AtomicBool::new(true),
            told: AtomicBool::new(false),
            stats: Mutex::new(BlockStats::new()),
        }
    }

    /// Switches the sharing of blocks (Disco's copy-on-write disk) on or off; what is shared
    /// already stays shared.
    pub fn set_sharing(&self, on: bool) {
        self.sharing.store(on, Ordering::Relaxed);
    }

    /// What the device did so far.
    #[must_use]
    pub fn stats(&self) -> BlockStats {
        let mut stats = self.stats.lock().clone();
        let rested = self.disk.rested_pages();
        stats.mapped_pages += rested;
        stats.copied_pages = stats.copied_pages.saturating_sub(rested);
        stats
    }

    /// The disk behind it.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Serves one chain; answers the used length.
    fn serve(&self, chain: Chain, access: &Access<'_>) -> Result<u32, DeviceError> {
        let start = Instant::now();
        let memory = access.memory();
        let request = Request::parse(chain, memory, self.disk.bytes())?;
        let kind = Kind::of(&request.operation);
        let outcome = self.execute(&request.operation, access);
        let status = match &outcome {
            Ok(_) => VIRTIO_BLK_S_OK,
            Err(Failure::Refused(Refusal::Unsupported)) => VIRTIO_BLK_S_UNSUPP,
            Err(_) => VIRTIO_BLK_S_IOERR,
        };
        let written = match &outcome {
            Ok((_, data)) => data + 1,
            Err(_) => request.failed_length(),
        };
        self.stats.lock().count(kind, start.elapsed(), &outcome);
        if let Err(Failure::Disk(error)) = outcome {
            if error.is_fatal() {
                return Err(error.into());
            }
            // Once: a guest may go on asking for as long as it likes.
            if !self.told.swap(true, Ordering::Relaxed) {
                tracing::warn!(%error, "a guest is told of an I/O error (the first of this disk)");
            }
        }
        let status = u8::try_from(status).unwrap_or(u8::MAX);
        memory
            .write_obj(status, GuestAddress(request.status))
            .map_err(virtio_queue::Error::GuestMemory)?;
        Ok(written)
    }

    /// Does what was asked; answers what moved and how many bytes of data the guest got.
    fn execute(&self, operation: &Operation, access: &Access<'_>) -> Result<(Moved, u32), Failure> {
        if access.space().is_abandoned() {
            // What was read as this request may be zeros in a lost page's place.
            return Err(DiskError::PageLost.into());
        }
        let memory = access.memory();
        let moved = match operation {
            Operation::Read { offset, buffers } => {
                let sharing = self.sharing.load(Ordering::Relaxed);
                let moved = self.disk.read(*offset, buffers, access, sharing)?;
                return Ok((
                    moved,
                    u32::try_from(buffers.bytes()).unwrap_or(u32::MAX - 1),
                ));
            }
            Operation::Write { offset, buffers } => self.disk.write(*offset, buffers, access)?,
            Operation::Flush => {
                self.disk.flush()?;
                Moved::default()
            }
            Operation::Identify { buffers } => {
                let written = buffers
                    .write(memory, &self.serial)
                    .map_err(DiskError::Guest)?;
                return Ok((Moved::default(), u32::try_from(written).unwrap_or(0)));
            }
            Operation::WriteZeroes { offset, bytes } => self.disk.write_zeroes(*offset, *bytes)?,
            Operation::Discard { offset, bytes } => {
                self.disk.discard(*offset, *bytes)?;
                Moved::default()
            }
            Operation::Refuse(refusal) => return Err(Failure::Refused(*refusal)),
        };
        Ok((moved, 0))
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Refused(Refusal),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Device for BlockDevice {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        Config::FEATURES
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn process(
        &self,
        _queue: usize,
        ring: &mut Queue,
        access: &Access<'_>,
    ) -> Result<Completed, DeviceError> {
        queue::drain(ring, access.memory(), |chain| self.serve(chain, access))
    }

    fn reset(&self) {}
}
