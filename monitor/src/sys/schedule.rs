//! How the host's scheduler treats one thread (`sched(7)`).

use std::io;

/// Makes the calling thread one that works through batches: when it becomes ready, it does not take
/// the processor from a thread that runs, but waits for an idle one or its turn.
pub(crate) fn work_in_batches() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and `parameters` lives through the call.
    let outcome = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_give_way_without_a_privilege() {
        let policy = || {
            // SAFETY: 0 is the calling thread.
            unsafe { libc::sched_getscheduler(0) }
        };
        let (before, after) = std::thread::spawn(move || {
            let before = policy();
            work_in_batches().unwrap();
            (before, policy())
        })
        .join()
        .unwrap();
        assert_eq!((before, after), (libc::SCHED_OTHER, libc::SCHED_BATCH));
        assert_eq!(
            policy(),
            libc::SCHED_OTHER,
            "other threads stay as they were"
        );
    }
}
