//! Keeping the thread that closes fences on its core until they are open again.
//!
//! A fence is closed for some 30 us. If the scheduler takes the core away in the middle, a vCPU
//! that writes one of the fenced pages waits for milliseconds instead. So, where the process may
//! (root, `CAP_SYS_NICE`), the thread goes before all others while it shares. A real-time class
//! would do worse: the kernel throttles it when it is used much, in the middle of a fence.

use rustix::process::{getpriority_process, setpriority_process};
use std::marker::PhantomData;

/// The niceness that goes before all others.
const FIRST: i32 = -20;

/// While it lives, the calling thread is hardly ever preempted. Without the right to do that it does
/// nothing.
///
/// Hold one around a bounded burst of [`share`](crate::AddressSpace::share) and
/// [`release_zero`](crate::AddressSpace::release_zero): taking one costs about 1 us, so it pays for
/// a burst, and a scanner that held it all the time would take the guests' cores.
#[derive(Debug)]
pub struct Undisturbed {
    before: Option<i32>,
    /// The niceness is the calling thread's.
    not_send: PhantomData<*const ()>,
}

impl Undisturbed {
    /// Lets the calling thread go first.
    #[must_use]
    pub fn begin() -> Self {
        let before = match getpriority_process(None) {
            Ok(nice) if setpriority_process(None, FIRST).is_ok() => Some(nice),
            _ => None,
        };
        Self {
            before,
            not_send: PhantomData,
        }
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        if let Some(nice) = self.before {
            // Giving way again needs no right; if it fails the thread is faster, not wrong.
            let _ = setpriority_process(None, nice);
        }
    }
}
