//! The pmap: all address spaces of a machine over one frame store.

use crate::{
    budget::VmaBudget,
    error::PmapError,
    frames::FrameStore,
    space::{AddressSpace, Common},
    sys::{Pagemap, WriteTracking},
    types::{GroupId, PAGE_BYTES, VmId},
};
use parking_lot::RwLock;
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, OnceLock, atomic::AtomicU32},
    time::Duration,
};

/// How a pmap is made.
#[derive(Clone, Debug)]
pub struct PmapConfig {
    /// Size to which the frame store can grow, bytes; address space, not memory.
    pub frame_capacity: u64,
    /// Memory mappings (VMAs) that guest memory may consist of; `None`: what `vm.max_map_count` leaves.
    pub vma_budget: Option<usize>,
    /// Track guest writes where the kernel can (Linux 6.7 and the right to use userfaultfd).
    pub tracking: bool,
    /// What a guest's fault at a page that was protected or replaced costs the guest. `None` if nobody
    /// has measured it on this host: that of a usual processor is taken then.
    pub guest_fault: Option<Duration>,
}

/// A guest's fault on a processor that runs guests itself: it leaves the guest, finds the page, and
/// comes back with no translation left.
const GUEST_FAULT: Duration = Duration::from_micros(2);

impl Default for PmapConfig {
    fn default() -> Self {
        Self {
            frame_capacity: 64 << 30,
            vma_budget: None,
            tracking: true,
            guest_fault: None,
        }
    }
}

/// The central map from every VM's guest-physical pages to machine pages.
///
/// The list of spaces has a lock of its own, held for look-ups only; each space has its own locks
/// (see `space`), the frame store one more that is always taken last.
#[derive(Debug)]
pub struct Pmap {
    pub(crate) common: Arc<Common>,
    spaces: RwLock<BTreeMap<VmId, Arc<AddressSpace>>>,
}

impl Pmap {
    /// An empty pmap.
    ///
    /// # Errors
    /// The frame store or the page map can't be opened. Missing write tracking is no error:
    /// [`Self::tracking`] tells.
    pub fn new(config: &PmapConfig) -> Result<Arc<Self>, PmapError> {
        let frames = FrameStore::new(config.frame_capacity)?;
        let pagemap = Pagemap::open().map_err(|source| PmapError::FrameStore {
            action: "open /proc/self/pagemap",
            source,
        })?;
        let tracking = if config.tracking && pagemap.can_scan() {
            WriteTracking::open()
                .map_err(|error| tracing::info!(%error, "guest writes can't be tracked"))
                .ok()
        } else {
            None
        };
        let budget = VmaBudget::new(config.vma_budget);
        let common = Arc::new(Common {
            frames,
            pagemap,
            tracking,
            budget,
            spaces: AtomicU32::new(0),
            swap: OnceLock::new(),
            guest_fault: config.guest_fault.unwrap_or(GUEST_FAULT),
        });
        Ok(Arc::new(Self {
            common,
            spaces: RwLock::default(),
        }))
    }

    /// What a guest's fault at a page that was protected or replaced is taken to cost the guest.
    #[must_use]
    pub fn guest_fault(&self) -> Duration {
        self.common.guest_fault
    }

    /// Makes the memory of a VM: demand-zero, in one sharing group.
    ///
    /// # Errors
    /// A size that can't be, a VM that has one already, or the kernel's refusal.
    pub fn create_space(
        &self,
        vm: VmId,
        group: GroupId,
        bytes: u64,
    ) -> Result<Arc<AddressSpace>, PmapError> {
        if self.space(vm).is_some() {
            return Err(PmapError::Exists { vm });
        }
        let space = Arc::new(AddressSpace::new(
            Arc::clone(&self.common),
            vm,
            group,
            bytes,
        )?);
        self.spaces.write().insert(vm, Arc::clone(&space));
        Ok(space)
    }

    /// Takes a VM's memory out of the pmap: its references end at once, its memory is unmapped when
    /// the last handle on the space is dropped. The VM's vCPUs have been stopped.
    pub fn remove_space(&self, vm: VmId) {
        let removed = self.spaces.write().remove(&vm);
        if let Some(space) = removed {
            space.detach();
        }
    }

    /// All spaces, by VM number.
    #[must_use]
    pub fn spaces(&self) -> Vec<Arc<AddressSpace>> {
        self.spaces.read().values().cloned().collect()
    }

    /// The space of one VM.
    #[must_use]
    pub fn space(&self, vm: VmId) -> Option<Arc<AddressSpace>> {
        self.spaces.read().get(&vm).cloned()
    }

    /// The space that a host address is in.
    pub(crate) fn space_at(&self, address: u64) -> Option<Arc<AddressSpace>> {
        let spaces = self.spaces.read();
        let mut found = spaces
            .values()
            .filter(|space| space.contains_address(address));
        found.next().cloned()
    }

    /// Shows zeros to who waits for a page of nobody's.
    pub(crate) fn show_zeros(&self, address: u64) {
        if let Some(tracking) = &self.common.tracking {
            if let Err(error) = tracking.give_zeros(address, PAGE_BYTES) {
                tracing::trace!(%error, address, "nothing to show");
            }
            tracking.wake(address);
        }
    }

    /// The frame store.
    #[must_use]
    pub fn frames(&self) -> &FrameStore {
        &self.common.frames
    }

    /// True when guest writes are tracked, so that a scan costs by what was written.
    #[must_use]
    pub fn tracking(&self) -> bool {
        self.common.tracking.is_some()
    }

    /// Settles every space.
    pub fn settle_all(&self) {
        for space in self.spaces() {
            space.settle();
        }
    }

    /// Bytes of machine memory resident in the frame store, as the kernel counts them.
    pub(crate) fn resident_frames(&self) -> io::Result<u64> {
        self.common.frames.resident_bytes()
    }
}
