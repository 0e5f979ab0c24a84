//! The control and status pages as the guest sees them.
//!
//! Both sides may touch these pages at any moment, so nothing here hands out references to plain
//! integers: the control page is read volatile, the status counters are atomics.

use core::mem::offset_of;
use core::ptr::{self, with_exposed_provenance, with_exposed_provenance_mut};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use mirrorball_abi::{
    Control, Device, MAX_DEVICES, MAX_MESSAGE, MAX_VCPUS, Phase, SampleBuckets, Status, Workload,
    layout,
};

/// A byte address as a pointer-sized number.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the guest is 64-bit: usize holds every u64"
)]
pub const fn usize_of(value: u64) -> usize {
    value as usize
}

/// Where a page of the interface lies: in a guest, at its address.
#[cfg(not(test))]
fn interface(address: u64) -> usize {
    usize_of(address)
}

/// Where a page of the interface lies: in tests on the host, in memory that starts with zeros.
#[cfg(test)]
fn interface(address: u64) -> usize {
    const BYTES: usize = usize_of(layout::STATUS - layout::CONTROL) + layout::STATUS_SIZE;
    static PAGES: [AtomicU64; BYTES / 8] = [const { AtomicU64::new(0) }; BYTES / 8];
    PAGES.as_ptr().expose_provenance() + usize_of(address - layout::CONTROL)
}

fn control() -> *const Control {
    with_exposed_provenance(interface(layout::CONTROL))
}

macro_rules! read_control {
    ($field:ident) => {
        // SAFETY: the control page is mapped and initialised before the guest starts; a volatile
        // read of an aligned integer sees either its old or its new value.
        unsafe { ptr::read_volatile(&raw const (*control()).$field) }
    };
}

/// The monitor's magic number; anything but [`mirrorball_abi::MAGIC`] means another interface.
pub fn magic() -> u64 {
    read_control!(magic)
}

/// First byte of the guest's own memory.
pub fn free_start() -> usize {
    usize_of(read_control!(free_start))
}

/// Guest-physical memory in bytes.
pub fn memory() -> usize {
    usize_of(read_control!(memory))
}

/// Time stamp counter ticks per millisecond.
pub fn ticks_per_ms() -> u64 {
    read_control!(tsc_khz).max(1)
}

/// This VM's number.
pub fn vm() -> u32 {
    read_control!(vm)
}

/// Number of vCPUs.
pub fn vcpus() -> usize {
    usize_of(u64::from(read_control!(vcpus))).clamp(1, MAX_VCPUS)
}

/// The `index`th device with this virtio device id.
pub fn device(id: u32, index: usize) -> Option<Device> {
    let count = usize_of(u64::from(read_control!(device_count))).min(MAX_DEVICES);
    let devices = read_control!(devices);
    devices
        .into_iter()
        .take(count)
        .filter(|device| device.device_id == id)
        .nth(index)
}

/// Number of the newest command; 0 when none was given yet.
pub fn command() -> u64 {
    read_control!(command)
}

/// True when the running workload shall end early.
pub fn stop_requested() -> bool {
    read_control!(stop) != 0
}

/// The newest command.
pub fn workload() -> Workload {
    read_control!(workload)
}

/// One 64-bit counter of the status page.
#[derive(Clone, Copy, Debug)]
pub struct Counter(usize);

/// Pages whose every byte was compared.
pub const VERIFIED_PAGES: Counter = Counter(offset_of!(Status, verified_pages));
/// Pages with a wrong byte.
pub const MISMATCHES: Counter = Counter(offset_of!(Status, mismatches));
/// Units of work.
pub const OPERATIONS: Counter = Counter(offset_of!(Status, operations));
/// Bytes worked on.
pub const BYTES: Counter = Counter(offset_of!(Status, bytes));
/// The workload's result.
pub const CHECKSUM: Counter = Counter(offset_of!(Status, checksum));
/// Duration of the workload.
pub const TICKS: Counter = Counter(offset_of!(Status, ticks));
/// Pages in the buffer cache.
pub const CACHE_PAGES: Counter = Counter(offset_of!(Status, cache_pages));
/// Pages given out by the anonymous-memory manager.
pub const ANONYMOUS_PAGES: Counter = Counter(offset_of!(Status, anonymous_pages));
/// Pages in active use.
pub const ACTIVE_PAGES: Counter = Counter(offset_of!(Status, active_pages));
/// Blocks read from disks.
pub const BLOCKS_READ: Counter = Counter(offset_of!(Status, blocks_read));
/// Blocks written to disks.
pub const BLOCKS_WRITTEN: Counter = Counter(offset_of!(Status, blocks_written));
/// Buffer cache hits.
pub const CACHE_HITS: Counter = Counter(offset_of!(Status, cache_hits));
/// Where the buffer cache's memory begins.
pub const CACHE_START: Counter = Counter(offset_of!(Status, cache_start));
const COMMAND: Counter = Counter(offset_of!(Status, command));
const MESSAGE_LENGTH: Counter = Counter(offset_of!(Status, message_length));

