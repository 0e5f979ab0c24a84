//! CPU time of one thread, read from any other thread (`pthread_getcpuclockid(3)`).

use std::time::Duration;

/// The CPU clock of one thread of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadClock(libc::clockid_t);

impl ThreadClock {
    /// The calling thread's clock.
    pub(crate) fn current() -> Option<Self> {
        let mut clock = 0;
        // SAFETY: pthread_self() is valid for the calling thread and `clock` is a live out-pointer.
        let error = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        (error == 0).then_some(Self(clock))
    }

    /// CPU time that the thread has used, guest mode included; `None` when it has ended.
    pub(crate) fn read(self) -> Option<Duration> {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is a live out-pointer; a clock id of an ended thread only gives an error.
        let error = unsafe { libc::clock_gettime(self.0, &raw mut time) };
        if error != 0 {
            return None;
        }
        Some(Duration::new(
            u64::try_from(time.tv_sec).ok()?,
            u32::try_from(time.tv_nsec).ok()?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_working_thread_is_seen_from_outside_and_gone_after_its_end() {
        let (send, receive) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let worker = std::thread::spawn(move || {
            let own = ThreadClock::current().unwrap();
            while own.read().unwrap() < Duration::from_millis(2) {}
            send.send(own).unwrap();
            let _ = ended.recv();
        });
        let clock = receive.recv().unwrap();
        assert!(clock.read().unwrap() >= Duration::from_millis(2));
        end.send(()).unwrap();
        worker.join().unwrap();
        assert_eq!(clock.read(), None);
    }
}
