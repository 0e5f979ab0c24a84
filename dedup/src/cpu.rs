//! The CPU time the scanner costs, from the kernel's per-thread clocks.
//!
//! Wall time would charge the scanner for the guests it waited behind, so
//! budgets and reports are in CPU time.

use rustix::process::{Pid, setpriority_process};
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

/// A thread of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thread(Option<Pid>);

impl Thread {
    /// The calling one.
    pub(crate) fn this() -> Self {
        Self(Pid::from_raw(
            rustix::thread::gettid().as_raw_nonzero().get(),
        ))
    }

    /// Makes it give way to the guests by that niceness. A guest that is held never waits for it: the
    /// pmap keeps the thread on its core while it holds anything that others need.
    pub(crate) fn give_way(self, nice: u8) {
        self.set_priority(i32::from(nice));
    }

    /// Makes it go before all others, where the process may do that.
    pub(crate) fn go_first(self) {
        const FIRST: i32 = -20;
        self.set_priority(FIRST);
    }

    fn set_priority(self, nice: i32) {
        if let Err(error) = setpriority_process(self.0, nice) {
            tracing::debug!(%error, nice, "the scanner keeps its priority");
        }
    }
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
