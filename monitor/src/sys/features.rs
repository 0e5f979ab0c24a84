//! Trying kernel features that have no other way to be asked for.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `struct pm_scan_arg` of `linux/fs.h` (Linux 6.7).
#[repr(C)]
#[derive(Debug, Default)]
struct PagemapScan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
/// `PAGE_IS_PRESENT`.
const PRESENT: u64 = 1 << 3;

/// Makes one `PAGEMAP_SCAN` over the page of a local variable.
pub(crate) fn try_pagemap_scan() -> io::Result<()> {
    let pagemap = File::open("/proc/self/pagemap")?;
    let here = 0_u8;
    let page = (&raw const here) as u64 & !0xfff;
    let mut argument = PagemapScan {
        size: size_of::<PagemapScan>() as u64,
        start: page,
        end: page + 4096,
        category_mask: PRESENT,
        return_mask: PRESENT,
        ..PagemapScan::default()
    };
    // SAFETY: the argument is the structure that the request expects, says its own size, and asks
    // for no output vector; without flags the scan changes nothing.
    let result = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut argument) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Opens a userfaultfd and closes it again.
pub(crate) fn try_userfaultfd() -> io::Result<()> {
    use rustix::mm::{UserfaultfdFlags, userfaultfd};
    // SAFETY: the descriptor is closed at once; no memory is ever registered with it.
    let fd = unsafe { userfaultfd(UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK) }?;
    drop(fd);
    Ok(())
}
