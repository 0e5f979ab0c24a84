//! The register file as a state machine over plain numbers: no memory, no locks, no devices.

use crate::queue::SetupError;
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_DEVICE_FEATURES, VIRTIO_MMIO_DEVICE_FEATURES_SEL, VIRTIO_MMIO_DEVICE_ID,
    VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_MMIO_DRIVER_FEATURES_SEL, VIRTIO_MMIO_MAGIC_VALUE,
    VIRTIO_MMIO_QUEUE_AVAIL_HIGH, VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH,
    VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_NOTIFY, VIRTIO_MMIO_QUEUE_NUM,
    VIRTIO_MMIO_QUEUE_NUM_MAX, VIRTIO_MMIO_QUEUE_READY, VIRTIO_MMIO_QUEUE_SEL,
    VIRTIO_MMIO_QUEUE_USED_HIGH, VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_MMIO_SHM_BASE_HIGH,
    VIRTIO_MMIO_SHM_LEN_LOW, VIRTIO_MMIO_STATUS, VIRTIO_MMIO_VENDOR_ID, VIRTIO_MMIO_VERSION,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueState};

/// "virt" (clause 4.2.2).
const MAGIC: u32 = u32::from_le_bytes(*b"virt");
/// Ours; the specification gives it no meaning.
const VENDOR: u32 = u32::from_le_bytes(*b"MRBL");
/// The modern interface.
const VERSION: u32 = 2;
/// Status bits that a driver may set.
const DRIVER_STATUS: u32 = 0xff & !VIRTIO_CONFIG_S_NEEDS_RESET;
/// What every device here offers besides its own features.
const TRANSPORT_FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// What a register write asks of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Reset,
    /// The driver is ready: doorbells rung too early count from now on.
    Started,
    Notify(usize),
    Enable(usize),
    Disable(usize),
}

/// One queue's set-up, as written so far.
#[derive(Clone, Copy, Debug)]
struct QueueSetup {
    size: u32,
    ready: bool,
    descriptors: u64,
    available: u64,
    used: u64,
}

/// All registers but the interrupt's.
#[derive(Debug)]
pub(super) struct Registers {
    device_id: u32,
    offered: u64,
    maxima: Vec<u16>,
    status: u32,
    device_half: u32,
    driver_half: u32,
    accepted: u64,
    selected: u32,
    queues: Vec<QueueSetup>,
}

impl Registers {
    pub(super) fn new(device_id: u32, features: u64, maxima: Vec<u16>) -> Self {
        let offered = features | TRANSPORT_FEATURES;
        let mut new = Self {
            device_id,
            offered,
            maxima,
            status: 0,
            device_half: 0,
            driver_half: 0,
            accepted: 0,
            selected: 0,
            queues: Vec::new(),
        };
        new.reset();
        new
    }

