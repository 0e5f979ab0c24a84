//! Putting a VM together: devices, boot image, KVM's part, registers, device workers.

use std::sync::Arc;

use kvm_ioctls::VcpuFd;
use mirrorball_abi as abi;
use mirrorball_pmap::AddressSpace;
use mirrorball_virtio::{Disk, NetDevice};

use super::Machine;
use crate::boot::{BootImage, Key};
use crate::devices::{Fitted, Given};
use crate::latency::Latency;
use crate::linux::{self, LinuxBoot, Ports, Prepared, SerialPort};
use crate::sys::faults::FaultCounter;
use crate::sys::memory::GuestVm;
use crate::vcpu::{self, Guest, Start, VcpuContext};
use crate::vm::control::RunControl;
use crate::vm::{DiskConfig, Engine, StopCause, Vm, VmConfig, VmNetwork, mailbox};
use crate::{BootError, MonitorError, platform};

/// A VM's parts, ready to be joined.
#[derive(Debug)]
struct Parts {
    control: Arc<RunControl>,
    fitted: Fitted,
    guest: Guest,
    vm: GuestVm,
    vcpus: Vec<VcpuFd>,
}

impl Machine {
    /// A VM with a thin guest.
    pub(super) fn assemble_thin(
        &self,
        config: &VmConfig,
        elf: &Arc<[u8]>,
        space: &Arc<AddressSpace>,
    ) -> Result<Arc<Vm>, MonitorError> {
        let control = Arc::new(RunControl::new(config.vcpus));
        let given = self.make_devices(config, space)?;
        let fitted = Fitted::thin(space, &control, given, (config.console, config.balloon))
            .map_err(MonitorError::os("make the VM's devices"))?;
        let key = Key {
            group: config.group,
            memory: config.memory,
            vcpus: config.vcpus,
            shared: self.vms.read().disk_sharing,
        };
        let boot = self.boot.get(&self.pmap, elf, key)?;
        let (vm, vcpus) = self.hypervisor.create_vm(space, config.vcpus)?;
        let tsc_khz = prepare_vcpus(&vcpus, &boot)?;
        let control_page = control_page(config, space, &fitted.bus.listing(), tsc_khz);
        load(&boot, space, control_page)?;
        let parts = Parts {
            control,
            fitted,
            guest: Guest::Thin(elf.clone()),
            vm,
            vcpus,
        };
        self.join(config, space, parts)
    }

    /// A VM with a Linux guest.
    pub(super) fn assemble_linux(
        &self,
        config: &VmConfig,
        boot: &LinuxBoot,
        space: &Arc<AddressSpace>,
    ) -> Result<Arc<Vm>, MonitorError> {
        let memory = linux::Memory {
            pmap: &self.pmap,
            group: config.group,
            shared: self.vms.read().disk_sharing,
            bytes: config.memory,
        };
        let prepared = Prepared::new(&self.shelves, memory, boot)?;
        let serial = SerialPort::new(boot.console_log.as_deref())?;
        let control = Arc::new(RunControl::new(config.vcpus));
        let given = self.make_devices(config, space)?;
        let fitted = Fitted::pc(space, &control, given, boot.devices)
            .map_err(MonitorError::os("make the VM's devices"))?;
        prepared.load(&space.access(), config.vcpus, &fitted.windows())?;

        let (vm, vcpus) = self.hypervisor.create_pc(space, config.vcpus)?;
        platform::connect_line(vm.fd(), serial.line(), linux::SERIAL_LINE)?;
        for (line, window) in fitted.lines.iter().zip(fitted.windows()) {
            platform::connect_line(vm.fd(), line, window.interrupt)?;
        }
        linux::set_registers(&vcpus, &prepared)?;
        let parts = Parts {
            control,
            fitted,
            guest: Guest::Linux(Ports::new(serial)),
            vm,
            vcpus,
        };
        self.join(config, space, parts)
    }

