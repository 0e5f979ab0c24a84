//! Keeping the thread that has closed a fence on its core until the fence is open again.
//!
//! A fence is closed for some 50 us. If the scheduler takes the core away in the middle, a vCPU
//! that writes one of the fenced pages waits for milliseconds instead. So, where the process may
//! (root, `CAP_SYS_NICE`), the thread goes before all others for just that long. A real-time class
//! would do worse: the kernel throttles it when it is used much, in the middle of a fence.

use rustix::process::{getpriority_process, setpriority_process};
use std::marker::PhantomData;

/// Pages whose fence is open again within some 20 us.
const FEW: u32 = 32;

/// The niceness that goes before all others.
const FIRST: i32 = -20;

/// While it lives, the calling thread is hardly ever preempted. Without the right to do that it does
/// nothing.
#[derive(Debug)]
pub(crate) struct Undisturbed {
    before: Option<i32>,
    /// The niceness is the calling thread's.
    not_send: PhantomData<*const ()>,
}

impl Undisturbed {
    /// Lets the calling thread go first for work on so many pages; not for a few pages: that work
    /// is over sooner than the change is made.
    pub(crate) fn begin(pages: u32) -> Self {
        let before = match getpriority_process(None) {
            Ok(nice) if pages >= FEW && setpriority_process(None, FIRST).is_ok() => Some(nice),
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
