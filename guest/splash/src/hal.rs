//! What `virtio-drivers` needs to know of this machine: memory is identity-mapped, so an address
//! is an address, for the driver and for the device.

use crate::memory::Region;
use crate::shared::usize_of;
use core::mem::ManuallyDrop;
use core::ptr::{NonNull, with_exposed_provenance_mut};
use core::sync::atomic::Ordering;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

/// The guest's hardware layer for virtio drivers.
#[derive(Debug)]
pub struct SplashHal;

// SAFETY: the trait asks that memory for DMA is valid, page-aligned, zeroed and nobody else's until
// it is given back. `Region::new` takes whole pages out of the page manager, so no other region,
// heap block or cache slot has them; they are zeroed before the pointer leaves; and the region is
// forgotten, so nothing but `dma_dealloc` gives them back. A failed allocation answers address 0,
// which the driver takes as such without using the pointer. Addresses are the same on both sides
// because the boot page tables map all memory to itself.
unsafe impl Hal for SplashHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let Some(region) = Region::new(pages) else {
            return (0, NonNull::dangling());
        };
        for word in region.words() {
            word.store(0, Ordering::Relaxed);
        }
        let address = ManuallyDrop::new(region).address();
        let pointer = NonNull::new(with_exposed_provenance_mut(address));
        (address as u64, pointer.unwrap_or(NonNull::dangling()))
    }

    // SAFETY: the caller gives back what `dma_alloc` answered, once, with the same number of pages:
    // the very run that was taken from the page manager and forgotten there, which is mapped and
    // nobody's else until it is given back below.
    unsafe fn dma_dealloc(paddr: PhysAddr, _vaddr: NonNull<u8>, pages: usize) -> i32 {
        // What driver and device left there depends on which was faster; free pages shall not.
        let start: *mut u8 = with_exposed_provenance_mut(usize_of(paddr));
        // SAFETY: as above; whole pages from `paddr` on.
        unsafe { start.write_bytes(0, pages * mirrorball_abi::layout::PAGE_SIZE) };
        crate::memory::give(usize_of(paddr), pages);
        0
    }

    // SAFETY: only the PCI transport calls this, for addresses in a device's BAR; this guest has no
    // PCI. Memory is identity-mapped, so the answer would be the window itself; nothing is
    // dereferenced here.
    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        NonNull::new(with_exposed_provenance_mut(usize_of(paddr))).unwrap_or(NonNull::dangling())
    }

    // SAFETY: the device reaches all guest memory at the addresses that the driver uses, so sharing a
    // buffer moves and touches nothing. Exposing its provenance says to the compiler that the memory
    // is reached from elsewhere from now on.
    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr().expose_provenance() as u64
    }

    // SAFETY: `share` made no copy and no mapping, so there is nothing to copy back or undo.
    unsafe fn unshare(_paddr: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// The transport of the device with virtio id `id` that is the `index`th of its kind.
pub fn transport(id: u32, index: usize) -> Option<MmioTransport<'static>> {
    let device = crate::shared::device(id, index)?;
    let header: NonNull<VirtIOHeader> =
        NonNull::new(with_exposed_provenance_mut(usize_of(device.address)))?;
    // SAFETY: the control page lists only register windows of `MMIO_STRIDE` bytes that the monitor
    // emulates while the guest runs; they lie above all memory, mapped uncached, so no reference
    // points into one. Each has one driver, the caller's; only the hostile workload writes to the
    // registers past it, on purpose, and a guest that it confuses is confused alone.
    unsafe { MmioTransport::new(header, usize_of(mirrorball_abi::layout::MMIO_STRIDE)) }.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;
    use mirrorball_abi::layout::PAGE_SIZE;

    /// The words of some pages that a test has for itself.
    fn words(at: NonNull<u8>, pages: usize) -> &'static mut [u64] {
        // SAFETY: the pages were given to the calling test, which asks for them once at a time.
        unsafe { core::slice::from_raw_parts_mut(at.cast().as_ptr(), pages * PAGE_SIZE / 8) }
    }

    #[test]
    fn memory_for_dma_is_aligned_zeroed_and_exclusive_until_given_back() {
        fake::give_memory();
        let take = || SplashHal::dma_alloc(3, BufferDirection::Both);
        for _ in 0..4 {
            let (one, two) = (take(), take());
            for (physical, pointer) in [one, two] {
                assert_eq!(physical, pointer.as_ptr().addr() as u64);
                assert!(physical > 0 && physical.is_multiple_of(PAGE_SIZE as u64));
                // Pages that come back used must be zeroed again.
                assert!(words(pointer, 3).iter().all(|word| *word == 0));
                words(pointer, 3).fill(physical);
            }
            assert!(one.0.abs_diff(two.0) >= 3 * PAGE_SIZE as u64);
            for (physical, pointer) in [one, two] {
                assert!(words(pointer, 3).iter().all(|word| *word == physical));
                // SAFETY: taken above, given back once.
                assert_eq!(unsafe { SplashHal::dma_dealloc(physical, pointer, 3) }, 0);
            }
        }
    }

    #[test]
    fn more_than_there_is_answers_address_zero() {
        fake::give_memory();
        assert_eq!(SplashHal::dma_alloc(1 << 20, BufferDirection::Both).0, 0);
    }

    #[test]
    fn a_shared_buffer_is_where_it_is() {
        let mut buffer = [7_u8; 100];
        let range = NonNull::from(&mut buffer[10..20]);
        let direction = BufferDirection::DriverToDevice;
        // SAFETY: the buffer is this test's.
        let physical = unsafe { SplashHal::share(range, direction) };
        assert_eq!(physical, range.cast::<u8>().as_ptr().addr() as u64);
        // SAFETY: shared above.
        unsafe { SplashHal::unshare(physical, range, direction) };
        assert_eq!(buffer, [7; 100]);
    }

    #[test]
    fn a_device_that_the_control_page_does_not_list_has_no_transport() {
        assert!(transport(2, 0).is_none());
    }
}
