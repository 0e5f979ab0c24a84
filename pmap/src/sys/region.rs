//! One VM's memory: an address range of this process in which pages are anonymous, overlaid by
//! frames, or fenced.

use super::{bytes_of, seclusion, store::StoreMemory};
use crate::types::{Mpn, PAGE_SIZE, Page, Ppn, PpnRun};
use rustix::mm::{self, Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};
use std::{
    ffi::c_void,
    io, ptr,
    sync::atomic::{AtomicBool, Ordering},
};
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// Regions start at this alignment, so that a region's page tables are its own.
const ALIGNMENT: usize = 2 << 20;

/// Pages of a large page.
pub(crate) const LARGE_PAGES: u32 = 512;

/// A reserved address range of `pages` pages, unmapped when dropped.
///
/// Methods that change mappings take `&self`: what they do is atomic against guest and monitor
/// accesses (the kernel's `mmap_lock`), and the caller (`space`) serialises them by its table lock.
#[derive(Debug)]
pub(crate) struct Region {
    base: *mut u8,
    pages: u32,
    reservation: *mut c_void,
    reserved: usize,
    /// Whether the kernel may use large pages.
    large: AtomicBool,
    secluded: bool,
}

// SAFETY: the region is plain memory of the whole process; the pointer is only turned into
// accesses by the methods below, each of which states what it needs.
unsafe impl Send for Region {}
// SAFETY: as above; no method gives out `&mut`.
unsafe impl Sync for Region {}

impl Region {
    /// Reserves memory for `pages` pages, demand-zero, followed by one page that can't be accessed.
    pub(crate) fn reserve(pages: u32) -> io::Result<Self> {
        let reserved = bytes_of(pages) + PAGE_SIZE + ALIGNMENT;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let secluded = seclusion::next(reserved).and_then(|wanted| {
            let flags = flags | MapFlags::FIXED_NOREPLACE;
            // SAFETY: a new mapping that replaces none, as the flag says.
            unsafe { mm::mmap_anonymous(wanted, reserved, ProtFlags::empty(), flags) }.ok()
        });
        let reservation = match secluded {
            Some(reservation) => reservation,
            // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
            None => unsafe {
                mm::mmap_anonymous(ptr::null_mut(), reserved, ProtFlags::empty(), flags)?
            },
        };
        // What lies before and after stays reserved and inaccessible: giving it back would cost two
        // `munmap`s, each of which every VM of the process is told of.
        let head = reservation.align_offset(ALIGNMENT);
        let base = reservation.wrapping_byte_add(head).cast::<u8>();
        let region = Self {
            base,
            pages,
            reservation,
            reserved,
            large: AtomicBool::new(false),
            secluded: secluded.is_some(),
        };
        region.protect(PpnRun::new(Ppn(0), pages), true)?;
        // Sharing is by 4 KiB pages: a guest that touches one is to have that one, unless asked for.
        region.advise(PpnRun::new(Ppn(0), pages), Advice::LinuxNoHugepage)?;
        region.advise(PpnRun::new(Ppn(0), pages), Advice::LinuxDontFork)?;
        Ok(region)
    }

