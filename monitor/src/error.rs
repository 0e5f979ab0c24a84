//! Why the machine, or a VM in it, could not be made.

use std::io;
use std::path::PathBuf;

use mirrorball_pmap::PmapError;
use mirrorball_virtio::DiskError;
use mirrorball_vnet::AttachError;

use crate::boot::BootError;
use crate::linux::LinuxError;

/// Why the machine, or a VM in it, could not be made. Each says what would help.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The host offers no KVM.
    #[error(
        "{} does not exist: this host offers no KVM (load the module kvm_intel, kvm_amd or \
         kvm_pvm, or turn on virtualization in the firmware)", .0.display()
    )]
    KvmMissing(PathBuf),
    /// KVM is there, for others.
    #[error("no permission to open {}: join the group that owns it (often `kvm`) or run as root", .0.display())]
    KvmPermission(PathBuf),
    /// What is there is not KVM.
    #[error("{} is not a KVM device", .0.display())]
    NotKvm(PathBuf),
    /// A KVM that no kernel of this century has.
    #[error("KVM speaks version {0} of its interface; only version 12 is known")]
    KvmVersion(i32),
    /// A call into KVM failed.
    #[error("KVM could not {what}: {source}")]
    Kvm {
        /// What was asked of it.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The pmap has no room, or the kernel none for it.
    #[error("no memory for the VM: {0}")]
    Pmap(#[from] PmapError),
    /// The guest could not be loaded.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A Linux guest can't be started.
    #[error(transparent)]
    Linux(#[from] LinuxError),
    /// A disk image or overlay can't be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A network has no port for the VM.
    #[error(transparent)]
    Network(#[from] AttachError),
    /// No thread, descriptor or signal handler was to be had.
    #[error("could not {what}: {source}")]
    Os {
        /// What was wanted.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The VM that was asked for can't exist.
    #[error("a VM can't be like that: {0}")]
    Config(String),
}

impl MonitorError {
    /// For `map_err` on calls of `kvm-ioctls`.
    pub(crate) fn kvm(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Kvm {
            what,
            source: io::Error::from_raw_os_error(error.errno()),
        }
    }

    /// For `map_err` on other system calls.
    pub(crate) fn os(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Os { what, source }
    }
}
