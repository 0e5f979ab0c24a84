//! What a scanner is told: order, rates, which content mechanisms are on.

use std::time::Duration;

/// Which pages a scanner looks at next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Order {
    /// Pages that were written and have been left alone since, from the
    /// kernel's write tracking. Without tracking (Linux before 6.7) this is
    /// [`Order::Sequential`].
    #[default]
    DirtyAware,
    /// Every private page of every VM, by VM and page number (as Linux KSM).
    Sequential,
    /// Private pages at random (ESX 4.4).
    EsxRandom,
}

/// Settings of a scanner; [`Default`] is what an experiment gets that names
/// nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct ScannerConfig {
    /// Which pages come next.
    pub order: Order,
    /// Most pages hashed per second of wall time; no limit if `None`.
    pub pages_per_second: Option<u32>,
    /// Most CPU time per wall time, in percent of one core, hashing threads
    /// included; no limit if `None`.
    pub cpu_percent: Option<f64>,
    /// Most of busy guests' time that scanning may cost them, in percent: the scanner's own CPU time
    /// and the faults that it makes the guests take. Time in which cores are idle is free, and while
    /// at least half of it is, or guests use hardly any, there is no limit; `None`: there never is.
    pub burden: Option<f64>,
    /// Niceness of the scanning threads (0 to 19, as of nice(1)). At 15, scanning beside a busy vCPU
    /// gets about 3 % of a core, and all of it on an idle one.
    pub nice: u8,
    /// Pause between the end of a pass and the next.
    pub interval: Duration,
    /// Passes a page must stay unwritten before it is looked at (by content
    /// where there is no tracking; [`Order::EsxRandom`] knows no such wait).
    pub settle: u32,
    /// Remember pages seen once as hints (ESX 4.1). Without, every page seen
    /// gets a frame at once, shared or not, which costs a break when written.
    pub hints: bool,
    /// Look first, and without waiting for them to settle, at pages that a network has just copied from
    /// one guest to another ([`Order::EsxRandom`] knows no first).
    pub network_hints: bool,
    /// Give back zero pages. They are never shared as content: thousands of
    /// references to one frame can't be merged into runs.
    pub zero: bool,
    /// Share equal pages.
    pub content: bool,
    /// Hashing threads. With 1 the scanning thread hashes itself, and compares what is still in its
    /// cache: least CPU time. More of them shorten a pass over much new memory, for some 0.5 us of
    /// CPU time more per page merged.
    pub threads: usize,
    /// For the hash's secret and for [`Order::EsxRandom`].
    pub seed: u64,
}

impl Default for ScannerConfig {
    fn default() -> Self {
        Self {
            order: Order::DirtyAware,
            pages_per_second: None,
            cpu_percent: None,
            burden: Some(1.0),
            nice: 15,
            interval: Duration::from_secs(1),
            settle: 1,
            hints: true,
            network_hints: true,
            zero: true,
            content: true,
            threads: 1,
            seed: 0,
        }
    }
}