fn status_at<T>(offset: usize) -> *mut T {
    with_exposed_provenance_mut(interface(layout::STATUS) + offset)
}

impl Counter {
    fn cell(self) -> &'static AtomicU64 {
        // SAFETY: the offset is that of an aligned u64 field of the status page, which is mapped
        // for the guest's whole life and accessed through atomics only.
        unsafe { AtomicU64::from_ptr(status_at(self.0)) }
    }

    /// Adds to the counter; its value before.
    pub fn increase(self, value: u64) -> u64 {
        self.cell().fetch_add(value, Ordering::Relaxed)
    }

    /// Replaces the counter.
    pub fn set(self, value: u64) {
        self.cell().store(value, Ordering::Relaxed);
    }

    /// The counter's value.
    pub fn get(self) -> u64 {
        self.cell().load(Ordering::Relaxed)
    }
}

fn small(offset: usize) -> &'static AtomicU32 {
    // SAFETY: as in `Counter::cell`, for the aligned u32 fields.
    unsafe { AtomicU32::from_ptr(status_at(offset)) }
}

/// Publishes a new phase. Everything written to the status page before is visible with it.
pub fn set_phase(phase: Phase) {
    small(offset_of!(Status, phase)).store(phase as u32, Ordering::Release);
}

/// Sets how the command ended: 0 when all held.
pub fn set_outcome(outcome: u32) {
    small(offset_of!(Status, outcome)).store(outcome, Ordering::Relaxed);
}

/// Resets the counters of the last command and names the new one.
pub fn begin_command(number: u64) {
    for counter in [
        VERIFIED_PAGES,
        MISMATCHES,
        OPERATIONS,
        BYTES,
        CHECKSUM,
        TICKS,
        ACTIVE_PAGES,
        BLOCKS_READ,
        BLOCKS_WRITTEN,
        CACHE_HITS,
        MESSAGE_LENGTH,
    ] {
        counter.set(0);
    }
    set_outcome(0);
    for histogram in [
        offset_of!(Status, write_ticks),
        offset_of!(Status, touch_nanoseconds),
    ] {
        // SAFETY: a histogram is plain memory that only one thread of the guest writes at a time.
        unsafe { ptr::write_volatile(status_at(histogram), SampleBuckets::EMPTY) };
    }
    COMMAND.cell().store(number, Ordering::Release);
}

/// Adds one sample to the histogram of first-write costs. Only one thread may sample at a time.
pub fn record_write_ticks(value: u64) {
    record(offset_of!(Status, write_ticks), value);
}

/// Adds one sample to the histogram of touches. Only one thread may sample at a time.
pub fn record_touch_nanoseconds(value: u64) {
    record(offset_of!(Status, touch_nanoseconds), value);
}

fn record(histogram: usize, value: u64) {
    let buckets: *mut SampleBuckets = status_at(histogram);
    // SAFETY: the page is mapped, the field aligned, and the caller is its only writer.
    unsafe { (*buckets).record(value) };
}

/// A `fmt::Write` that fills the status page's message; what does not fit is cut.
#[derive(Debug, Default)]
pub struct Message {
    length: usize,
}

impl Message {
    /// Publishes the message's length.
    pub fn finish(self) {
        MESSAGE_LENGTH.set(self.length as u64);
    }
}

impl core::fmt::Write for Message {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = MAX_MESSAGE - self.length;
        let mut take = text.len().min(room);
        while !text.is_char_boundary(take) {
            take -= 1;
        }
        let to: *mut u8 = status_at(offset_of!(Status, message) + self.length);
        // SAFETY: `take` bytes fit into the message field, and `text` can't overlap it.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), to, take) };
        self.length += take;
        Ok(())
    }
}
