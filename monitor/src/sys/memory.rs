//! A KVM VM together with the memory it was told of.

use std::io;
use std::sync::Arc;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use mirrorball_pmap::AddressSpace;

/// A KVM VM whose guest-physical memory is one address space, from address 0.
#[derive(Debug)]
pub(crate) struct GuestVm {
    fd: VmFd,
    /// Dropped after `fd`: KVM never holds a region whose memory is gone.
    _space: Arc<AddressSpace>,
}

impl GuestVm {
    pub(crate) fn new(fd: VmFd, space: Arc<AddressSpace>) -> io::Result<Self> {
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: space.bytes(),
            userspace_addr: space.host_address(),
        };
        // SAFETY: the region is the whole of the space's own mapping, which stays mapped as long
        // as the `Arc` kept beside the VM; nobody but the pmap and the guest refers to its bytes.
        unsafe { fd.set_user_memory_region(region) }
            .map_err(|e| io::Error::from_raw_os_error(e.errno()))?;
        Ok(Self { fd, _space: space })
    }

    pub(crate) fn fd(&self) -> &VmFd {
        &self.fd
    }
}

/// Pages of memory that the host probe's guest has.
pub(crate) const PROBE_PAGES: u8 = 64;

/// Anonymous memory for the host probe's own little guest.
#[derive(Debug)]
pub(crate) struct ProbeVm {
    fd: VmFd,
    memory: vm_memory::MmapRegion,
}

impl ProbeVm {
    /// A VM with memory from guest-physical 0 on that holds `code`, and zeros.
    pub(crate) fn new(fd: VmFd, code: &[u8]) -> io::Result<Self> {
        const SIZE: usize = 4096 * PROBE_PAGES as usize;
        let memory = vm_memory::MmapRegion::new(SIZE).map_err(io::Error::other)?;
        let slice = vm_memory::VolatileMemory::as_volatile_slice(&memory);
        // Each page is there, or the first touch would be of two kinds.
        slice.copy_from(&vec![1_u8; SIZE]);
        slice.copy_from(code);
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: SIZE as u64,
            userspace_addr: memory.as_ptr() as u64,
        };
        // SAFETY: the region is a mapping of our own of that size, kept beside the VM.
        unsafe { fd.set_user_memory_region(region) }
            .map_err(|e| io::Error::from_raw_os_error(e.errno()))?;
        Ok(Self { fd, memory })
    }

    pub(crate) fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// Has KVM forget where the memory is, by taking the right to write it away and giving it back.
    pub(crate) fn forget_translations(&self) -> io::Result<()> {
        let (start, size) = (self.memory.as_ptr().cast(), self.memory.size());
        for protection in [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE] {
            // SAFETY: a mapping of our own, which nobody writes but the guest, and it does not run.
            if unsafe { libc::mprotect(start, size, protection) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}
