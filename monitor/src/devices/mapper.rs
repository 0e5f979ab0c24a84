//! The thread that maps what disks have copied, when it has rested.
//!
//! It gives way to the guests like the scanner does: what it does can wait.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mirrorball_virtio::BlockCache;
use rustix::process::{Pid, setpriority_process};

use crate::sys::clock::ThreadClock;

/// How far the thread gives way; as the scanner by default.
const NICE: i32 = 15;

/// The thread; ended when dropped.
#[derive(Debug)]
pub(crate) struct Mapper {
    cache: Arc<BlockCache>,
    clock: Arc<OnceLock<Option<ThreadClock>>>,
    thread: Option<JoinHandle<()>>,
}

impl Mapper {
    /// Starts it for one cache.
    pub(crate) fn start(cache: &Arc<BlockCache>) -> io::Result<Self> {
        let clock = Arc::new(OnceLock::new());
        let (theirs, set) = (Arc::clone(cache), Arc::clone(&clock));
        let thread = thread::Builder::new()
            .name("disk-mapper".into())
            .spawn(move || {
                let _ = set.set(ThreadClock::current());
                let own = Pid::from_raw(rustix::thread::gettid().as_raw_nonzero().get());
                if let Err(error) = setpriority_process(own, NICE) {
                    tracing::debug!(%error, "the disk mapper keeps its priority");
                }
                theirs.run();
            })?;
        Ok(Self {
            cache: Arc::clone(cache),
            clock,
            thread: Some(thread),
        })
    }

    /// CPU time so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        let clock = self.clock.get().copied().flatten();
        clock.and_then(ThreadClock::read).unwrap_or_default()
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        self.cache.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the disk mapper panicked");
        }
    }
}
