//! What of write tracking this kernel has, tried in the way in which it is used.
//!
//! Exists so that a report on a host can't say anything else than what a pmap then finds: asking
//! again in another way would be a second opinion.

use super::{Pagemap, WriteTracking};
use std::io;

/// Whether guest writes can be tracked, and what the kernel says where they can't. Both parts are
/// needed; without them every written page has to be looked for.
#[derive(Debug)]
pub struct TrackingSupport {
    /// `PAGEMAP_SCAN` on `/proc/self/pagemap` (Linux 6.7).
    pub pagemap_scan: io::Result<()>,
    /// A userfaultfd with asynchronous write protection (Linux 6.7), with or without the right to
    /// handle the kernel's own faults.
    pub userfaultfd: io::Result<()>,
}

impl TrackingSupport {
    /// Tries both parts and changes nothing.
    #[must_use]
    pub fn probe() -> Self {
        Self {
            pagemap_scan: Pagemap::open().and_then(|pagemap| pagemap.try_scan()),
            userfaultfd: WriteTracking::open().map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pmap, PmapConfig};

    #[test]
    fn the_probe_says_what_a_pmap_finds() {
        let support = TrackingSupport::probe();
        let pmap = Pmap::new(&PmapConfig::default()).unwrap();
        let all = support.pagemap_scan.is_ok() && support.userfaultfd.is_ok();
        assert_eq!(pmap.tracking(), all, "{support:?}");
    }
}
