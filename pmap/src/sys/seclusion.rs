//! Addresses that the kernel gives to nobody by itself.
//!
//! Asked for memory without an address, Linux on `x86_64` takes the highest gap below the stack that is
//! large enough (`arch_get_unmapped_area_topdown`), or the lowest one above a third of the address
//! space where the stack has no limit (`TASK_UNMAPPED_BASE`). Between the program's heap and that third
//! it never comes as long as some gap above is large enough, and there are 85 TiB. What is unmapped for a moment there
//! stays unmapped: no other thread's stack or heap turns up in it.

use std::{
    ffi::c_void,
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Where the addresses begin: 32 TiB, above the shadow memory of `AddressSanitizer`.
const START: usize = 32 << 40;
/// Where they end: below a third of 128 TiB.
const END: usize = 42 << 40;

/// The first address that was not given out yet. None is given out twice, for what was freed may be the
/// moment's gap in a region that came after.
static NEXT: AtomicUsize = AtomicUsize::new(START);

/// The next `bytes` of them; `None` when all have been given out (10 TiB in a process's life).
pub(super) fn next(bytes: usize) -> Option<*mut c_void> {
    let taken = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
        next.checked_add(bytes).filter(|end| *end <= END)
    });
    taken.ok().map(ptr::without_provenance_mut)
}

#[cfg(test)]
mod tests {
    use super::super::{Region, bytes_of};
    use crate::types::{Ppn, PpnRun};
    use rustix::mm::{self, MapFlags, ProtFlags};
    use std::ptr;

    #[test]
    fn what_is_unmapped_in_a_region_stays_free() {
        let region = Region::reserve(1024).unwrap();
        assert!(region.is_secluded());
        let hole = PpnRun::new(Ppn(256), 256);
        let start = region.address() + hole.start.address();
        // SAFETY: inside the region, which nobody else uses.
        unsafe { mm::munmap(region.at(hole), bytes_of(hole.pages)).unwrap() };
        for pages in [1, 16, 255, 256].repeat(100) {
            // SAFETY: a new mapping at an address of the kernel's choice.
            let other = unsafe {
                let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
                mm::mmap_anonymous(ptr::null_mut(), bytes_of(pages), ProtFlags::READ, flags)
            };
            let other = other.unwrap() as u64;
            let end = other + bytes_of(pages) as u64;
            assert!(end <= start || other >= start + bytes_of(hole.pages) as u64);
        }
    }

    #[test]
    fn regions_have_addresses_of_their_own() {
        let (one, other) = (Region::reserve(16).unwrap(), Region::reserve(16).unwrap());
        let end = one.address() + bytes_of(one.pages()) as u64;
        assert!(end <= other.address() || other.address() < one.address());
    }
}