    /// Whether the driver has finished its set-up and nothing has failed since.
    pub(super) fn running(&self) -> bool {
        self.status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)
            == VIRTIO_CONFIG_S_DRIVER_OK
    }

    /// The features that the driver accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// The device can't go on until the driver resets it.
    pub(super) fn fail(&mut self) {
        self.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    }

    fn reset(&mut self) {
        (self.status, self.device_half, self.driver_half) = (0, 0, 0);
        (self.accepted, self.selected) = (0, 0);
        self.queues = self
            .maxima
            .iter()
            .map(|&most| QueueSetup {
                size: most.into(),
                ready: false,
                descriptors: 0,
                available: 0,
                used: 0,
            })
            .collect();
    }

    pub(super) fn read(&self, offset: u32) -> u32 {
        let queue = self.queues.get(self.selected as usize);
        match offset {
            VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            VIRTIO_MMIO_VERSION => VERSION,
            VIRTIO_MMIO_DEVICE_ID => self.device_id,
            VIRTIO_MMIO_VENDOR_ID => VENDOR,
            VIRTIO_MMIO_DEVICE_FEATURES => half(self.offered, self.device_half),
            VIRTIO_MMIO_QUEUE_NUM_MAX => self
                .maxima
                .get(self.selected as usize)
                .map_or(0, |&most| most.into()),
            VIRTIO_MMIO_QUEUE_READY => queue.is_some_and(|queue| queue.ready).into(),
            VIRTIO_MMIO_STATUS => self.status,
            // There is no shared memory region: length and base read all ones (clause 4.2.2).
            VIRTIO_MMIO_SHM_LEN_LOW..=VIRTIO_MMIO_SHM_BASE_HIGH if offset.is_multiple_of(4) => {
                u32::MAX
            }
            _ => 0,
        }
    }

    pub(super) fn write(&mut self, offset: u32, value: u32) -> Effect {
        match offset {
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.device_half = value,
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver_half = value,
            VIRTIO_MMIO_DRIVER_FEATURES => self.accept(value),
            VIRTIO_MMIO_QUEUE_SEL => self.selected = value,
            VIRTIO_MMIO_STATUS => return self.set_status(value),
            VIRTIO_MMIO_QUEUE_NOTIFY => return Effect::Notify(value as usize),
            VIRTIO_MMIO_QUEUE_READY => return self.set_ready(value),
            _ => self.set_up(offset, value),
        }
        Effect::None
    }

    fn accept(&mut self, value: u32) {
        if self.status & VIRTIO_CONFIG_S_FEATURES_OK != 0 || self.driver_half > 1 {
            return;
        }
        let shift = 32 * self.driver_half;
        self.accepted &= !(u64::from(u32::MAX) << shift);
        self.accepted |= u64::from(value) << shift;
    }

    fn set_status(&mut self, value: u32) -> Effect {
        if value == 0 {
            self.reset();
            return Effect::Reset;
        }
        let was = self.status;
        let mut next = was | value & DRIVER_STATUS;
        let acceptable =
            self.accepted & !self.offered == 0 && self.accepted & (1 << VIRTIO_F_VERSION_1) != 0;
        if was & VIRTIO_CONFIG_S_FEATURES_OK == 0 && !acceptable {
            next &= !VIRTIO_CONFIG_S_FEATURES_OK;
        }
        if next & VIRTIO_CONFIG_S_FEATURES_OK == 0 {
            next &= !VIRTIO_CONFIG_S_DRIVER_OK;
        }
        self.status = next;
        if next & !was & VIRTIO_CONFIG_S_DRIVER_OK == 0 {
            Effect::None
        } else {
            Effect::Started
        }
    }

    fn set_ready(&mut self, value: u32) -> Effect {
        let index = self.selected as usize;
        let negotiated = self.status & VIRTIO_CONFIG_S_FEATURES_OK != 0;
        match self.queues.get_mut(index) {
            Some(queue) if value == 1 && !queue.ready && negotiated => {
                queue.ready = true;
                Effect::Enable(index)
            }
            Some(queue) if value == 0 => {
                queue.ready = false;
                Effect::Disable(index)
            }
            _ => Effect::None,
        }
    }

    /// A write to the selected queue's size or addresses; they are fixed while it is ready.
    fn set_up(&mut self, offset: u32, value: u32) {
        let Some(queue) = self
            .queues
            .get_mut(self.selected as usize)
            .filter(|queue| !queue.ready)
        else {
            return;
        };
        match offset {
            VIRTIO_MMIO_QUEUE_NUM => queue.size = value,
            VIRTIO_MMIO_QUEUE_DESC_LOW => set_low(&mut queue.descriptors, value),
            VIRTIO_MMIO_QUEUE_DESC_HIGH => set_high(&mut queue.descriptors, value),
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => set_low(&mut queue.available, value),
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => set_high(&mut queue.available, value),
            VIRTIO_MMIO_QUEUE_USED_LOW => set_low(&mut queue.used, value),
            VIRTIO_MMIO_QUEUE_USED_HIGH => set_high(&mut queue.used, value),
            _ => {}
        }
    }

    /// The queue that the driver described, checked as far as is possible without its memory.
    pub(super) fn build(&self, index: usize) -> Result<Queue, SetupError> {
        let most = self.maxima.get(index).copied().unwrap_or(0);
        let Some(setup) = self.queues.get(index) else {
            return Err(SetupError::Size { size: 0, most });
        };
        let aligned = [
            ("descriptor table", setup.descriptors, 16),
            ("available ring", setup.available, 2),
            ("used ring", setup.used, 4),
        ];
        for (part, address, alignment) in aligned {
            if !address.is_multiple_of(alignment) {
                return Err(SetupError::Alignment {
                    part,
                    address,
                    alignment,
                });
            }
        }
        let bad_size = SetupError::Size {
            size: setup.size,
            most,
        };
        let state = QueueState {
            max_size: most,
            next_avail: 0,
            next_used: 0,
            event_idx_enabled: self.accepted & (1 << VIRTIO_RING_F_EVENT_IDX) != 0,
            size: u16::try_from(setup.size).map_err(|_| bad_size)?,
            ready: true,
            desc_table: setup.descriptors,
            avail_ring: setup.available,
            used_ring: setup.used,
        };
        Queue::try_from(state).map_err(|_| bad_size)
    }
}

/// The half of a 64-bit feature set that a selector names; there are no features past bit 63.
fn half(features: u64, selector: u32) -> u32 {
    let bytes = features.to_le_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    match selector {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}

fn set_low(address: &mut u64, value: u32) {
    *address = *address & !u64::from(u32::MAX) | u64::from(value);
}

fn set_high(address: &mut u64, value: u32) {
    *address = *address & u64::from(u32::MAX) | u64::from(value) << 32;
}
