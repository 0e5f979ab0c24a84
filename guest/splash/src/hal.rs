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

// SAFETY: page runs are exclusive, aligned and zeroed here; addresses are the same on both sides.
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

    unsafe fn dma_dealloc(paddr: PhysAddr, _vaddr: NonNull<u8>, pages: usize) -> i32 {
        crate::memory::give(usize_of(paddr), pages);
        0
    }

    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        NonNull::new(with_exposed_provenance_mut(usize_of(paddr))).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr().expose_provenance() as u64
    }

    unsafe fn unshare(_paddr: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// The transport of the device with virtio id `id` that is the `index`th of its kind.
pub fn transport(id: u32, index: usize) -> Option<MmioTransport<'static>> {
    let device = crate::shared::device(id, index)?;
    let header: NonNull<VirtIOHeader> =
        NonNull::new(with_exposed_provenance_mut(usize_of(device.address)))?;
    // SAFETY: the control page lists only register windows that the monitor emulates, for ever.
    unsafe { MmioTransport::new(header, usize_of(mirrorball_abi::layout::MMIO_STRIDE)) }.ok()
}
