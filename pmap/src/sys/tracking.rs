//! Asynchronous userfaultfd write protection: the kernel notes a page's first write after it was
//! protected and lets the writer go on (Linux 6.7, Documentation/admin-guide/mm/userfaultfd.rst).

use rustix::mm::{UserfaultfdFlags, userfaultfd};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

const UFFD_API: u64 = 0xaa;
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const REGISTER_MODE_WP: u64 = 1 << 1;
const FEATURE_PAGEFAULT_FLAG_WP: u64 = 1;
const FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const FEATURE_WP_ASYNC: u64 = 1 << 15;

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    length: u64,
    mode: u64,
    ioctls: u64,
}

/// One userfaultfd for the whole machine.
#[derive(Debug)]
pub(crate) struct WriteTracking {
    fd: OwnedFd,
}

impl WriteTracking {
    /// Opens a userfaultfd with asynchronous write protection.
    ///
    /// # Errors
    /// The kernel is too old or does not permit it (`vm.unprivileged_userfaultfd`).
    pub(crate) fn open() -> io::Result<Self> {
        // SAFETY: opens a new descriptor, nothing else.
        let fd = unsafe { userfaultfd(UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK) }
            // Without the privilege, faults of the kernel itself can't be handled in user space;
            // asynchronous protection never asks user space, so the lesser right is enough.
            // SAFETY: as above.
            .or_else(|_| unsafe {
                userfaultfd(
                    UserfaultfdFlags::CLOEXEC
                        | UserfaultfdFlags::NONBLOCK
                        | UserfaultfdFlags::from_bits_retain(1),
                )
            })?;
        let mut api = Api {
            api: UFFD_API,
            features: FEATURE_PAGEFAULT_FLAG_WP
                | FEATURE_WP_HUGETLBFS_SHMEM
                | FEATURE_WP_UNPOPULATED
                | FEATURE_WP_ASYNC,
            ioctls: 0,
        };
        // SAFETY: the structure is the one that this ioctl reads and writes.
        let answer = unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_API, &raw mut api) };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { fd })
    }

    /// Lets writes to a range of guest memory be tracked (pages already tracked stay so).
    pub(crate) fn register(&self, address: u64, length: u64) -> io::Result<()> {
        let mut register = Register {
            start: address,
            length,
            mode: REGISTER_MODE_WP,
            ioctls: 0,
        };
        // SAFETY: the structure is the one that this ioctl reads and writes; registration changes
        // no content of the range.
        let answer =
            unsafe { libc::ioctl(self.fd.as_raw_fd(), UFFDIO_REGISTER, &raw mut register) };
        if answer < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}
