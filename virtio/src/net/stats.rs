//! What a network device counts. Each device has its own; nothing is global.

use mirrorball_pmap::Origin;
use mirrorball_vnet::PortCounts;
use std::sync::atomic::{AtomicU64, Ordering};

/// One network device's statistics since its VM was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetStats {
    /// What went through its port.
    pub port: PortCounts,
    /// Pages sent as the frames that they named already: nothing was copied.
    pub named_pages: u64,
    /// Pages sent as a frame that was made of them before.
    pub twin_pages: u64,
    /// Pages sent as a frame that was made of them then.
    pub made_pages: u64,
    /// The sender's own pages that were mapped to such frames afterwards.
    pub shared_pages: u64,
    /// Received pages that were mapped.
    pub mapped_pages: u64,
    /// Bytes copied out of the sender, those of made frames apart.
    pub sent_copied: u64,
    /// Bytes copied into the receiver.
    pub received_copied: u64,
    /// Packets from the guest that can't be packets, and were dropped.
    pub malformed: u64,
    /// Packets for the guest that were larger than its buffers, and were dropped.
    pub unfit: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    named: AtomicU64,
    twin: AtomicU64,
    made: AtomicU64,
    pub(super) shared: AtomicU64,
    pub(super) mapped: AtomicU64,
    pub(super) sent_copied: AtomicU64,
    pub(super) received_copied: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) unfit: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn lent(&self, origin: Origin, pages: u32) {
        let counter = match origin {
            Origin::Named => &self.named,
            Origin::Twin => &self.twin,
            Origin::Copied => &self.made,
        };
        count(counter, pages.into());
    }

    pub(super) fn read(&self, port: PortCounts) -> NetStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NetStats {
            port,
            named_pages: read(&self.named),
            twin_pages: read(&self.twin),
            made_pages: read(&self.made),
            shared_pages: read(&self.shared),
            mapped_pages: read(&self.mapped),
            sent_copied: read(&self.sent_copied),
            received_copied: read(&self.received_copied),
            malformed: read(&self.malformed),
            unfit: read(&self.unfit),
        }
    }
}
