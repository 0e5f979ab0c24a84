//! For tests on the host: memory for the page manager, and devices behind a transport that is only
//! data structures.
//!
//! The fake knows the queues as the virtio specification has them (1.2, clause 2.7), not as the
//! driver does: it follows the descriptors in memory, so that a driver which builds them wrongly
//! is found out. What a device does with a request is up to each test.

use crate::memory;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use core::sync::atomic::{AtomicU16, Ordering};
use mirrorball_abi::layout::PAGE_SIZE;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// VIRTIO_F_VERSION_1 and VIRTIO_F_INDIRECT_DESC (clause 6).
pub const VERSION_1: u64 = 1 << 32;
pub const INDIRECT_DESC: u64 = 1 << 28;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Bytes of the memory that all tests of a process share.
const MEMORY: usize = 8 << 20;

/// Gives the page manager memory of the host's.
pub fn give_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let memory: &'static mut [u64] = vec![0; MEMORY / 8].leak();
        let start = memory.as_mut_ptr().expose_provenance();
        memory::init(start.next_multiple_of(PAGE_SIZE), start + MEMORY);
    });
}

/// Where the driver has put a queue.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    size: u16,
    table: u64,
    avail: u64,
    used: u64,
    taken: u16,
}

#[derive(Debug)]
struct State {
    status: DeviceStatus,
    offered: u64,
    accepted: u64,
    config: Vec<u8>,
    largest_queue: u32,
    queues: [Queue; 2],
    notified: [u32; 2],
}

/// A device; clones are the same one.
#[derive(Clone, Debug)]
pub struct Fake {
    kind: DeviceType,
    state: Arc<Mutex<State>>,
}

/// A request as the device sees it.
#[derive(Clone, Debug)]
pub struct Chain {
    head: u16,
    /// The bytes for the device to read.
    pub readable: Vec<u8>,
    /// Addresses and lengths for the device to write.
    pub writable: Vec<(u64, usize)>,
}

fn load<T: FromBytes>(address: u64) -> T {
    // SAFETY: only called with addresses in queues and buffers that the driver under test keeps in
    // place until the request is complete, which it is not yet.
    unsafe { with_exposed_provenance::<T>(crate::shared::usize_of(address)).read_unaligned() }
}

/// The bytes of a page of a queue.
pub fn load_page(address: u64) -> Vec<u8> {
    (address..).take(PAGE_SIZE).map(load).collect()
}

fn index_at(address: u64) -> &'static AtomicU16 {
    // SAFETY: as for `load`; a ring's index is aligned and both sides know it as an atomic.
    unsafe {
        AtomicU16::from_ptr(with_exposed_provenance_mut(crate::shared::usize_of(
            address,
        )))
    }
}

