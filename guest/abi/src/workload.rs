//! Workloads and their parameters.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which workload to run; the value of [`Workload::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum WorkloadKind {
    /// Do nothing until the stop flag is set.
    Idle = 0,
    /// Disco's parallel make: read a source tree, tokenise and compress, write objects.
    Pmake = 1,
    /// Database-like: aggregate over a table file, several passes.
    Scan = 2,
    /// A parallel radix sort over all vCPUs, its result checked.
    Splash = 3,
    /// The ESX "toucher": a working set that changes over time.
    Touch = 4,
    /// Integrity: seeded patterns, disk blocks, overwrites, from all vCPUs.
    Torture = 5,
    /// Malformed queues and wild register writes.
    Hostile = 6,
    /// Micro-measurements of page faults, for `bench`.
    Probe = 7,
    /// Serves the files of its disk to other guests, by whole pages.
    FileServer = 8,
    /// Reads a server's files into a buffer cache of its own and verifies every byte.
    FileClient = 9,
    /// Integrity over the network: messages of any length between guests, written to on both sides.
    Exchange = 10,
    /// A stream of messages from one guest to another, for throughput.
    Stream = 11,
    /// TCP's echo service, either end of it, and answers to pings.
    Echo = 12,
}

impl WorkloadKind {
    /// The kind of a raw value; `None` for values that name none.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::Idle,
            1 => Self::Pmake,
            2 => Self::Scan,
            3 => Self::Splash,
            4 => Self::Touch,
            5 => Self::Torture,
            6 => Self::Hostile,
            7 => Self::Probe,
            8 => Self::FileServer,
            9 => Self::FileClient,
            10 => Self::Exchange,
            11 => Self::Stream,
            12 => Self::Echo,
            _ => return None,
        })
    }
}

/// Value of [`crate::Status::outcome`]: all that was checked held.
pub const OUTCOME_GOOD: u32 = 0;
/// Value of [`crate::Status::outcome`]: at least one page or result was wrong; the message describes the first.
pub const OUTCOME_MISMATCH: u32 = 1;
/// Value of [`crate::Status::outcome`]: the workload could not go on (no disk, no memory); the message says why.
pub const OUTCOME_FAILED: u32 = 2;
/// Value of [`crate::Status::outcome`]: the command names no workload that this guest knows.
pub const OUTCOME_UNKNOWN: u32 = 3;

/// One command to the guest.
///
/// `params` is by workload; a 0 means the workload's default:
///
/// | kind | params (default) |
/// |---|---|
/// | `Pmake` | 0 jobs: threads (two for each vCPU), 1 passes (1), 2 most files (all), 3 pause between files in microseconds (none), 4 where the sources are: 1 the disk, 2 the network (the disk) |
/// | `Scan` | 0 passes (3), 1 most bytes of the table (all) |
/// | `Splash` | 0 keys, u32 each (2^20, or what fits), 1 passes (1) |
/// | `Touch` | 0 pages of the working set (1024; more than fit are refused), 1 period in ms (1000), 2 percent of pages moved each period (10), 3 percent of touches that write (50), 4 percent zero (0), 5 percent equal in all guests of one seed (0), 6 duration in ms (until stopped) |
/// | `Torture` | 0 pages to verify in all (100,000), 1 pages of the anonymous region (a quarter of what is free), 2 blocks of disk in play (256), 3 percent of rewrites whose content is equal in all guests of one seed (50) |
/// | `Hostile` | 0 attacks to make (200), 1 which, from 1 (all in turn), 2 only devices of this virtio id (network, block and console) |
/// | `FileServer` | 0 clients to wait for (1), 1 most bytes of files to serve (all), 2 which of them: 1 all, 2 all but the table of `Scan` (all) |
/// | `FileClient` | 0 passes (2), 1 most bytes of files to read (all), 2 requests under way at a time (8) |
/// | `Exchange` | 0 pages to verify in all (100,000), 1 guests in all (2), 2 most bytes of a message (2^20), 3 percent of messages from memory that was not written before (50) |
/// | `Stream` | 0 role: 1 sends, 2 receives (1), 1 bytes in all (2^30), 2 pages of a message (16), 3 percent of pages written before each message (0) |
/// | `Echo` | 0 role: 1 answers, 2 asks (1), 1 connections until an answering end is done (1), 2 which guest is asked, by the last two bytes of its Ethernet address (1), 3 bytes to send (2^20) |
/// | `Probe` | 0 pages (1024), 1 step: 0 fill, 1 overwrite, 2 read all pages before the first write: 1 yes (no) |
///
/// `Probe` is given as two commands. The fill step takes the pages, which nobody has touched since
/// the guest started if it is the guest's first command, and records the ticks of the first write
/// to each in [`crate::Status::write_ticks`]; each page then holds content equal in all guests of
/// the seed. After the monitor has shared them, the overwrite step (same seed and pages) writes one
/// word in each page, records the ticks of that write in the same way, and verifies every byte.
/// With parameter 2 a step reads one word of every page before it writes the first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Workload {
    /// A [`WorkloadKind`] as a number.
    pub kind: u32,
    /// Buffer cache limit in percent of the guest's memory (0: default, 50).
    pub cache_percent: u32,
    /// All randomness of the workload comes from this seed and, where guests shall differ, the VM's number.
    pub seed: u64,
    /// Parameters by workload, see above.
    pub params: [u64; 16],
}
