//! Taking pages out of guest memory while the guest runs, and bringing them back when they are touched.
//!
//! A page is taken by moving it (`UFFDIO_MOVE`, Linux 6.8): one step for the kernel, in which all
//! translations of it end, the guest's among them. Who touches it afterwards, vCPU, device or
//! monitor, sleeps in the kernel until the page is given back; nobody ever sees it empty.
//! (Documentation/admin-guide/mm/userfaultfd.rst; the numbers are those of `linux/userfaultfd.h`.)

use super::{Pagemap, WriteTracking, bytes_of, tracking::REGISTER_MODE_WP};
use crate::types::{PAGE_BYTES, PAGE_SIZE, Page, Ppn, PpnRun};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mm::{self, Advice, MapFlags, ProtFlags};
use std::{
    ffi::c_void,
    io,
    os::fd::{AsFd, AsRawFd},
    ptr, slice,
};

const UFFDIO_WAKE: libc::c_ulong = 0x8010_aa02;
const UFFDIO_COPY: libc::c_ulong = 0xc028_aa03;
const UFFDIO_ZEROPAGE: libc::c_ulong = 0xc020_aa04;
const UFFDIO_MOVE: libc::c_ulong = 0xc028_aa05;
const REGISTER_MODE_MISSING: u64 = 1;
const EVENT_PAGEFAULT: u64 = 0x12;
/// Faults read at a time.
const MOST_FAULTS: usize = 64;

/// `struct uffdio_copy` and `struct uffdio_move`.
#[repr(C)]
struct Transfer {
    to: u64,
    from: u64,
    length: u64,
    mode: u64,
    done: i64,
}

/// `struct uffdio_zeropage`.
#[repr(C)]
struct ZeroPage {
    start: u64,
    length: u64,
    mode: u64,
    done: i64,
}

/// `struct uffd_msg` of a page fault: event, flags, address, thread.
type Message = [u64; 4];

impl WriteTracking {
    /// Whether pages can be taken and given back.
    pub(crate) fn can_page(&self) -> bool {
        self.pages
    }

    /// From now on a missing page in this range of anonymous memory is asked for.
    pub(crate) fn expect_missing(&self, address: u64, length: u64) -> io::Result<()> {
        self.register_as(address, length, REGISTER_MODE_WP | REGISTER_MODE_MISSING)
    }

    /// Moves the page at `address`, which is in a range of [`Self::expect_missing`], into the next empty
    /// page of `scratch`, whose number is the answer. After an error the page is where it was.
    ///
    /// Whether it was moved is seen by where it is, not by what the kernel says. Linux 6.18 moves a page
    /// and answers `EEXIST` if the page's entry changed while it began, as that of a page does which is
    /// written all the time: `move_pages` in `mm/userfaultfd.c` tries again, succeeds, still has the
    /// `EAGAIN` of the first attempt in its hands and tries once more, where the page lies by then.
    pub(crate) fn take(
        &self,
        address: u64,
        scratch: &mut Scratch,
        pagemap: &Pagemap,
    ) -> io::Result<u32> {
        let index = scratch.used;
        if index >= scratch.pages {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Err(error) = self.transfer(UFFDIO_MOVE, scratch.address(index), address) {
            // It was empty, and nobody else moves anything there.
            let moved = pagemap.is_occupied(scratch.base as u64, PpnRun::new(Ppn(index), 1));
            if !moved.unwrap_or(error.raw_os_error() == Some(libc::EEXIST)) {
                return Err(error);
            }
            tracing::trace!(%error, address, "moved all the same");
        }
        scratch.used += 1;
        Ok(index)
    }

    /// Makes a missing page present with these bytes and lets go on who waits for it.
    pub(crate) fn give(&self, address: u64, page: &Page) -> io::Result<()> {
        self.transfer(UFFDIO_COPY, address, page.as_ptr() as u64)
    }

    fn transfer(&self, call: libc::c_ulong, to: u64, from: u64) -> io::Result<()> {
        loop {
            let mut transfer = Transfer {
                to,
                from,
                length: PAGE_BYTES,
                mode: 0,
                done: 0,
            };
            // SAFETY: the structure is the one of both calls. A missing page is filled, which changes
            // no byte that anybody has seen; or a page goes where nobody but its taker looks.
            let answer = unsafe { libc::ioctl(self.fd.as_raw_fd(), call, &raw mut transfer) };
            if answer == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EAGAIN) {
                return Err(error);
            }
        }
    }

