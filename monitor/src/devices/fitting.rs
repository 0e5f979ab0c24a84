//! Fitting a VM with its devices: which, in which order, and how they interrupt the guest.
//!
//! A thin guest has no interrupts: its devices wake its vCPUs. A Linux guest's devices each have a
//! line into KVM's interrupt controller.

use std::io;
use std::sync::Arc;

use mirrorball_pmap::{AddressSpace, VmId};
use mirrorball_virtio::{
    Balloon, BlockDevice, Console, Device, Disk, NetDevice, Rng, Transport, Vsock,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::bus::{Bus, window};
use crate::linux::{CONTROL_PORT, Equipment, Window};
use crate::vm::control::RunControl;

/// Bytes of a console's output that are kept.
const CONSOLE_TAIL: usize = 16 << 10;

/// Interrupt of a PC's first virtio device; the others follow. The serial port's is below.
const FIRST_INTERRUPT: u32 = 5;
/// Most virtio devices of a PC: the I/O APIC has 24 pins.
pub(crate) const MOST_PC_DEVICES: usize = 16;

type Interrupt = Arc<dyn Fn() + Send + Sync>;

/// The devices themselves, for their statistics.
#[derive(Debug)]
pub(crate) struct Devices {
    pub(crate) blocks: Vec<Arc<BlockDevice>>,
    pub(crate) nets: Vec<Arc<NetDevice>>,
    pub(crate) console: Option<Arc<Console>>,
    /// The control channel.
    pub(crate) control: Option<Arc<Console>>,
    pub(crate) balloon: Option<Arc<Balloon>>,
    rng: Option<Arc<Rng>>,
    /// The control channel of guests that connect to it.
    pub(crate) vsock: Option<Arc<Vsock>>,
}

/// Devices that are made before the VM's bus is.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Its disks, in order.
    pub(crate) disks: Vec<Disk>,
    /// Its network devices, in order.
    pub(crate) nets: Vec<NetDevice>,
}

/// A VM's bus with the devices on it.
#[derive(Debug)]
pub(crate) struct Fitted {
    pub(crate) bus: Bus,
    pub(crate) devices: Devices,
    /// A line for each device, in their order; none of thin guests.
    pub(crate) lines: Vec<EventFd>,
}

impl Fitted {
    /// Makes the devices of a thin guest: what is given in its order, then the console and
    /// the balloon.
    pub(crate) fn thin(
        space: &Arc<AddressSpace>,
        control: &Arc<RunControl>,
        given: Given,
        (console, balloon): (bool, bool),
    ) -> io::Result<Self> {
        let wake: Interrupt = {
            let control = control.clone();
            Arc::new(move || control.wake_all())
        };
        let devices = Devices {
            blocks: blocks(given.disks),
            nets: given.nets.into_iter().map(Arc::new).collect(),
            console: console.then(|| Arc::new(Console::new(CONSOLE_TAIL))),
            control: None,
            balloon: balloon.then(|| Arc::new(Balloon::new(space))),
            rng: None,
            vsock: None,
        };
        let transports = devices
            .listing()
            .into_iter()
            .map(|device| Transport::new(space.clone(), device, wake.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            bus: Bus::new(transports),
            devices,
            lines: Vec::new(),
        })
    }

    /// Makes the devices of a PC: what is given in its order, then what its equipment names.
    pub(crate) fn pc(
        space: &Arc<AddressSpace>,
        control: &Arc<RunControl>,
        given: Given,
        equipment: Equipment,
    ) -> io::Result<Self> {
        let Equipment {
            control: channel,
            console,
            balloon,
            rng,
            vsock,
        } = equipment;
        let devices = Devices {
            blocks: blocks(given.disks),
            nets: given.nets.into_iter().map(Arc::new).collect(),
            console: console.then(|| Arc::new(Console::new(CONSOLE_TAIL))),
            control: channel.then(|| control_channel(control)),
            balloon: balloon.then(|| Arc::new(Balloon::new(space))),
            rng: rng.then(|| Arc::new(Rng::new())),
            vsock: vsock.then(|| control_port(space.vm(), control)),
        };
        let mut lines = Vec::new();
        let mut transports = Vec::new();
        for device in devices.listing() {
            let line = EventFd::new(EFD_NONBLOCK)?;
            let raise = line.try_clone()?;
            let interrupt: Interrupt = Arc::new(move || {
                // The only failure is a full counter: the interrupt is on its way already.
                let _ = raise.write(1);
            });
            transports.push(Transport::new(space.clone(), device, interrupt)?);
            lines.push(line);
        }
        Ok(Self {
            bus: Bus::new(transports),
            devices,
            lines,
        })
    }

