//! virtio over memory-mapped registers, version 2 (virtio 1.2, clause 4.2).
//!
//! A guest reaches a device in two ways. Register accesses arrive on a vCPU thread through
//! [`Transport::read`] and [`Transport::write`], and never touch guest memory. Doorbells are
//! eventfds that live as long as the VM; a device worker that sees one fire calls
//! [`Transport::process`], which serves one bounded round of the queue under the pmap's access
//! guard and rings the doorbell again itself if there is more.

mod notifier;
mod registers;

pub use notifier::Notifier;

use crate::device::{Completed, Device, DeviceError};
use crate::queue::check_rings;
use mirrorball_pmap::AddressSpace;
use parking_lot::Mutex;
use registers::{Effect, Registers};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::{fmt, io};
use virtio_bindings::virtio_ids::{
    VIRTIO_ID_BALLOON, VIRTIO_ID_BLOCK, VIRTIO_ID_CONSOLE, VIRTIO_ID_NET, VIRTIO_ID_RNG,
    VIRTIO_ID_VSOCK,
};
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_CONFIG_GENERATION, VIRTIO_MMIO_INT_CONFIG,
    VIRTIO_MMIO_INT_VRING, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INTERRUPT_STATUS,
};
use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// One device's register file, queues, doorbells and interrupt.
pub struct Transport {
    space: Arc<AddressSpace>,
    device: Arc<dyn Device>,
    interrupt: Arc<dyn Fn() + Send + Sync>,
    interrupt_status: AtomicU32,
    generation: AtomicU32,
    /// The configuration has changed since the reset, with no driver to tell. Guarded by `registers`.
    unannounced: AtomicBool,
    doorbells: Vec<EventFd>,
    registers: Mutex<Registers>,
    queues: Vec<Mutex<Slot>>,
}

/// What stands behind a queue index.
#[derive(Debug)]
enum Slot {
    /// Not set up, or dead after a fault.
    Idle,
    /// As the driver set it up; not yet looked at.
    Fresh(Result<Queue, crate::queue::SetupError>),
    /// In use.
    Live(Queue),
}

impl Transport {
    /// Puts a register file before `device`, whose guest has the memory `space`.
    ///
    /// `interrupt` is called whenever the guest is to be interrupted, on the calling thread.
    ///
    /// # Errors
    /// When the process has no file descriptors left for the doorbells.
    pub fn new(
        space: Arc<AddressSpace>,
        device: Arc<dyn Device>,
        interrupt: Arc<dyn Fn() + Send + Sync>,
    ) -> io::Result<Arc<Self>> {
        let sizes = device.queue_sizes();
        let doorbells = sizes
            .iter()
            .map(|_| EventFd::new(EFD_NONBLOCK))
            .collect::<io::Result<_>>()?;
        let queues = sizes.iter().map(|_| Mutex::new(Slot::Idle)).collect();
        let registers = Mutex::new(Registers::new(
            device.device_id(),
            device.features(),
            sizes.to_vec(),
        ));
        let transport = Arc::new(Self {
            space,
            device,
            interrupt,
            interrupt_status: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            unannounced: AtomicBool::new(false),
            doorbells,
            registers,
            queues,
        });
        transport.device.attach(Notifier::new(&transport));
        Ok(transport)
    }

    /// The device's kind (virtio 1.2, clause 5).
    #[must_use]
    pub fn device_id(&self) -> u32 {
        self.device.device_id()
    }

    /// Whether it is a network device.
    #[must_use]
    pub fn is_network(&self) -> bool {
        self.device_id() == VIRTIO_ID_NET
    }

    /// One eventfd a queue, for ioeventfds on the QueueNotify register and for workers to poll.
    #[must_use]
    pub fn doorbells(&self) -> &[EventFd] {
        &self.doorbells
    }