    /// Makes missing pages show zeros, from `address` on, up to the first that is there; how many.
    pub(crate) fn give_zeros(&self, address: u64, length: u64) -> io::Result<u64> {
        let mut zeros = ZeroPage {
            start: address,
            length,
            mode: 0,
            done: 0,
        };
        // SAFETY: the structure is the one that this call reads and writes; only missing pages change.
        let answer = unsafe { libc::ioctl(self.fd.as_raw_fd(), UFFDIO_ZEROPAGE, &raw mut zeros) };
        let done = u64::try_from(zeros.done).unwrap_or(0);
        if answer < 0 && done == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(done / PAGE_BYTES)
    }

    /// Lets those go on who wait for the page at `address`: they look again.
    pub(crate) fn wake(&self, address: u64) {
        let mut range = [address, PAGE_BYTES];
        // SAFETY: the range is the structure that this call reads; it changes no memory.
        let answer = unsafe { libc::ioctl(self.fd.as_raw_fd(), UFFDIO_WAKE, range.as_mut_ptr()) };
        if answer < 0 {
            tracing::error!(error = %io::Error::last_os_error(), "waiters can't be woken");
        }
    }

    /// Addresses of pages that somebody waits for; none after so many milliseconds without.
    pub(crate) fn faults(&self, milliseconds: u32) -> io::Result<Vec<u64>> {
        let mut watched = [PollFd::new(&self.fd, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(milliseconds.min(999)) * 1_000_000,
        };
        match poll(&mut watched, Some(&limit)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            other => other?,
        };
        let mut messages = [Message::default(); MOST_FAULTS];
        // SAFETY: the array is exclusively borrowed and any bytes are valid in it.
        let bytes = unsafe {
            slice::from_raw_parts_mut(messages.as_mut_ptr().cast::<u8>(), size_of_val(&messages))
        };
        let read = match rustix::io::read(self.fd.as_fd(), bytes) {
            Ok(read) => read,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let whole = messages.iter().take(read / size_of::<Message>());
        let faults = whole.filter(|message| message[0] & 0xff == EVENT_PAGEFAULT);
        Ok(faults
            .map(|message| message[2] & !(PAGE_BYTES - 1))
            .collect())
    }
}

/// Pages of the monitor's own that taken pages are moved into.
///
/// A page of it is read only after a page was moved there: the empty ones are registered as missing,
/// and who touched one would wait for ever.
#[derive(Debug)]
pub(crate) struct Scratch {
    base: *mut c_void,
    pages: u32,
    /// So many hold a page that was moved here, from the first on.
    used: u32,
}

// SAFETY: plain memory of the process; its owner alone refers to it.
unsafe impl Send for Scratch {}

impl Scratch {
    pub(crate) fn new(tracking: &WriteTracking, pages: u32) -> io::Result<Self> {
        let (protection, flags) = (
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        );
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base =
            unsafe { mm::mmap_anonymous(ptr::null_mut(), bytes_of(pages), protection, flags)? };
        let scratch = Self {
            base,
            pages,
            used: 0,
        };
        for advice in [Advice::LinuxNoHugepage, Advice::LinuxDontFork] {
            // SAFETY: the mapping just made.
            unsafe { mm::madvise(base, bytes_of(pages), advice)? };
        }
        tracking.expect_missing(scratch.address(0), bytes_of(pages) as u64)?;
        Ok(scratch)
    }

    /// How many pages it has.
    pub(crate) fn pages(&self) -> u32 {
        self.pages
    }

    fn address(&self, index: u32) -> u64 {
        assert!(index < self.pages, "page {index} of {}", self.pages);
        self.base as u64 + u64::from(index) * PAGE_BYTES
    }

    /// The bytes of the first `pages` pages, each of which was moved here.
    pub(crate) fn bytes(&self, pages: u32) -> &[u8] {
        assert!(pages <= self.pages, "{pages} of {} pages", self.pages);
        // SAFETY: mapped for the life of `self`, and changed only by `take` and `clear`, whose caller
        // owns this.
        unsafe { slice::from_raw_parts(self.base.cast(), bytes_of(pages)) }
    }

    /// One page that was moved here.
    pub(crate) fn page(&self, index: u32) -> &Page {
        let at = self.address(index) as *const Page;
        // SAFETY: as in `bytes`.
        unsafe { &*at }
    }

    /// Empties it, if who had it last could not: to be called before pages are taken.
    pub(crate) fn prepare(&mut self) -> io::Result<()> {
        if self.used == 0 { Ok(()) } else { self.clear() }
    }

    /// Empties it.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        // SAFETY: nobody refers to its bytes: `self` is borrowed exclusively.
        unsafe { mm::madvise(self.base, bytes_of(self.pages), Advice::LinuxDontNeed)? };
        self.used = 0;
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: the mapping ends with its owner.
        let _ = unsafe { mm::munmap(self.base, bytes_of(self.pages)) };
    }
}

/// A page at a page's border, as reading past the page cache asks for.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(crate) struct Buffer(pub(crate) Page);

impl Buffer {
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self([0; PAGE_SIZE]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Region;

    /// As the kernel leaves it that has moved a page and says that it has not.
    #[test]
    fn a_page_that_was_moved_is_taken_whatever_the_kernel_says() {
        let (pagemap, tracking) = (Pagemap::open().unwrap(), WriteTracking::open());
        let Some(tracking) = tracking.ok().filter(WriteTracking::can_page) else {
            return eprintln!("not run: pages can't be moved here");
        };
        let region = Region::reserve(2).unwrap();
        let (first, second) = (region.address(), region.address() + PAGE_BYTES);
        tracking.expect_missing(first, 2 * PAGE_BYTES).unwrap();
        for (at, byte) in [(first, 7), (second, 8)] {
            tracking.give(at, &[byte; PAGE_SIZE]).unwrap();
        }
        let mut scratch = Scratch::new(&tracking, 2).unwrap();
        tracking
            .transfer(UFFDIO_MOVE, scratch.address(0), first)
            .unwrap();
        let again = tracking.transfer(UFFDIO_MOVE, scratch.address(0), first);
        assert_eq!(again.unwrap_err().raw_os_error(), Some(libc::EEXIST));
        let taken = tracking.take(first, &mut scratch, &pagemap);
        assert_eq!(taken.unwrap(), 0);
        assert_eq!(scratch.page(0), &[7; PAGE_SIZE]);
        // One that is not there is not taken, and the next goes to a page of its own.
        let gone = tracking.take(first, &mut scratch, &pagemap);
        assert_eq!(gone.unwrap_err().raw_os_error(), Some(libc::ENOENT));
        let next = tracking.take(second, &mut scratch, &pagemap);
        assert_eq!(next.unwrap(), 1);
        assert_eq!(scratch.page(1), &[8; PAGE_SIZE]);
        assert!(tracking.take(second, &mut scratch, &pagemap).is_err());
        scratch.clear().unwrap();
        tracking.give(first, &[9; PAGE_SIZE]).unwrap();
        let afresh = tracking.take(first, &mut scratch, &pagemap);
        assert_eq!((afresh.unwrap(), scratch.page(0)[0]), (0, 9));
    }
}
