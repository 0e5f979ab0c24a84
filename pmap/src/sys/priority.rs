//! Threads that go before others.
//!
//! # Fences
//! The thread that closes fences is kept on its core until they are open again.
//!
//! A fence is closed for some 30 us. If the scheduler takes the core away in the middle, a vCPU
//! that writes one of the fenced pages waits for milliseconds instead. So, where the process may
//! (root, `CAP_SYS_NICE`), the thread goes before all others while it shares. A real-time class
//! would do worse: the kernel throttles it when it is used much, in the middle of a fence.
//!
//! # Alarms
//! Who watches over memory works for some microseconds at a time, and must not be late: even the first
//! of all threads waits for the rest of another's slice, milliseconds, in which guests take what is not
//! there. A real-time class is for that.

use rustix::process::{getpriority_process, setpriority_process};
use std::marker::PhantomData;

/// The niceness that goes before all others.
const FIRST: i32 = -20;
/// The lowest real-time priority: before all that are none.
const LOWEST: libc::c_int = 1;

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

/// While it lives, the calling thread runs as soon as it wakes. Without the right to that (root,
/// `CAP_SYS_NICE`) it is as [`Undisturbed`].
///
/// For threads that work shortly and sleep long: what is used more than most of the time is throttled
/// by the kernel.
#[derive(Debug)]
pub struct Alarm {
    /// The right was not to be had.
    instead: Option<Undisturbed>,
    /// The class is the calling thread's.
    not_send: PhantomData<*const ()>,
}

impl Alarm {
    /// Lets the calling thread run as soon as it wakes.
    #[must_use]
    pub fn begin() -> Self {
        let first = set_class(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, LOWEST);
        Self {
            instead: (!first).then(Undisturbed::begin),
            not_send: PhantomData,
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.instead.is_none() {
            // As above: failing to give way is no fault.
            let _ = set_class(libc::SCHED_OTHER, 0);
        }
    }
}

/// Sets the calling thread's scheduling class; whether that was allowed.
fn set_class(class: libc::c_int, priority: libc::c_int) -> bool {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the parameters live for the call, which only reads them; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, class, &raw const parameters) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class() -> libc::c_int {
        // SAFETY: a call without memory; 0 is the calling thread.
        unsafe { libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK }
    }

    #[test]
    fn an_alarm_is_of_a_class_of_its_own_until_it_is_over() {
        let before = class();
        let alarm = Alarm::begin();
        if alarm.instead.is_some() {
            return eprintln!("not run: no right to a real-time class");
        }
        assert_eq!(class(), libc::SCHED_FIFO);
        let child = std::thread::spawn(class).join().unwrap();
        assert_eq!(child, before, "threads that it starts are not");
        drop(alarm);
        assert_eq!(class(), before);
    }
}
