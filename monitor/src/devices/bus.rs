//! The register windows of one VM's virtio-mmio devices, and the devices behind them.

use std::io;
use std::sync::Arc;

use kvm_ioctls::{IoEventAddress, VmFd};
use mirrorball_abi::{self as abi, layout};
use mirrorball_pmap::AddressSpace;
use mirrorball_virtio::{BlockDevice, Console, Device, Disk, Transport};

use crate::vm::control::RunControl;

/// Bytes of a console's output that are kept.
const CONSOLE_TAIL: usize = 16 << 10;

/// virtio 1.2, clause 4.2.2: the QueueNotify register.
const QUEUE_NOTIFY: u64 = 0x50;

/// Finds the device of an address.
#[derive(Debug)]
pub(crate) struct Bus(Vec<Arc<Transport>>);

impl Bus {
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

const fn window(slot: u64) -> u64 {
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

/// The devices themselves, for their statistics.
#[derive(Debug)]
pub(crate) struct Devices {
    pub(crate) blocks: Vec<Arc<BlockDevice>>,
    pub(crate) console: Option<Arc<Console>>,
}

/// A VM's bus with the devices on it.
#[derive(Debug)]
pub(crate) struct Fitted {
    pub(crate) bus: Bus,
    pub(crate) devices: Devices,
}

impl Fitted {
    /// Makes the devices of a VM: disks in the order given, then the console.
    pub(crate) fn new(
        space: &Arc<AddressSpace>,
        control: &Arc<RunControl>,
        disks: Vec<Disk>,
        console: bool,
    ) -> io::Result<Self> {
        let interrupt: Arc<dyn Fn() + Send + Sync> = {
            let control = control.clone();
            Arc::new(move || control.wake_all())
        };
        let blocks: Vec<_> = (0..)
            .zip(disks)
            .map(|(number, disk)| Arc::new(BlockDevice::new(disk, &serial(number))))
            .collect();
        let console = console.then(|| Arc::new(Console::new(CONSOLE_TAIL)));

        let mut devices: Vec<Arc<dyn Device>> = Vec::new();
        devices.extend(blocks.iter().map(|block| block.clone() as Arc<dyn Device>));
        devices.extend(
            console
                .iter()
                .map(|console| console.clone() as Arc<dyn Device>),
        );
        let transports = devices
            .into_iter()
            .map(|device| Transport::new(space.clone(), device, interrupt.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            bus: Bus(transports),
            devices: Devices { blocks, console },
        })
    }
}

fn serial(number: u32) -> String {
    format!("disk{number}")
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
