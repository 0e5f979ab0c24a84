//! The register windows of one VM's virtio-mmio devices.

use std::io;
use std::sync::Arc;

use kvm_ioctls::{IoEventAddress, VmFd};
use mirrorball_abi::{self as abi, layout};
use mirrorball_virtio::Transport;

/// virtio 1.2, clause 4.2.2: the QueueNotify register.
const QUEUE_NOTIFY: u64 = 0x50;

/// Finds the device of an address.
#[derive(Debug)]
pub(crate) struct Bus(Vec<Arc<Transport>>);

impl Bus {
    /// Devices in the order of their windows.
    pub(crate) fn new(devices: Vec<Arc<Transport>>) -> Self {
        Self(devices)
    }

    /// A read in the device window; `false` when the address lies outside.
    pub(crate) fn read(&self, address: u64, data: &mut [u8]) -> bool {
        let Some((slot, offset)) = place(address) else {
            return false;
        };
        match self.0.get(slot) {
            Some(device) => device.read(offset, data),
            None => data.fill(0xff),
        }
        true
    }

    /// A write in the device window; `false` when the address lies outside.
    pub(crate) fn write(&self, address: u64, data: &[u8]) -> bool {
        let Some((slot, offset)) = place(address) else {
            return false;
        };
        if let Some(device) = self.0.get(slot) {
            device.write(offset, data);
        }
        true
    }

    /// The devices in the order of their windows.
    pub(crate) fn transports(&self) -> &[Arc<Transport>] {
        &self.0
    }

    /// What the guest is told about its devices.
    pub(crate) fn listing(&self) -> Vec<abi::Device> {
        (0..)
            .zip(&self.0)
            .map(|(slot, device)| abi::Device {
                address: window(slot),
                device_id: device.device_id(),
                reserved: 0,
            })
            .collect()
    }

    /// Lets the guest's doorbell writes reach the eventfds without an exit to the monitor.
    pub(crate) fn connect_doorbells(&self, vm: &VmFd) -> io::Result<()> {
        for (slot, device) in (0..).zip(&self.0) {
            let address = IoEventAddress::Mmio(window(slot) + QUEUE_NOTIFY);
            for (queue, doorbell) in (0_u32..).zip(device.doorbells()) {
                vm.register_ioevent(doorbell, &address, queue)
                    .map_err(|e| io::Error::from_raw_os_error(e.errno()))?;
            }
        }
        Ok(())
    }
}

/// Address of a device's window.
pub(crate) const fn window(slot: u64) -> u64 {
    layout::MMIO_BASE + slot * layout::MMIO_STRIDE
}

/// Window and offset of an address inside the device region.
fn place(address: u64) -> Option<(usize, u64)> {
    /// The loader maps one large page of it.
    const REGION: u64 = 2 << 20;
    let offset = address
        .checked_sub(layout::MMIO_BASE)
        .filter(|offset| *offset < REGION)?;
    let slot = usize::try_from(offset / layout::MMIO_STRIDE).ok()?;
    Some((slot, offset % layout::MMIO_STRIDE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_fall_into_windows() {
        assert_eq!(place(layout::MMIO_BASE), Some((0, 0)));
        assert_eq!(place(layout::MMIO_BASE + 0x1050), Some((1, 0x50)));
        assert_eq!(place(layout::MMIO_BASE - 1), None);
        assert_eq!(place(layout::MMIO_BASE + (2 << 20)), None);
        assert_eq!(place(u64::MAX), None);
    }

    #[test]
    fn an_empty_window_reads_as_ones_and_swallows_writes() {
        let bus = Bus(Vec::new());
        let mut data = [0; 4];
        assert!(bus.read(layout::MMIO_BASE + 4, &mut data));
        assert_eq!(data, [0xff; 4]);
        assert!(bus.write(layout::MMIO_BASE + 4, &data));
        assert!(!bus.read(0x1000, &mut data));
    }
}
