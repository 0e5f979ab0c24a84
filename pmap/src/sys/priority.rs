//! Keeping the thread that has closed a fence on its core until the fence is open again.
//!
//! A fence is closed for some 50 us. If the scheduler takes the core away in the middle, a vCPU
//! that writes one of the fenced pages waits for milliseconds instead. So, where the process may
//! (root, `CAP_SYS_NICE`), the thread is a real-time one for just that long.

use std::marker::PhantomData;

/// Pages whose fence is open again within some 10 us.
const FEW: u32 = 16;

/// While it lives, the calling thread is not preempted by ordinary threads. Without the right to do
/// that it does nothing.
#[derive(Debug)]
pub(crate) struct Undisturbed {
    before: Option<(libc::c_int, libc::sched_param)>,
    /// The scheduling class is the calling thread's.
    not_send: PhantomData<*const ()>,
}

impl Undisturbed {
    /// Makes the calling thread a real-time one for work on so many pages; not if it is one
    /// already, nor for a few pages: that work is over sooner than the change is made.
    pub(crate) fn begin(pages: u32) -> Self {
        let none = Self {
            before: None,
            not_send: PhantomData,
        };
        if pages < FEW {
            return none;
        }
        let mut parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: thread 0 is the caller; the structure is a live local.
        let class = unsafe { libc::sched_getscheduler(0) };
        if class != libc::SCHED_OTHER && class != libc::SCHED_BATCH && class != libc::SCHED_IDLE {
            return none;
        }
        parameters.sched_priority = 1;
        // SAFETY: as above.
        if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) } != 0 {
            return none;
        }
        let before = libc::sched_param { sched_priority: 0 };
        Self {
            before: Some((class, before)),
            ..none
        }
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        if let Some((class, parameters)) = &self.before {
            // SAFETY: thread 0 is the caller, which `begin` was called on too (the type can't be
            // sent); the structure is alive.
            unsafe { libc::sched_setscheduler(0, *class, &raw const *parameters) };
        }
    }
}
