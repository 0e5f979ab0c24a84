//! The host's KVM: opening it with a clear answer when it can't be, and what each VM needs of it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use mirrorball_pmap::AddressSpace;
use parking_lot::Mutex;

use crate::linux;
use crate::probe::real_mode;
use crate::sys::memory::GuestVm;
use crate::{MonitorError, platform};

/// Where KVM is.
pub(crate) const DEVICE: &str = "/dev/kvm";

/// The version of KVM's interface since Linux 2.6.22.
const API_VERSION: i32 = 12;

/// KVM, and what its vCPUs shall be like.
#[derive(Debug)]
pub(crate) struct Hypervisor {
    kvm: Kvm,
    cpuid: CpuId,
    path: PathBuf,
    /// VMs without memory, made ahead.
    spare: Mutex<Vec<VmFd>>,
}

impl Hypervisor {
    pub(crate) fn open(path: &Path) -> Result<Self, MonitorError> {
        let kvm = open(path)?;
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(MonitorError::kvm("list the processor's features"))?;
        Ok(Self {
            kvm,
            cpuid,
            path: path.into(),
            spare: Mutex::default(),
        })
    }

    /// Makes KVM's part of `count` VMs ahead.
    ///
    /// KVM has itself told of each change of the process's mappings, once for each VM, and to
    /// register for that locks every mapping there is. Registering first a thousand VMs and then
    /// making their mappings takes a fraction of the time of doing it in turns.
    pub(crate) fn reserve(&self, count: usize) -> Result<(), MonitorError> {
        let made = (0..count)
            .map(|_| {
                self.kvm
                    .create_vm()
                    .map_err(MonitorError::kvm("create a VM"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.spare.lock().extend(made);
        Ok(())
    }

    /// The device's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What a fault costs a guest here, what it makes the processor forget included; `None`, and noted,
    /// if it can't be found out.
    pub(crate) fn fault_time(&self) -> Option<Duration> {
        real_mode::fault_time(&self.kvm)
            .map(with_aftermath)
            .inspect(|time| tracing::debug!(?time, "a guest's fault"))
            .inspect_err(|error| tracing::info!(%error, "faults can't be timed"))
            .ok()
    }

    /// A VM with the memory of `space` and `count` vCPUs whose registers are not yet set.
    pub(crate) fn create_vm(
        &self,
        space: &Arc<AddressSpace>,
        count: u32,
    ) -> Result<(GuestVm, Vec<VcpuFd>), MonitorError> {
        let vm = self.empty_vm(space)?;
        let vcpus = create_vcpus(&vm, count, |_| Ok(self.cpuid.clone()))?;
        Ok((vm, vcpus))
    }

    /// The same as a PC: interrupt controllers and timer in KVM, vCPUs that know of each other.
    pub(crate) fn create_pc(
        &self,
        space: &Arc<AddressSpace>,
        count: u32,
    ) -> Result<(GuestVm, Vec<VcpuFd>), MonitorError> {
        let vm = self.empty_vm(space)?;
        platform::furnish(vm.fd())?;
        let deadline = self.kvm.check_extension(Cap::TscDeadlineTimer);
        let vcpus = create_vcpus(&vm, count, |index| {
            linux::features(&self.cpuid, index, count, deadline)
                .map_err(|error| MonitorError::Config(format!("too many features: {error:?}")))
        })?;
        Ok((vm, vcpus))
    }

    /// A VM with memory and without vCPUs.
    fn empty_vm(&self, space: &Arc<AddressSpace>) -> Result<GuestVm, MonitorError> {
        let spare = self.spare.lock().pop();
        let fd = match spare {
            Some(fd) => fd,
            None => self
                .kvm
                .create_vm()
                .map_err(MonitorError::kvm("create a VM"))?,
        };
        GuestVm::new(fd, space.clone()).map_err(|source| MonitorError::Kvm {
            what: "take the VM's memory",
            source,
        })
    }
}

/// A fault, and what the guest loses by it beside the time of the fault itself.
///
/// A processor keeps the guest's translations over an exit, and some of its caches: as much again. One
/// that is emulated (QEMU's TCG) drops all translations, and software looks each of them up again, in
/// two dimensions, when its page is used next: on the emulated host, where the probe's fault takes
/// 0.04 ms, guests' work took some 0.4 ms longer for each fault that they had more.
fn with_aftermath(fault: Duration) -> Duration {
    /// No processor takes so long.
    const EMULATED: Duration = Duration::from_micros(10);
    if fault < EMULATED {
        fault * 2
    } else {
        fault * 10
    }
}

fn create_vcpus(
    vm: &GuestVm,
    count: u32,
    features: impl Fn(u32) -> Result<CpuId, MonitorError>,
) -> Result<Vec<VcpuFd>, MonitorError> {
    (0..count)
        .map(|index| {
            let fd = vm
                .fd()
                .create_vcpu(index.into())
                .map_err(MonitorError::kvm("create a vCPU"))?;
            fd.set_cpuid2(&features(index)?)
                .map_err(MonitorError::kvm("set a vCPU's features"))?;
            Ok(fd)
        })
        .collect()
}

/// Opens a KVM device and checks that it is one.
pub(crate) fn open(path: &Path) -> Result<Kvm, MonitorError> {
    let name = || PathBuf::from(path);
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => MonitorError::KvmMissing(name()),
        io::ErrorKind::PermissionDenied => MonitorError::KvmPermission(name()),
        // A device node without its driver, a folder.
        _ => MonitorError::NotKvm(name()),
    })?;
    if !file
        .metadata()
        .is_ok_and(|metadata| metadata.file_type().is_char_device())
    {
        return Err(MonitorError::NotKvm(name()));
    }
    let path_text = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| MonitorError::NotKvm(name()))?;
    let kvm = Kvm::new_with_path(path_text).map_err(MonitorError::kvm("be opened"))?;
    match kvm.get_api_version() {
        API_VERSION => Ok(kvm),
        version if version < 0 => Err(MonitorError::NotKvm(name())),
        version => Err(MonitorError::KvmVersion(version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_costs_most_where_the_processor_is_emulated() {
        let cost = |microseconds| with_aftermath(Duration::from_micros(microseconds));
        assert_eq!(cost(2), Duration::from_micros(4));
        assert_eq!(cost(40), Duration::from_micros(400));
    }

    #[test]
    fn what_is_not_kvm_is_named() {
        let missing = open(Path::new("/dev/no-such-kvm")).unwrap_err();
        assert!(matches!(missing, MonitorError::KvmMissing(_)));
        assert!(missing.to_string().contains("/dev/no-such-kvm"));
        for other in ["/dev/null", "/proc/version", "/tmp"] {
            let error = open(Path::new(other)).unwrap_err();
            assert!(
                matches!(
                    error,
                    MonitorError::NotKvm(_) | MonitorError::KvmPermission(_)
                ),
                "{other}: {error}"
            );
        }
    }
}