    /// Lets the kernel back memory by pages of 2 MiB from now on, where 2 MiB are plain and untouched.
    ///
    /// # Errors
    /// The kernel has no transparent large pages.
    pub(crate) fn allow_large(&self) -> io::Result<()> {
        self.advise(PpnRun::new(Ppn(0), self.pages), Advice::LinuxHugepage)?;
        self.large.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether [`Self::allow_large`] was called.
    pub(crate) fn is_large(&self) -> bool {
        self.large.load(Ordering::Relaxed)
    }

    /// Breaks large pages of which `run` is only a part, so that memory of the part can go back alone:
    /// the kernel would keep all 2 MiB until it is short of memory itself.
    ///
    /// "Cold" means nothing by itself. But who says it of a part of a large page has the kernel split it
    /// (`madvise_cold_or_pageout_pte_range` in `mm/madvise.c`); nothing else says it directly.
    pub(crate) fn break_large(&self, run: PpnRun) {
        if !self.is_large() || run.pages == 0 {
            return;
        }
        let last = Ppn(run.end().0 - 1);
        let ends = [(run.start, run.start.0), (last, run.end().0)];
        let cut = ends
            .into_iter()
            .filter(|(_, edge)| !edge.is_multiple_of(LARGE_PAGES));
        let mut blocks: Vec<Ppn> = cut.map(|(ppn, _)| ppn).collect();
        blocks.dedup_by_key(|ppn| ppn.0 / LARGE_PAGES);
        for ppn in blocks {
            if let Err(error) = self.advise(PpnRun::new(ppn, 1), Advice::LinuxCold) {
                tracing::debug!(%error, ?ppn, "a large page stays whole");
            }
        }
    }

    /// What mappings of plain memory are advised of: all alike, or the kernel could not join them.
    fn page_size_advice(&self) -> Advice {
        if self.is_large() {
            Advice::LinuxHugepage
        } else {
            Advice::LinuxNoHugepage
        }
    }

    /// Host address of the first page.
    pub(crate) fn address(&self) -> u64 {
        self.base as u64
    }

    /// Number of pages.
    pub(crate) fn pages(&self) -> u32 {
        self.pages
    }

    /// A view for devices; the accesses themselves are vm-memory's.
    pub(crate) fn guest_memory(&self) -> io::Result<GuestMemoryMmap> {
        let (prot, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: the range is mapped for as long as `self` lives; `space` keeps the view beside
        // the region and drops both together.
        let raw = unsafe { MmapRegion::build_raw(self.base, bytes_of(self.pages), prot, flags) };
        let region = raw.map_err(io::Error::other)?;
        let region = GuestRegionMmap::new(region, GuestAddress(0))
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        GuestMemoryMmap::from_regions(vec![region]).map_err(io::Error::other)
    }

    /// Whether the kernel gives addresses of this region to nobody else, even while nothing is mapped
    /// there.
    pub(crate) fn is_secluded(&self) -> bool {
        self.secluded
    }

    pub(super) fn at(&self, run: PpnRun) -> *mut c_void {
        assert!(
            run.end().0 <= self.pages && run.start.0 < run.end().0,
            "{run:?} is outside the region"
        );
        self.base.wrapping_add(bytes_of(run.start.0)).cast()
    }

    /// Puts frames over the pages of `run`, copy-on-write: one call, one VMA.
    pub(crate) fn overlay(&self, run: PpnRun, store: &StoreMemory, first: Mpn) -> io::Result<()> {
        let offset = bytes_of(first.0) as u64;
        // SAFETY: replaces pages inside the region only (`at` checks). Guest and monitor accesses
        // see either the old or the new page: the kernel swaps them under its own lock.
        unsafe {
            mm::mmap(
                self.at(run),
                bytes_of(run.pages),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE,
                store.fd(),
                offset,
            )?;
        }
        Ok(())
    }

    /// Puts fresh demand-zero memory over the pages of `run`.
    pub(crate) fn anonymous(&self, run: PpnRun) -> io::Result<()> {
        // SAFETY: as in `overlay`.
        unsafe {
            mm::mmap_anonymous(
                self.at(run),
                bytes_of(run.pages),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE,
            )?;
        }
        self.advise(run, self.page_size_advice())?;
        self.advise(run, Advice::LinuxDontFork)
    }

    /// Replaces what lies at `run` by plain memory with the same bytes, in one step for everybody who
    /// reads. Nobody writes there meanwhile.
    pub(crate) fn flatten(&self, run: PpnRun) -> io::Result<()> {
        let length = bytes_of(run.pages);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let copy = unsafe {
            mm::mmap_anonymous(
                ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        let moved = (|| {
            for advice in [self.page_size_advice(), Advice::LinuxDontFork] {
                // SAFETY: the mapping just made.
                unsafe { mm::madvise(copy, length, advice)? };
            }
            // SAFETY: both are mapped and as long, and the copy is nobody else's. The guest does not
            // write these pages now, the caller says.
            unsafe { ptr::copy_nonoverlapping(self.at(run).cast::<u8>(), copy.cast(), length) };
            let flags = MremapFlags::MAYMOVE;
            // SAFETY: the target is inside the region (`at` checks), and its content stays the same.
            unsafe { mm::mremap_fixed(copy, length, length, flags, self.at(run)) }
        })();
        if let Err(error) = moved {
            // SAFETY: not moved, so still the mapping made above, which nobody refers to.
            let _ = unsafe { mm::munmap(copy, length) };
            return Err(error.into());
        }
        Ok(())
    }

    /// Allows or forbids writes to the pages of `run`; a guest's write to a page where they are
    /// forbidden comes out of `KVM_RUN` as `EFAULT` without having happened.
    pub(crate) fn protect(&self, run: PpnRun, writable: bool) -> io::Result<()> {
        let flags = if writable {
            MprotectFlags::READ | MprotectFlags::WRITE
        } else {
            MprotectFlags::READ
        };
        // SAFETY: inside the region (`at` checks); a monitor write to a page without write
        // permission can't happen, since those go through `Access`, which excludes fences.
        unsafe { mm::mprotect(self.at(run), bytes_of(run.pages), flags)? };
        Ok(())
    }

    /// Drops the private copies of the pages of `run`: what is below shows again (a frame inside
    /// an overlay, zeros elsewhere).
    pub(crate) fn discard(&self, run: PpnRun) -> io::Result<()> {
        self.advise(run, Advice::LinuxDontNeed)
    }

    /// Gives the pages to Linux KSM, or takes them back.
    pub(crate) fn set_mergeable(&self, mergeable: bool) -> io::Result<()> {
        let advice = if mergeable {
            Advice::LinuxMergeable
        } else {
            Advice::LinuxUnmergeable
        };
        self.advise(PpnRun::new(Ppn(0), self.pages), advice)
    }

    fn advise(&self, run: PpnRun, advice: Advice) -> io::Result<()> {
        // SAFETY: inside the region (`at` checks). The advice used here changes content only for
        // `DontNeed`, whose callers have checked that the content below is the same.
        unsafe { mm::madvise(self.at(run), bytes_of(run.pages), advice)? };
        Ok(())
    }

    /// The bytes of a page as they are now.
    ///
    /// A running guest may change them during the read. That is fine for what callers do (hash,
    /// compare, look for zeros): any answer is a guess until it is confirmed under a fence.
    pub(crate) fn page(&self, ppn: Ppn) -> &Page {
        let page = self.at(PpnRun::new(ppn, 1)).cast::<Page>();
        // SAFETY: mapped and readable for the region's life. Writers are the guest, outside Rust's
        // memory model, and devices through vm-memory's volatile accesses; readers are hash and
        // compare loops that are defined for every value they may meet.
        unsafe { &*page }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the region ends here, and with it every user of its memory: the owner
        // (`AddressSpace`) is dropped when no device, scanner or vCPU holds it any more.
        let _ = unsafe { mm::munmap(self.reservation, self.reserved) };
    }
}
