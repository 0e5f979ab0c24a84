//! One VM's guest-physical memory.
//!
//! # Locks
//! Two locks (and, after them, that of what is on swap: see `swap`), taken in this order, guard a space:
//!
//! 1. `dma`, a read-write lock. Devices hold it shared ([`Access`]) while they touch guest memory, and
//!    so does whoever else reads it ([`AddressSpace::with_page`]);
//!    content sharing holds it exclusively for one bounded batch. So a device never meets a fence
//!    and never writes a page between its comparison and its remapping, and nobody meets the gap in
//!    which a stretch of pages is replaced (`stretch`).
//! 2. `table`, a mutex: the books and every change of the mappings. The books follow the kernel
//!    with one lag that is allowed: a guest's write breaks a mapped page without telling us, and
//!    the books say *mapped* until the next [`AddressSpace::settle`]. References are only ever
//!    dropped late by this, never early.
//!
//! vCPUs take neither. They are kept from a page under comparison by the fence itself (`share`), or,
//! when none of them is in guest mode at that moment, by a third lock, `guest`: vCPU threads hold it
//! shared while they run the guest, a batch only ever *tries* to take it exclusively.

mod access;
mod balloon;
mod book;
mod carried;
mod fence;
mod flatten;
mod large;
mod lend;
mod settle;
mod share;
mod stretch;
mod swap;
mod table;
mod watch;
mod zero;

pub use access::Access;
pub use balloon::GiveOutcome;
pub use lend::{Lent, Loan, Origin};
pub use settle::Taken;
pub use share::{ShareCandidate, ShareOutcome};
pub(crate) use swap::Served;
pub use swap::SwapOutcome;
pub use table::{PageState, SpaceTotals};
pub use watch::Watch;
pub use zero::{ZeroOutcome, is_zero};

use crate::{
    budget::VmaBudget,
    error::PmapError,
    frames::FrameStore,
    swap::SwapArea,
    sys::{Pagemap, Region, WriteTracking},
    types::{GroupId, PAGE_BYTES, Page, Ppn, PpnRun, VmId},
};
use hdrhistogram::Histogram;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use table::Table;
use vm_memory::GuestMemoryMmap;

/// What all address spaces of a machine have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) frames: FrameStore,
    pub(crate) pagemap: Pagemap,
    pub(crate) tracking: Option<WriteTracking>,
    pub(crate) budget: VmaBudget,
    pub(crate) spaces: AtomicU32,
    pub(crate) swap: OnceLock<Arc<SwapArea>>,
    pub(crate) guest_fault: Duration,
}

impl Common {
    /// VMs that the kernel tells of every change of a mapping in this process.
    fn notified(&self) -> u32 {
        self.spaces.load(Ordering::Relaxed)
    }
}

/// Says that a vCPU is in guest mode; see [`AddressSpace::enter_guest`].
#[derive(Debug)]
pub struct InGuest<'a> {
    _inside: RwLockReadGuard<'a, ()>,
}

/// The memory of one VM and its part of the pmap.
#[derive(Debug)]
pub struct AddressSpace {
    vm: VmId,
    group: GroupId,
    common: Arc<Common>,
    dma: RwLock<()>,
    guest: RwLock<()>,
    table: Mutex<Table>,
    swap: Mutex<book::Book>,
    /// Nobody runs on the pages any more, and some of them can't be had.
    abandoned: AtomicBool,
    twins: Mutex<lend::Twins>,
    carried: Mutex<carried::Carried>,
    holds: Mutex<Histogram<u64>>,
    // The view names the region's memory, so it is declared, and dropped, before it.
    memory: GuestMemoryMmap,
    region: Region,
}

