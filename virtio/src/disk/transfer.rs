//! Vectored file transfers straight into and out of guest memory: the crate's only unsafe code.
//!
//! Safe interfaces take byte slices, which guest memory may not be while its guest runs. The
//! kernel doesn't mind: it copies bytes, and breaks a shared page like any write does.

use super::DiskError;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileSlice};

/// Most slices in one system call (the kernel's UIO_MAXIOV).
const MAX_SLICES: usize = 1024;

/// A positioned vectored transfer, `preadv` or `pwritev`.
type Call = unsafe extern "C" fn(
    libc::c_int,
    *const libc::iovec,
    libc::c_int,
    libc::off_t,
) -> libc::ssize_t;

/// Looks ranges of guest memory up.
pub(super) fn slices(
    memory: &GuestMemoryMmap,
    ranges: impl Iterator<Item = (u64, u64)>,
) -> Result<Vec<VolatileSlice<'_>>, DiskError> {
    ranges
        .map(|(address, len)| {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            memory
                .get_slice(GuestAddress(address), len)
                .map_err(DiskError::Guest)
        })
        .collect()
}

/// Fills `slices` from byte `offset` of `file` on; answers the bytes read, fewer at its end.
pub(super) fn read(file: &File, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<u64> {
    transfer(libc::preadv, file, slices, offset)
}

/// Writes `slices` to `file` from byte `offset` on.
pub(super) fn write(file: &File, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
    let total: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
    let done = transfer(libc::pwritev, file, slices, offset)?;
    if done == total {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Fills `slices` with zeros, but for their first `skip` bytes.
pub(super) fn zero(slices: &[VolatileSlice<'_>], skip: u64) {
    let zeros = [0_u8; 4096];
    for slice in rest(slices, skip) {
        let mut at = 0;
        while let Ok(rest) = slice.offset(at)
            && !rest.is_empty()
        {
            let len = rest.len().min(zeros.len());
            rest.copy_from(&zeros[..len]);
            at += len;
        }
    }
}

fn transfer(call: Call, file: &File, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<u64> {
    let mut done = 0;
    loop {
        let guards: Vec<_> = rest(slices, done)
            .take(MAX_SLICES)
            .map(|slice| slice.ptr_guard_mut())
            .collect();
        if guards.is_empty() {
            return Ok(done);
        }
        let vectors: Vec<_> = guards
            .iter()
            .map(|guard| libc::iovec {
                iov_base: guard.as_ptr().cast(),
                iov_len: guard.len(),
            })
            .collect();
        let count = libc::c_int::try_from(vectors.len()).map_err(io::Error::other)?;
        let at = libc::off_t::try_from(offset + done).map_err(io::Error::other)?;
        // SAFETY: the vectors lie in guest memory, which stays mapped while `slices` borrow it;
        // any bytes at all may be there, before and after.
        let moved = unsafe { call(file.as_raw_fd(), vectors.as_ptr(), count, at) };
        match u64::try_from(moved) {
            Ok(0) => return Ok(done),
            Ok(bytes) => done += bytes,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// What of `slices` is left after `done` bytes.
fn rest<'a>(
    slices: &'a [VolatileSlice<'a>],
    done: u64,
) -> impl Iterator<Item = VolatileSlice<'a>> + 'a {
    let mut skip = usize::try_from(done).unwrap_or(usize::MAX);
    slices.iter().filter_map(move |slice| {
        let skipped = skip.min(slice.len());
        skip -= skipped;
        slice.offset(skipped).ok().filter(|rest| !rest.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    #[test]
    fn more_slices_than_one_call_takes_arrive_in_order() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let data: Vec<u8> = (0..3000_u32).map(|i| (i % 251) as u8).collect();
        memory.write_slice(&data, GuestAddress(0)).unwrap();
        let file = tempfile::tempfile().unwrap();
        let single = slices(&memory, (0..3000).map(|i| (i, 1))).unwrap();
        write(&file, &single, 77).unwrap();
        let doubled = slices(&memory, (0..3000).map(|i| (0x8_0000 + 2 * i, 1))).unwrap();
        assert_eq!(read(&file, &doubled, 77).unwrap(), 3000);
        for (i, &byte) in data.iter().enumerate() {
            let copy: u8 = memory
                .read_obj(GuestAddress(0x8_0000 + 2 * i as u64))
                .unwrap();
            assert_eq!(copy, byte);
        }
    }

    #[test]
    fn the_end_of_a_file_shortens_a_read() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 16)]).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(100).unwrap();
        let wanted = slices(&memory, [(0, 64), (4096, 64)].into_iter()).unwrap();
        assert_eq!(read(&file, &wanted, 0).unwrap(), 100);
        assert_eq!(read(&file, &wanted, 100).unwrap(), 0);
    }

    #[test]
    fn zeroing_reaches_the_last_byte_and_no_further() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 16)]).unwrap();
        memory.write_slice(&[7; 1 << 14], GuestAddress(0)).unwrap();
        zero(
            &slices(&memory, [(1, 100), (101, 8092)].into_iter()).unwrap(),
            1,
        );
        let mut bytes = [0; 8194];
        memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
        assert_eq!((bytes[1], bytes[8193]), (7, 7));
        assert!(bytes[2..8193].iter().all(|&byte| byte == 0));
    }
}
