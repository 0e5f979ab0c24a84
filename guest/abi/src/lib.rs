//! What the thin guest and the monitor say to each other: one definition, used by both sides.
//!
//! The guest runs at CPL 3 in long mode with identity-mapped memory (Disco's SPLASHOS ran the
//! same way, without a virtual memory system of its own). It talks to the monitor in three ways:
//!
//! * two pages of plain memory: [`Control`] (monitor to guest) and [`Status`] (guest to monitor),
//!   which either side may read at any moment without an exit;
//! * port writes ([`port`]), each one exit: waiting, waking another vCPU, ending, panicking;
//! * virtio-mmio devices in the window at [`layout::MMIO_BASE`], listed in [`Control::devices`].
//!
//! All integers are little-endian; every structure is `repr(C)` without padding.
#![no_std]

pub mod layout;
pub mod port;
mod samples;
mod workload;

pub use samples::{SampleBuckets, bucket_of, bucket_value};
pub use workload::*;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of [`Control::magic`]: "MIRRORB1" as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"MIRRORB1");

/// Most virtual CPUs that a thin guest can have.
pub const MAX_VCPUS: usize = 16;

/// Most virtio-mmio devices that a thin guest can have.
pub const MAX_DEVICES: usize = 8;

/// Longest panic message, in bytes of UTF-8.
pub const MAX_MESSAGE: usize = 512;

/// Where one virtio-mmio device is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Device {
    /// Guest-physical address of its register window ([`layout::MMIO_STRIDE`] bytes).
    pub address: u64,
    /// virtio device id (virtio 1.2, clause 5): 1 network, 2 block, 3 console.
    pub device_id: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

/// The page at [`layout::CONTROL`]: written by the monitor, read by the guest.
///
/// Everything but the last three fields is constant from the start of the guest. A new command is
/// given by writing [`Control::workload`], then incrementing [`Control::command`], then waking vCPU 0.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Control {
    /// [`MAGIC`].
    pub magic: u64,
    /// Guest-physical memory in bytes, from address 0.
    pub memory: u64,
    /// First byte after the boot image and the boot stacks: from here to `memory` the guest's own.
    pub free_start: u64,
    /// Time stamp counter frequency in kHz.
    pub tsc_khz: u64,
    /// This VM's number, for messages and as part of seeds.
    pub vm: u32,
    /// Number of vCPUs (at most [`MAX_VCPUS`]); all start at the image's entry point at once.
    pub vcpus: u32,
    /// Number of valid entries in `devices`.
    pub device_count: u32,
    /// Reserved, zero.
    pub reserved: u32,
    /// The devices, disks in the order of the experiment file.
    pub devices: [Device; MAX_DEVICES],
    /// Incremented by the monitor for each new command; 0 at start (no command yet).
    pub command: u64,
    /// Not 0 when the running workload shall end early (its result counts as complete so far).
    pub stop: u64,
    /// The command: what to run now.
    pub workload: Workload,
}

/// What the guest is doing; the value of [`Status::phase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Phase {
    /// Not yet started.
    Off = 0,
    /// Booting: heap, devices, threads.
    Booting = 1,
    /// Up, waiting for a command.
    Ready = 2,
    /// Running the workload of [`Status::command`].
    Running = 3,
    /// The workload of [`Status::command`] is done; [`Status::outcome`] says how.
    Done = 4,
}

impl Phase {
    /// The phase of a raw value; unknown values (a hostile guest) are `None`.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::Off,
            1 => Self::Booting,
            2 => Self::Ready,
            3 => Self::Running,
            4 => Self::Done,
            _ => return None,
        })
    }
}

/// The pages at [`layout::STATUS`]: written by the guest, read by the monitor at any time.
///
/// Counters are running totals of the current command, reset when a new one starts.
/// The monitor trusts nothing here: a value may be wrong, but never leads outside the page.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Status {
    /// A [`Phase`] as a number.
    pub phase: u32,
    /// 0 when the command did all it should and every check held, else an error number.
    pub outcome: u32,
    /// Number of the command that `phase` speaks of.
    pub command: u64,
    /// Pages whose every byte was compared with what it should be.
    pub verified_pages: u64,
    /// Pages that held a byte they should not.
    pub mismatches: u64,
    /// Units of work done (files, rows, keys, touches: by workload).
    pub operations: u64,
    /// Bytes worked on.
    pub bytes: u64,
    /// Result of the workload's own computation, equal for equal input and seed.
    pub checksum: u64,
    /// Time stamp counter ticks that the workload took, from command to done (or so far).
    pub ticks: u64,
    /// Pages of the buffer cache that hold a disk block.
    pub cache_pages: u64,
    /// Pages given out by the anonymous-memory manager.
    pub anonymous_pages: u64,
    /// Pages the workload has in active use (`touch`: the truth for estimates).
    pub active_pages: u64,
    /// Blocks read from the disk (cache misses), 4 KiB each.
    pub blocks_read: u64,
    /// Blocks written to the disk, 4 KiB each.
    pub blocks_written: u64,
    /// Cache look-ups that found their block.
    pub cache_hits: u64,
    /// Lowest guest-physical address that the buffer cache has had since the guest's start, packets
    /// on their way into it included; all memory from there on is its. 0 if it never had any.
    pub cache_start: u64,
    /// Ticks of first writes to pages: shared (break) or not.
    pub write_ticks: SampleBuckets,
    /// Nanoseconds that single touches took (`touch`), waits of the whole guest included.
    pub touch_nanoseconds: SampleBuckets,
    /// Length of `message` in bytes.
    pub message_length: u64,
    /// Reason of failure, UTF-8. After a panic the first line is the place, `file:line:column`, and
    /// the message follows.
    pub message: [u8; MAX_MESSAGE],
}

const _: () = assert!(size_of::<Control>() <= layout::CONTROL_SIZE - layout::TASK_STATE_SIZE);
const _: () = assert!(size_of::<Status>() <= layout::STATUS_SIZE);