    /// Each device's window, as the ACPI tables name it.
    pub(crate) fn windows(&self) -> Vec<Window> {
        (0..)
            .zip(FIRST_INTERRUPT..)
            .zip(self.bus.transports())
            .map(|((slot, interrupt), _)| Window {
                // The windows lie below 4 GiB.
                address: u32::try_from(window(slot)).unwrap_or(u32::MAX),
                interrupt,
            })
            .collect()
    }
}

impl Devices {
    /// In the order in which the guest finds them.
    fn listing(&self) -> Vec<Arc<dyn Device>> {
        fn all<D: Device + 'static>(
            devices: impl IntoIterator<Item = Arc<D>>,
        ) -> impl Iterator<Item = Arc<dyn Device>> {
            devices.into_iter().map(|device| device as Arc<dyn Device>)
        }
        all(self.blocks.clone())
            .chain(all(self.nets.clone()))
            .chain(all(self.control.clone()))
            .chain(all(self.console.clone()))
            .chain(all(self.balloon.clone()))
            .chain(all(self.rng.clone()))
            .chain(all(self.vsock.clone()))
            .collect()
    }
}

fn blocks(disks: Vec<Disk>) -> Vec<Arc<BlockDevice>> {
    (0_u32..)
        .zip(disks)
        .map(|(number, disk)| Arc::new(BlockDevice::new(disk, &format!("disk{number}"))))
        .collect()
}

/// A console whose lines are kept for the monitor's user, who is told of each output.
fn control_channel(control: &Arc<RunControl>) -> Arc<Console> {
    let control = control.clone();
    let told = Arc::new(move |_: &[u8]| control.progress());
    Arc::new(Console::new(0).with_lines().with_sink(told))
}

/// A socket device whose control port tells of what the guest says.
fn control_port(vm: VmId, control: &Arc<RunControl>) -> Arc<Vsock> {
    let control = control.clone();
    let told = Arc::new(move || control.progress());
    Arc::new(Vsock::new(guest_number(vm), CONTROL_PORT, told))
}

/// A VM's context identifier on sockets: VMs count from 1, identifiers of guests from 3.
fn guest_number(vm: VmId) -> u32 {
    vm.0.max(1).saturating_add(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirrorball_pmap::{GroupId, Pmap, PmapConfig};

    #[test]
    fn a_pcs_devices_have_windows_and_interrupts_of_their_own() {
        let pmap = Pmap::new(&PmapConfig {
            frame_capacity: 16 << 20,
            ..PmapConfig::default()
        })
        .unwrap();
        let space = pmap.create_space(VmId(1), GroupId(0), 16 << 20).unwrap();
        let control = Arc::new(RunControl::new(1));
        let equipment = Equipment {
            control: true,
            vsock: true,
            ..Equipment::default()
        };
        assert_eq!((guest_number(VmId(1)), guest_number(VmId(7))), (3, 9));
        let fitted = Fitted::pc(&space, &control, Given::default(), equipment).unwrap();
        let windows = fitted.windows();
        assert_eq!(windows.len(), 2);
        assert_eq!((windows[0].address, windows[0].interrupt), (0xd000_0000, 5));
        assert_eq!((windows[1].address, windows[1].interrupt), (0xd000_1000, 6));
        assert_eq!(fitted.lines.len(), 2);
        let last = FIRST_INTERRUPT as usize + MOST_PC_DEVICES;
        assert!(last <= 24);
        let thin = Fitted::thin(&space, &control, Given::default(), (true, false)).unwrap();
        assert!(thin.lines.is_empty());
    }
}
