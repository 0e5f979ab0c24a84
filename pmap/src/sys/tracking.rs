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
pub(super) const REGISTER_MODE_WP: u64 = 1 << 1;
const FEATURE_PAGEFAULT_FLAG_WP: u64 = 1;
const FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const FEATURE_WP_ASYNC: u64 = 1 << 15;
const FEATURE_MOVE: u64 = 1 << 16;
const NEEDED: u64 = FEATURE_PAGEFAULT_FLAG_WP
    | FEATURE_WP_HUGETLBFS_SHMEM
    | FEATURE_WP_UNPOPULATED
    | FEATURE_WP_ASYNC;

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
    pub(super) fd: OwnedFd,
    /// Whether pages can be moved out and missing ones brought back; see [`super::paging`].
    pub(super) pages: bool,
}

impl WriteTracking {
    /// Opens a userfaultfd with asynchronous write protection.
    ///
    /// # Errors
    /// The kernel is too old or does not permit it (`vm.unprivileged_userfaultfd`).
    pub(crate) fn open() -> io::Result<Self> {
        // Pages can be paged (Linux 6.8) only by who may handle the kernel's own faults: KVM's.
        if let Ok(fd) = open(UserfaultfdFlags::empty(), NEEDED | FEATURE_MOVE) {
            return Ok(Self { fd, pages: true });
        }
        // Without that privilege, asynchronous protection still works: it never asks user space.
        let fd = open(UserfaultfdFlags::empty(), NEEDED)
            .or_else(|_| open(UserfaultfdFlags::from_bits_retain(1), NEEDED))?;
        Ok(Self { fd, pages: false })
    }

    /// Lets writes to a range of guest memory be tracked (pages already tracked stay so).
    pub(crate) fn register(&self, address: u64, length: u64) -> io::Result<()> {
        self.register_as(address, length, REGISTER_MODE_WP)
    }

    pub(super) fn register_as(&self, address: u64, length: u64, mode: u64) -> io::Result<()> {
        let mut register = Register {
            start: address,
            length,
            mode,
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

fn open(flags: UserfaultfdFlags, features: u64) -> io::Result<OwnedFd> {
    // SAFETY: opens a new descriptor, nothing else.
    let fd =
        unsafe { userfaultfd(flags | UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK) }?;
    let mut api = Api {
        api: UFFD_API,
        features,
        ioctls: 0,
    };
    // SAFETY: the structure is the one that this ioctl reads and writes.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_API, &raw mut api) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}
