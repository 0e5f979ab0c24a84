//! TAP devices: a network interface of the host's whose other end is a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// Longest name of an interface, without the zero that ends it (`IFNAMSIZ`, netdevice(7)).
pub(crate) const LONGEST_NAME: usize = libc::IFNAMSIZ - 1;

/// Opens the TAP device of that name, which is made if it is not there. Reading and writing are whole
/// Ethernet frames, and never wait.
///
/// # Errors
/// There is no `/dev/net/tun`, no right to use it, another kind of device of that name, or another user
/// of the TAP device.
pub(crate) fn open(name: &str) -> io::Result<File> {
    if name.is_empty() || name.len() > LONGEST_NAME || !name.is_ascii() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    // SAFETY: all of it is integers, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::try_from(from).unwrap_or(0);
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or(0);
    // SAFETY: the descriptor is open, and the request is whole and lives through the call, which keeps
    // no pointer to it (Documentation/networking/tuntap.rst).
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}
