//! KVM's own count of a vCPU's page faults (`KVM_GET_STATS_FD`, Linux 5.14; KVM API documentation,
//! section 4.133): those that its guest takes at pages that KVM has no translation of.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use kvm_ioctls::VcpuFd;

const KVM_GET_STATS_FD: libc::c_ulong = 0xaece;
/// The count's name.
const NAME: &[u8] = b"pf_taken";
/// Bytes of a descriptor without its name.
const DESCRIPTOR: usize = 16;
/// More statistics than any kernel has, and longer names.
const MOST: u32 = 1024;

/// Where a vCPU's count is read.
#[derive(Debug)]
pub(crate) struct FaultCounter {
    file: File,
    /// Of the number, in the file.
    offset: u64,
}

impl FaultCounter {
    /// Finds the count of a vCPU.
    ///
    /// # Errors
    /// The kernel has no such files, or does not count faults.
    pub(crate) fn open(vcpu: &VcpuFd) -> io::Result<Self> {
        // SAFETY: takes no argument and makes a new descriptor.
        let fd = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_GET_STATS_FD) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just made, and is nobody else's.
        let file = unsafe { File::from_raw_fd(fd) };
        let mut header = [0; 24];
        file.read_exact_at(&mut header, 0)?;
        let word = |at: usize| number(&header, at);
        let (name, count) = (word(4).min(MOST), word(8).min(MOST));
        let (first, data) = (word(16), word(20));
        let size = DESCRIPTOR + name as usize;
        let mut descriptors = vec![0; size * count as usize];
        file.read_exact_at(&mut descriptors, first.into())?;
        let found = descriptors.chunks_exact(size).find(|one| {
            let name = one.get(DESCRIPTOR..).unwrap_or_default();
            name.split(|byte| *byte == 0).next() == Some(NAME)
        });
        let found = found.ok_or(io::ErrorKind::NotFound)?;
        let offset = u64::from(data) + u64::from(number(found, 8));
        Ok(Self { file, offset })
    }

    /// Faults so far.
    pub(crate) fn read(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        self.file.read_exact_at(&mut count, self.offset)?;
        Ok(u64::from_ne_bytes(count))
    }
}

/// The 32-bit number at `at`; 0 outside.
fn number(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    bytes.map_or(0, u32::from_ne_bytes)
}