impl AddressSpace {
    pub(crate) fn new(
        common: Arc<Common>,
        vm: VmId,
        group: GroupId,
        bytes: u64,
    ) -> Result<Self, PmapError> {
        let pages = u32::try_from(bytes / PAGE_BYTES)
            .ok()
            .filter(|&pages| pages > 0 && bytes.is_multiple_of(PAGE_BYTES));
        let pages = pages.ok_or(PmapError::BadSize { bytes })?;
        let failed = |action| {
            move |source| PmapError::GuestMemory {
                vm,
                bytes,
                action,
                source,
            }
        };
        let region = Region::reserve(pages).map_err(failed("reserved"))?;
        if let Some(tracking) = &common.tracking {
            tracking
                .register(region.address(), bytes)
                .map_err(failed("tracked"))?;
        }
        let memory = region.guest_memory().map_err(failed("viewed"))?;
        let table = Table::new(pages);
        common.budget.change(1);
        common.spaces.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            vm,
            group,
            common,
            dma: RwLock::new(()),
            guest: RwLock::new(()),
            table: Mutex::new(table),
            swap: Mutex::default(),
            abandoned: AtomicBool::new(false),
            twins: Mutex::default(),
            carried: Mutex::default(),
            holds: Mutex::new(new_histogram()),
            memory,
            region,
        })
    }

    /// Whose memory this is.
    #[must_use]
    pub fn vm(&self) -> VmId {
        self.vm
    }

    /// The sharing group of the VM.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Size in pages.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.region.pages()
    }

    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.pages()) * PAGE_BYTES
    }

    /// Where the memory is in this process, for `KVM_SET_USER_MEMORY_REGION`.
    #[must_use]
    pub fn host_address(&self) -> u64 {
        self.region.address()
    }

    /// What a page is made of, by the books (breaks since the last settling are not seen).
    /// Pages outside the VM's memory are [`PageState::Untouched`].
    #[must_use]
    pub fn state(&self, ppn: Ppn) -> PageState {
        let table = self.table.lock();
        if table.contains(PpnRun::new(ppn, 1)) {
            table.state(ppn)
        } else {
            PageState::Untouched
        }
    }

    /// What each page of a run is made of, by the books: one lock for all of them.
    #[must_use]
    pub fn states(&self, run: PpnRun) -> Vec<PageState> {
        let table = self.table.lock();
        if table.contains(run) {
            run.iter().map(|ppn| table.state(ppn)).collect()
        } else {
            Vec::new()
        }
    }

    /// Lets `look` see a page's bytes as they are now. A running guest may change them meanwhile:
    /// good for hashes, comparisons and guesses that [`Self::share`] or [`Self::release_zero`]
    /// confirm.
    ///
    /// # Panics
    /// When the page lies outside the VM's memory.
    pub fn with_page<R>(&self, ppn: Ppn, look: impl FnOnce(&Page) -> R) -> R {
        // Not a page of a stretch that is being replaced: nothing may be mapped there at that moment.
        let _mapped = self.dma.read_recursive();
        look(self.region.page(ppn))
    }

    /// Pages by state, by the books.
    #[must_use]
    pub fn totals(&self) -> SpaceTotals {
        self.table.lock().totals()
    }

    /// How long fences were closed, in nanoseconds: the longest that a vCPU which wrote one of the
    /// pages at that moment was held.
    #[must_use]
    pub fn holds(&self) -> Histogram<u64> {
        self.holds.lock().clone()
    }

    /// To be held by a vCPU's thread while it is in guest mode, and no longer. Waits for a batch of
    /// sharing that found the guest outside.
    #[must_use]
    pub fn enter_guest(&self) -> InGuest<'_> {
        InGuest {
            _inside: self.guest.read(),
        }
    }

    /// The fewest pages whose sharing is worth a change of the mappings: the kernel tells every VM
    /// of the process of each, so with a thousand VMs a single page costs more than it gives.
    #[must_use]
    pub fn least_run(&self) -> u32 {
        /// VMs that can be told of a change for what one page is worth (some 50 us).
        const VMS_FOR_A_PAGE: u32 = 200;
        1 + self.common.notified() / VMS_FOR_A_PAGE
    }

    /// Waits until the fence that a vCPU has met is open again. The vCPU's thread calls this when
    /// `KVM_RUN` ends with `EFAULT`, then runs the vCPU again: the write has not happened yet.
    pub fn wait_for_fence(&self) {
        drop(self.dma.read());
    }

    /// Gives the VM's memory to Linux KSM (the baseline), or takes it back.
    ///
    /// # Errors
    /// What `madvise` says: a kernel without KSM answers `EINVAL`.
    pub fn set_mergeable(&self, mergeable: bool) -> io::Result<()> {
        self.region.set_mergeable(mergeable)
    }

    /// Takes the space out of the books; its memory stays until it is dropped.
    pub(crate) fn detach(&self) {
        let _no_device = self.dma.write();
        let mut released = Vec::new();
        let mut table = self.table.lock();
        if table.detached() {
            return;
        }
        table.detach(&mut released);
        let whole = PpnRun::new(Ppn(0), self.pages());
        self.forget_swapped(whole, false);
        let vmas = i64::try_from(table.totals().vmas).unwrap_or(0);
        drop(table);
        self.common.budget.change(-vmas);
        self.common.spaces.fetch_sub(1, Ordering::Relaxed);
        self.common.frames.release(&released);
    }

    pub(crate) fn pagemap(&self) -> &Pagemap {
        &self.common.pagemap
    }

    /// The monitor's own memory for the books of this VM, bytes.
    pub(crate) fn overhead_bytes(&self) -> u64 {
        u64::from(self.pages()) * 6 + self.swap.lock().bytes()
    }

    fn record_hold(&self, hold: Duration) {
        let nanoseconds = u64::try_from(hold.as_nanos()).unwrap_or(u64::MAX);
        self.holds.lock().saturating_record(nanoseconds);
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        self.detach();
    }
}

fn new_histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, 60_000_000_000, 2) {
        Ok(histogram) => histogram,
        Err(_) => unreachable!("the bounds are constants that the histogram accepts"),
    }
}
