//! The CPU time the scanner costs, from the kernel's per-thread clocks.
//!
//! Wall time would charge the scanner for the guests it waited behind, so
//! budgets and reports are in CPU time.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// CPU time the calling thread has used (`CLOCK_THREAD_CPUTIME_ID`).
pub(crate) fn thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn work_counts_and_sleep_does_not() {
        let start = super::thread();
        while super::thread() == start {
            std::hint::spin_loop();
        }
        assert!(super::thread() > start);
    }
}