    /// A guest's read of `data.len()` bytes at `offset` in the register window.
    ///
    /// Registers are 32 bits wide (clause 4.2.2.2): any other read of them gives zeros.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(offset) = offset.checked_sub(u64::from(VIRTIO_MMIO_CONFIG)) {
            return self.device.read_config(offset, data);
        }
        let (Ok(offset), Ok(data)) = (u32::try_from(offset), <&mut [u8; 4]>::try_from(data)) else {
            return;
        };
        *data = match offset {
            VIRTIO_MMIO_INTERRUPT_STATUS => self.interrupt_status.load(Ordering::Acquire),
            VIRTIO_MMIO_CONFIG_GENERATION => self.generation.load(Ordering::Acquire),
            _ => self.registers.lock().read(offset),
        }
        .to_le_bytes();
    }

    /// A guest's write at `offset` in the register window; what makes no sense has no effect.
    pub fn write(&self, offset: u64, data: &[u8]) {
        if let Some(offset) = offset.checked_sub(u64::from(VIRTIO_MMIO_CONFIG)) {
            return self.device.write_config(offset, data);
        }
        let (Ok(offset), Ok(data)) = (u32::try_from(offset), <[u8; 4]>::try_from(data)) else {
            return;
        };
        let value = u32::from_le_bytes(data);
        if offset == VIRTIO_MMIO_INTERRUPT_ACK {
            self.interrupt_status.fetch_and(!value, Ordering::AcqRel);
            return;
        }
        let mut registers = self.registers.lock();
        let effect = registers.write(offset, value);
        match effect {
            Effect::None => {}
            Effect::Reset => self.reset(),
            Effect::Started => {
                self.device.negotiated(registers.accepted());
                let announce = self.unannounced.swap(false, Ordering::Relaxed);
                drop(registers);
                (0..self.queues.len()).for_each(|queue| self.ring(queue));
                if announce {
                    self.raise(VIRTIO_MMIO_INT_CONFIG);
                }
            }
            Effect::Notify(queue) => self.ring(queue),
            Effect::Enable(queue) => {
                self.put(queue, Slot::Fresh(registers.build(queue)));
            }
            Effect::Disable(queue) => self.put(queue, Slot::Idle),
        }
    }

    /// Serves one round of a queue, on a device worker's thread, after its doorbell fired.
    ///
    /// # Errors
    /// When the guest's driver broke a rule, or the device can't go on. The queue is dead then
    /// and the device asks for a reset (DEVICE_NEEDS_RESET); other queues and devices go on.
    pub fn process(&self, queue: usize) -> Result<(), DeviceError> {
        let Some(slot) = self.queues.get(queue) else {
            return Ok(());
        };
        if !self.registers.lock().running() {
            return Ok(());
        }
        let outcome = self.round(queue, &mut slot.lock());
        match outcome {
            Ok((completed, notify)) => {
                if notify {
                    self.raise(VIRTIO_MMIO_INT_VRING);
                }
                self.device.finish(queue, &self.space);
                if completed.more {
                    self.ring(queue);
                }
                Ok(())
            }
            Err(cause) => {
                self.registers.lock().fail();
                self.raise(VIRTIO_MMIO_INT_CONFIG);
                let device = kind(self.device_id());
                Err(DeviceError::InQueue {
                    device,
                    queue,
                    cause: Box::new(cause),
                })
            }
        }
    }

    /// One round with the queue's lock held; the queue is dead if it fails.
    fn round(&self, queue: usize, slot: &mut Slot) -> Result<(Completed, bool), DeviceError> {
        let mut ring = match std::mem::replace(slot, Slot::Idle) {
            Slot::Idle => return Ok((Completed::default(), false)),
            Slot::Fresh(built) => built?,
            Slot::Live(ring) => ring,
        };
        let access = self.space.access();
        check_rings(&ring, access.memory())?;
        let completed = self.device.process(queue, &mut ring, &access)?;
        let notify = completed.used > 0 && wants_interrupt(&mut ring, access.memory())?;
        *slot = Slot::Live(ring);
        Ok((completed, notify))
    }

    /// Waits for rounds under way: once the status reads 0 the device is quiet (clause 4.2.3.1).
    fn reset(&self) {
        for queue in 0..self.queues.len() {
            self.put(queue, Slot::Idle);
        }
        self.interrupt_status.store(0, Ordering::Release);
        self.unannounced.store(false, Ordering::Relaxed);
        self.device.reset();
    }

    fn put(&self, queue: usize, content: Slot) {
        if let Some(slot) = self.queues.get(queue) {
            *slot.lock() = content;
        }
    }

    fn ring(&self, queue: usize) {
        if let Some(doorbell) = self.doorbells.get(queue) {
            // The only failure is a full counter: the doorbell is ringing already.
            let _ = doorbell.write(1);
        }
    }

    /// A field of the device's configuration space has changed. The generation counts at once; the
    /// guest is interrupted now or, for it may have read the field already, when its driver is ready.
    fn configuration_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        let registers = self.registers.lock();
        let running = registers.running();
        if !running {
            self.unannounced.store(true, Ordering::Relaxed);
        }
        drop(registers);
        if running {
            self.raise(VIRTIO_MMIO_INT_CONFIG);
        }
    }

    fn raise(&self, cause: u32) {
        self.interrupt_status.fetch_or(cause, Ordering::AcqRel);
        (self.interrupt)();
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("device", &self.device)
            .field("registers", &self.registers)
            .finish_non_exhaustive()
    }
}

/// Whether the driver wants to hear of the chains just used (clause 2.7.7).
fn wants_interrupt(ring: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, DeviceError> {
    if !ring.event_idx_enabled() {
        let flags: u16 = memory
            .load(GuestAddress(ring.avail_ring()), Ordering::Acquire)
            .map_err(virtio_queue::Error::GuestMemory)?;
        if u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT != 0 {
            return Ok(false);
        }
    }
    Ok(ring.needs_notification(memory)?)
}

fn kind(device_id: u32) -> &'static str {
    match device_id {
        VIRTIO_ID_BLOCK => "block",
        VIRTIO_ID_CONSOLE => "console",
        VIRTIO_ID_NET => "network",
        VIRTIO_ID_RNG => "entropy",
        VIRTIO_ID_BALLOON => "balloon",
        VIRTIO_ID_VSOCK => "socket",
        _ => "device",
    }
}
