//! What a block device counts. Each device has its own; nothing is global.

use super::request::Operation;
use super::{Failure, Moved};
use hdrhistogram::Histogram;
use std::time::Duration;

/// One block device's statistics since its VM was made.
#[derive(Clone, Debug)]
pub struct BlockStats {
    /// Read requests.
    pub reads: u64,
    /// Write, write-zeroes and discard requests.
    pub writes: u64,
    /// Flush requests.
    pub flushes: u64,
    /// Guest pages served by mapping a block's frame, at once or when the copy had rested.
    pub mapped_pages: u64,
    /// Pages' worth of bytes copied into guest memory, those that were mapped in the end apart.
    pub copied_pages: u64,
    /// Reads of the base image's file.
    pub image_reads: u64,
    /// Requests that got an error status.
    pub errors: u64,
    /// What the last of these errors was.
    pub last_error: Option<String>,
    /// Nanoseconds from taking a request to its completion.
    pub latency: Histogram<u64>,
}

/// What a request counts as.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Read,
    Write,
    Flush,
    Other,
}

impl Kind {
    pub(super) fn of(operation: &Operation) -> Self {
        match operation {
            Operation::Read { .. } => Self::Read,
            Operation::Write { .. } | Operation::WriteZeroes { .. } | Operation::Discard { .. } => {
                Self::Write
            }
            Operation::Flush => Self::Flush,
            Operation::Identify { .. } | Operation::Refuse(_) => Self::Other,
        }
    }
}

impl BlockStats {
    pub(super) fn new() -> Self {
        Self {
            reads: 0,
            writes: 0,
            flushes: 0,
            mapped_pages: 0,
            copied_pages: 0,
            image_reads: 0,
            errors: 0,
            last_error: None,
            latency: latency(),
        }
    }

    pub(super) fn count(
        &mut self,
        kind: Kind,
        time: Duration,
        outcome: &Result<(Moved, u32), Failure>,
    ) {
        match kind {
            Kind::Read => self.reads += 1,
            Kind::Write => self.writes += 1,
            Kind::Flush => self.flushes += 1,
            Kind::Other => {}
        }
        match outcome {
            Ok((moved, _)) => {
                self.mapped_pages += moved.mapped_pages;
                self.copied_pages += moved.copied_pages;
                self.image_reads += moved.image_reads;
            }
            Err(failure) => {
                self.errors += 1;
                self.last_error = Some(failure.to_string());
            }
        }
        // `saturating_record` would cut every value to the histogram's first range of 2 ns.
        let nanoseconds = u64::try_from(time.min(LONGEST).as_nanos());
        let _ = self.latency.record(nanoseconds.unwrap_or(u64::MAX));
    }
}

/// Longer requests are counted as so long: the histogram stays small.
const LONGEST: Duration = Duration::from_secs(3600);

/// Two significant digits keep an idle guest's histogram small; it grows as it needs to.
#[allow(
    clippy::expect_used,
    reason = "2 is within the crate's range of 0 to 5 digits"
)]
fn latency() -> Histogram<u64> {
    Histogram::new(2).expect("2 significant digits are possible")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histogram_grows_to_the_latencies_it_is_given() {
        let mut stats = BlockStats::new();
        for time in [Duration::from_micros(40), Duration::from_secs(u64::MAX)] {
            stats.count(Kind::Flush, time, &Ok((Moved::default(), 0)));
        }
        let values = (stats.latency.min(), stats.latency.max());
        assert!((39_000..=41_000).contains(&values.0), "{values:?}");
        assert!(values.1 >= 3_600_000_000_000, "{values:?}");
    }
}