    /// Gives the devices to their workers; what comes out can be started.
    fn join(
        &self,
        config: &VmConfig,
        space: &Arc<AddressSpace>,
        parts: Parts,
    ) -> Result<Arc<Vm>, MonitorError> {
        let Fitted { bus, devices, .. } = parts.fitted;
        bus.connect_doorbells(parts.vm.fd())
            .map_err(|source| MonitorError::Kvm {
                what: "connect a doorbell",
                source,
            })?;
        let failure = on_failure(&parts.control);
        let registrations = bus
            .transports()
            .iter()
            .map(|device| self.workers.register(device, &failure))
            .collect::<Result<_, _>>()
            .map_err(MonitorError::os("poll the VM's doorbells"))?;
        let faults = match parts.guest {
            Guest::Linux(_) => parts.vcpus.iter().map(FaultCounter::open).collect(),
            // Thousands of them would take as many files.
            Guest::Thin(_) => Ok(Vec::new()),
        };
        let context = VcpuContext {
            control: parts.control,
            bus,
            space: space.clone(),
            guest: parts.guest,
            exit_latency: Latency::default(),
            kick_latency: Latency::default(),
        };
        let engine = Engine {
            vcpus: parts.vcpus,
            threads: Vec::new(),
            registrations,
            faults: faults.unwrap_or_default(),
            vm: Some(parts.vm),
        };
        Ok(Vm::assemble(
            config.name.clone(),
            Arc::new(context),
            devices,
            engine,
        ))
    }

    fn make_devices(&self, config: &VmConfig, space: &AddressSpace) -> Result<Given, MonitorError> {
        let disk = |disk: &DiskConfig| {
            let (image, cache) = (disk.image.clone(), self.blocks.clone());
            Disk::new(image, cache, config.group, disk.mode.clone(), disk.scratch)
        };
        let net = |net: &VmNetwork| NetDevice::new(&net.network, net.config);
        if !config.networks.is_empty() {
            space.expect_lending();
        }
        Ok(Given {
            disks: config.disks.iter().map(disk).collect::<Result<_, _>>()?,
            nets: config.networks.iter().map(net).collect::<Result<_, _>>()?,
        })
    }
}

/// Sets the vCPUs' registers; the result is the rate of their time stamp counters in kHz.
fn prepare_vcpus(vcpus: &[VcpuFd], boot: &BootImage) -> Result<u64, MonitorError> {
    let mut tsc_khz = 0;
    for (index, fd) in (0..).zip(vcpus) {
        let start = Start {
            index,
            entry: boot.entry(),
            stack_pointer: boot.stack_pointer(index),
        };
        vcpu::set_registers(fd, start).map_err(MonitorError::kvm("set a vCPU's registers"))?;
        tsc_khz = fd
            .get_tsc_khz()
            .map_err(MonitorError::kvm("tell a vCPU's clock rate"))?;
    }
    Ok(tsc_khz.into())
}

/// Puts the guest into its memory: the shared image, and the page that is its own.
fn load(
    boot: &BootImage,
    space: &AddressSpace,
    mut control: abi::Control,
) -> Result<(), MonitorError> {
    let access = space.access();
    boot.load(&access)?;
    control.free_start = boot.free_start();
    mailbox::write_control(&access, &control).map_err(BootError::Memory)?;
    Ok(())
}

fn control_page(
    config: &VmConfig,
    space: &AddressSpace,
    listing: &[abi::Device],
    tsc_khz: u64,
) -> abi::Control {
    let mut devices = [abi::Device::default(); abi::MAX_DEVICES];
    let mut device_count = 0;
    for (entry, device) in devices.iter_mut().zip(listing) {
        *entry = *device;
        device_count += 1;
    }
    abi::Control {
        magic: abi::MAGIC,
        memory: config.memory,
        free_start: 0,
        tsc_khz,
        vm: space.vm().0,
        vcpus: config.vcpus,
        device_count,
        reserved: 0,
        devices,
        command: 0,
        stop: 0,
        workload: abi::Workload::default(),
    }
}

/// A device that can't go on ends its VM. The worker that tells of it must not wait for anything.
fn on_failure(control: &Arc<RunControl>) -> Arc<dyn Fn(String) + Send + Sync> {
    let control = control.clone();
    Arc::new(move |reason| control.stop(StopCause::Device(reason)))
}
