//! What a scanner has done and what it cost.

use mirrorball_pmap::{ShareOutcome, ZeroOutcome};
use std::ops::Sub;
use std::time::Duration;

/// Counters since the scanner was made (pages, unless said otherwise).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScannerStats {
    /// Passes ended (number).
    pub passes: u64,
    /// Passes that went to their end and put off none of what was written (number): the others took a
    /// portion of it, as much as busy guests can bear.
    pub whole_passes: u64,
    /// Pages taken up for a look.
    pub seen: u64,
    /// Pages among these that came first because a network had copied them.
    pub network_hints: u64,
    /// Pages read: zero check and hash.
    pub hashed: u64,
    /// Pages whose hash was that of a frame or a hint.
    pub matched: u64,
    /// Pages compared byte for byte with a frame under the fence.
    pub compared: u64,
    /// Pages that map a frame since.
    pub shared: u64,
    /// Zero pages given back.
    pub zero_released: u64,
    /// Hints that a hash led to and whose page held something else by then
    /// (ESX's false hints).
    pub false_hints: u64,
    /// Hints dropped because write tracking saw their page written.
    pub stale_hints: u64,
    /// Pages that changed between the hash and the fence.
    pub different: u64,
    /// Pages left as they were because mappings or frames were used up.
    pub refused: u64,
    /// Times a VM's writers were held (number).
    pub fences: u64,
    /// CPU time of the scanning and hashing threads, in seconds.
    pub cpu_seconds: f64,
    /// Memory of the content index and of what is kept per page, in bytes
    /// (a gauge, not a counter).
    pub index_bytes: u64,
}

impl ScannerStats {
    pub(super) fn count_share(&mut self, outcome: &ShareOutcome) {
        self.compared += outcome.shared + outcome.different;
        self.shared += outcome.shared;
        self.different += outcome.different;
        self.refused += outcome.refused;
        self.fences += outcome.fences;
    }

    pub(super) fn count_zero(&mut self, outcome: ZeroOutcome) {
        self.compared += outcome.released + outcome.different;
        self.zero_released += outcome.released;
        self.different += outcome.different;
        self.refused += outcome.refused;
    }
}

impl Sub for ScannerStats {
    type Output = Self;

    /// What was done between two readings; the gauge is the later one's.
    fn sub(self, earlier: Self) -> Self {
        Self {
            passes: self.passes - earlier.passes,
            whole_passes: self.whole_passes - earlier.whole_passes,
            seen: self.seen - earlier.seen,
            network_hints: self.network_hints - earlier.network_hints,
            hashed: self.hashed - earlier.hashed,
            matched: self.matched - earlier.matched,
            compared: self.compared - earlier.compared,
            shared: self.shared - earlier.shared,
            zero_released: self.zero_released - earlier.zero_released,
            false_hints: self.false_hints - earlier.false_hints,
            stale_hints: self.stale_hints - earlier.stale_hints,
            different: self.different - earlier.different,
            refused: self.refused - earlier.refused,
            fences: self.fences - earlier.fences,
            cpu_seconds: self.cpu_seconds - earlier.cpu_seconds,
            index_bytes: self.index_bytes,
        }
    }
}

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PassReport {
    /// The counters of this pass alone.
    pub work: ScannerStats,
    /// Wall time, waiting for the rate limits included.
    pub elapsed: Duration,
    /// False if the pass was stopped before all due pages were looked at.
    pub complete: bool,
}