/// Stores into memory that the driver has lent to the device.
pub fn store(address: u64, bytes: &[u8]) {
    let to: *mut u8 = with_exposed_provenance_mut(crate::shared::usize_of(address));
    // SAFETY: only called with places in rings and with writable buffers of requests not complete.
    unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

impl Fake {
    /// A device with queues of up to `largest_queue` descriptors.
    pub fn new(kind: DeviceType, offered: u64, config: &[u8], largest_queue: u32) -> Self {
        give_memory();
        Self {
            kind,
            state: Arc::new(Mutex::new(State {
                status: DeviceStatus::empty(),
                offered,
                accepted: 0,
                config: config.to_vec(),
                largest_queue,
                queues: [Queue::default(); 2],
                notified: [0; 2],
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the driver has set the device up to its end.
    pub fn is_live(&self) -> bool {
        self.state().status.contains(DeviceStatus::DRIVER_OK)
    }

    /// Features that the driver accepted.
    pub fn accepted(&self) -> u64 {
        self.state().accepted
    }

    /// Where a queue lies: its descriptors with what is offered, and what is given back.
    pub fn pages(&self, queue: usize) -> [u64; 2] {
        let queue = self.state().queues[queue];
        [queue.table, queue.used]
    }

    /// How often a queue's doorbell rang.
    pub fn notified(&self, queue: usize) -> u32 {
        self.state().notified[queue]
    }

    /// Takes the next request off a queue.
    pub fn take(&self, queue: usize) -> Option<Chain> {
        let mut state = self.state();
        let queue = &mut state.queues[queue];
        if queue.size == 0 || index_at(queue.avail + 2).load(Ordering::Acquire) == queue.taken {
            return None;
        }
        let slot = u64::from(queue.taken % queue.size);
        queue.taken = queue.taken.wrapping_add(1);
        Some(chain(queue, load(queue.avail + 4 + 2 * slot)))
    }

    /// Takes the next request, for which it waits.
    pub fn wait(&self, queue: usize) -> Chain {
        loop {
            if let Some(chain) = self.take(queue) {
                return chain;
            }
            std::thread::yield_now();
        }
    }

    /// Gives a request back, of which the device has written `written` bytes.
    pub fn finish(&self, queue: usize, chain: &Chain, written: usize) {
        let queue = self.state().queues[queue];
        let index = index_at(queue.used + 2);
        let next = index.load(Ordering::Relaxed);
        let entry = queue.used + 4 + 8 * u64::from(next % queue.size);
        store(entry, &u32::from(chain.head).to_le_bytes());
        let written = u32::try_from(written).unwrap();
        store(entry + 4, &written.to_le_bytes());
        index.store(next.wrapping_add(1), Ordering::Release);
    }
}

/// Follows a chain of descriptors from its head.
fn chain(queue: &Queue, head: u16) -> Chain {
    let mut found = Chain {
        head,
        readable: Vec::new(),
        writable: Vec::new(),
    };
    let (mut table, mut size, mut index) = (queue.table, u64::from(queue.size), head);
    for _ in 0..=queue.size {
        assert!(u64::from(index) < size, "descriptor {index} of {size}");
        let descriptor = table + 16 * u64::from(index);
        let (address, len): (u64, u32) = (load(descriptor), load(descriptor + 8));
        let (flags, next): (u16, u16) = (load(descriptor + 12), load(descriptor + 14));
        if flags & INDIRECT != 0 {
            assert_eq!(flags & NEXT, 0, "an indirect descriptor has no next");
            (table, size, index) = (address, u64::from(len) / 16, 0);
            continue;
        }
        if flags & WRITE == 0 {
            assert!(found.writable.is_empty(), "what is read comes first");
            found
                .readable
                .extend((0..u64::from(len)).map(|at| load::<u8>(address + at)));
        } else {
            found.writable.push((address, len as usize));
        }
        if flags & NEXT == 0 {
            return found;
        }
        index = next;
    }
    panic!("a chain with a loop");
}

impl Transport for Fake {
    fn device_type(&self) -> DeviceType {
        self.kind
    }

    fn read_device_features(&mut self) -> u64 {
        self.state().offered
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        self.state().accepted = driver_features;
    }

    fn max_queue_size(&mut self, _queue: u16) -> u32 {
        self.state().largest_queue
    }

    fn notify(&mut self, queue: u16) {
        self.state().notified[usize::from(queue)] += 1;
    }

    fn get_status(&self) -> DeviceStatus {
        self.state().status
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.state().status = status;
    }

    fn set_guest_page_size(&mut self, _guest_page_size: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.state().queues[usize::from(queue)] = Queue {
            size: u16::try_from(size).unwrap(),
            table: descriptors,
            avail: driver_area,
            used: device_area,
            taken: 0,
        };
    }

    fn queue_unset(&mut self, queue: u16) {
        self.state().queues[usize::from(queue)] = Queue::default();
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.state().queues[usize::from(queue)].size != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        0
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, Error> {
        let state = self.state();
        let field = state.config.get(offset..offset + size_of::<T>());
        T::read_from_bytes(field.ok_or(Error::ConfigSpaceTooSmall)?)
            .map_err(|_| Error::ConfigSpaceTooSmall)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        _offset: usize,
        _value: T,
    ) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
}
