//! Unmodified Linux kernels as guests.
//!
//! The guest sees a small PC without firmware: the kernel is entered by its own boot protocol,
//! ACPI tables name the processors and the virtio devices, KVM itself is the interrupt controller
//! and the clock, and the monitor adds a serial port and the ports for power-off and reset. This
//! needs a KVM that runs ring 0 on the processor; thin guests need nothing of it.
//!
//! Sources: the kernel's `Documentation/arch/x86/boot.rst`, Xen's `hvm/start_info.h`, ACPI 6.5.

mod acpi;
mod cpuid;
mod error;
mod initramfs;
mod kernel;
mod layout;
mod params;
mod ports;
mod power;
mod prepare;
mod registers;
mod serial;
mod shelf;

use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use acpi::Window;
pub(crate) use cpuid::features;
pub use error::LinuxError;
pub(crate) use layout::{KVM_IDENTITY_MAP, KVM_TASK_STATE, MAX_MEMORY};
pub(crate) use ports::Ports;
pub use prepare::check;
pub(crate) use prepare::{Memory, Prepared};
pub(crate) use registers::set_registers;
pub(crate) use serial::{LINE as SERIAL_LINE, SerialPort};
pub(crate) use shelf::Shelves;

/// Most vCPUs of a Linux guest.
pub const MAX_LINUX_VCPUS: u32 = 8;

/// A command line that suits most guests: the console on the serial port, reset by the keyboard
/// controller's port, and a reset right after a panic.
pub const COMMAND_LINE: &str = "console=ttyS0 reboot=k panic=-1";

/// What a VM boots.
#[derive(Clone, Debug, Default)]
pub enum Boot {
    /// The embedded thin guest.
    #[default]
    Splash,
    /// A Linux kernel.
    Linux(LinuxBoot),
}

/// A Linux guest: kernel, initramfs, command line, devices.
#[derive(Clone, Debug, Default)]
pub struct LinuxBoot {
    /// A bzImage, or an ELF with a PVH entry.
    pub kernel: PathBuf,
    /// Archives that the kernel unpacks one over the other, in this order.
    pub initramfs: Vec<InitramfsPart>,
    /// Given to the kernel as it is; see [`COMMAND_LINE`].
    pub command_line: String,
    /// Its devices besides disks and the serial port.
    pub devices: Equipment,
    /// A file that gets the output of the serial port, up to 64 MiB of it.
    pub console_log: Option<PathBuf>,
}

/// One archive of an initramfs: cpio (newc), also compressed.
#[derive(Clone, Debug)]
pub enum InitramfsPart {
    /// A file, shared by all guests that use it.
    File(PathBuf),
    /// Bytes of this guest's own.
    Bytes(Arc<[u8]>),
}

/// The host's port that a guest's `init` connects to.
pub const CONTROL_PORT: u32 = 1024;

/// Which devices a Linux guest has besides its disks and the serial port. The guest finds its
/// virtio devices in this order: disks, and then as here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Equipment {
    /// The control channel, the first virtio console: `/dev/hvc0`.
    pub control: bool,
    /// One more virtio console.
    pub console: bool,
    /// A balloon, with free page reporting.
    pub balloon: bool,
    /// A source of randomness.
    pub rng: bool,
    /// A socket device, with [`CONTROL_PORT`] for the guest to connect to: the control channel from
    /// then on.
    pub vsock: bool,
}
