//! What the transport asks of a device, and how a device says that its guest went wrong.

use crate::disk::DiskError;
use crate::queue::{ChainError, SetupError};
use crate::transport::Notifier;
use mirrorball_pmap::{Access, AddressSpace};
use std::fmt;
use virtio_queue::Queue;

/// One device behind a [`Transport`](crate::Transport).
///
/// Every method may be called from any thread at any moment; the transport never runs
/// [`process`](Self::process) twice at once for one queue, nor [`reset`](Self::reset) during it.
pub trait Device: Send + Sync + fmt::Debug {
    /// The device's kind (virtio 1.2, clause 5): 1 network, 2 block, 3 console, 4 entropy, 5 balloon,
    /// 19 socket.
    fn device_id(&self) -> u32;

    /// The feature bits of this kind of device. The transport adds its own.
    fn features(&self) -> u64;

    /// Largest size of each queue, powers of two; constant for the device's life.
    fn queue_sizes(&self) -> &[u16];

    /// Fills `data` from the configuration space at `offset`; bytes outside it are left alone.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Takes what the guest's driver writes at `offset` of the configuration space, any bytes at any
    /// place. Most devices have nothing there that is the driver's to write.
    fn write_config(&self, _offset: u64, _data: &[u8]) {}

    /// Gives the device its way back to the transport, before the guest runs. Devices that only
    /// ever answer need none.
    fn attach(&self, _notifier: Notifier) {}

    /// The driver is ready, with these of the features: for devices that do otherwise without one.
    fn negotiated(&self, _features: u64) {}

    /// Serves one round of what the guest made available in a queue.
    ///
    /// # Errors
    /// When the queue or a chain in it is malformed, or the device can't go on truthfully. The
    /// queue is dead from then on.
    fn process(
        &self,
        queue: usize,
        ring: &mut Queue,
        access: &Access<'_>,
    ) -> Result<Completed, DeviceError>;

    /// A round of a queue has ended, and with it the access to the guest's memory: for what devices
    /// do with pages that they must not touch themselves meanwhile.
    fn finish(&self, _queue: usize, _space: &AddressSpace) {}

    /// Forgets everything that the guest's driver set up.
    fn reset(&self);
}

/// What one round of [`Device::process`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Completed {
    /// Chains given back to the guest.
    pub used: u32,
    /// The round ended at its bound: there may be more to do.
    pub more: bool,
}

/// Answers a driver's read at `offset` of a configuration space that holds `config`; bytes outside it
/// are left alone.
pub(crate) fn read_config(config: &[u8], offset: u64, data: &mut [u8]) {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let from = config.get(offset..).unwrap_or_default();
    data.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

/// Why a device can't go on; the monitor stops the VM with this as the cause.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The queue was set up wrongly.
    #[error("bad queue set-up: {0}")]
    Setup(#[from] SetupError),
    /// The available or used ring can't be what the guest says.
    #[error("bad ring: {0}")]
    Ring(#[from] virtio_queue::Error),
    /// A descriptor chain is malformed.
    #[error("bad descriptor chain: {0}")]
    Chain(#[from] ChainError),
    /// A chain is well-formed, yet no request of this kind of device can look so.
    #[error("bad request (chain {head}): {reason}")]
    Request {
        /// Index of the chain's first descriptor.
        head: u16,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The disk can't be read truthfully any more.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Any of the above, with the place where it happened.
    #[error("virtio {device}, queue {queue}: {cause}")]
    InQueue {
        /// The kind of device.
        device: &'static str,
        /// The queue's index.
        queue: usize,
        /// What happened.
        #[source]
        cause: Box<DeviceError>,
    },
}
