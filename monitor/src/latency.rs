//! A histogram of durations that several threads record into.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Durations in nanoseconds, known to 1 %; small until something long is recorded.
#[derive(Debug, Default)]
pub(crate) struct Latency(Mutex<Option<Histogram<u64>>>);

impl Latency {
    pub(crate) fn record(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // A histogram that grows by itself has room for every number.
        let _ = self.0.lock().get_or_insert_with(empty).record(nanoseconds);
    }

    /// A copy of what was recorded so far.
    pub(crate) fn snapshot(&self) -> Histogram<u64> {
        self.0.lock().clone().unwrap_or_else(empty)
    }
}

fn empty() -> Histogram<u64> {
    #[allow(
        clippy::expect_used,
        reason = "2 significant digits are within the library's 0 to 5"
    )]
    let mut histogram = Histogram::new(2).expect("a valid precision");
    histogram.auto(true);
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_comes_back() {
        let latency = Latency::default();
        assert_eq!(latency.snapshot().len(), 0);
        for micros in [10, 20, 5_000_000] {
            latency.record(Duration::from_micros(micros));
        }
        let histogram = latency.snapshot();
        assert_eq!(histogram.len(), 3);
        assert!(histogram.max().abs_diff(5_000_000_000) < 50_000_000);
    }
}
