//! Device work off the vCPU threads: a few threads serve the queues of all VMs.
//!
//! Each worker polls the doorbells of the devices that were given to it; a device stays with one
//! worker, so its queues are served one after the other. Taking a device out waits until the worker
//! has left it: afterwards no thread but the caller's touches the VM's memory for it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mirrorball_virtio::Transport;
use parking_lot::Mutex;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::sys::clock::ThreadClock;
use crate::sys::schedule::work_in_batches;

/// After a network's packets a worker looks at its doorbells for so long before it sleeps: in a stream the next
/// comes sooner than a thread is put to sleep and woken. Disks' requests come one by one.
const LOOKING: Duration = Duration::from_micros(50);

/// What happens when a device can't go on: called on the worker's thread with the reason.
pub(crate) type OnFailure = Arc<dyn Fn(String) + Send + Sync>;

/// The worker threads; ended when dropped.
#[derive(Debug)]
pub(crate) struct Workers {
    workers: Vec<(Arc<Worker>, Option<JoinHandle<()>>)>,
    next_worker: AtomicUsize,
    next_token: AtomicU64,
}

#[derive(Debug)]
struct Worker {
    epoll: Epoll,
    end: EventFd,
    served: Mutex<HashMap<u64, Arc<Served>>>,
    clock: OnceLock<Option<ThreadClock>>,
}

/// One queue in a worker's care.
struct Served {
    device: Arc<Transport>,
    queue: usize,
    /// Held while the worker is in the device; `false` once it may not enter any more.
    open: Mutex<bool>,
    failure: OnFailure,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("device", &self.device)
            .field("queue", &self.queue)
            .finish()
    }
}

/// The token of a worker's own end; tokens of queues count up from 1.
const END: u64 = 0;

impl Workers {
    /// Starts `count` threads, at least one.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let mut workers = Self {
            workers: Vec::new(),
            next_worker: 0.into(),
            next_token: (END + 1).into(),
        };
        for number in 0..count.max(1) {
            let worker = Arc::new(Worker {
                epoll: Epoll::new()?,
                end: EventFd::new(EFD_NONBLOCK)?,
                served: Mutex::default(),
                clock: OnceLock::new(),
            });
            let event = EpollEvent::new(EventSet::IN, END);
            worker
                .epoll
                .ctl(ControlOperation::Add, worker.end.as_raw_fd(), event)?;
            let thread = {
                let worker = worker.clone();
                thread::Builder::new()
                    .name(format!("device{number}"))
                    .spawn(move || worker.run())?
            };
            workers.workers.push((worker, Some(thread)));
        }
        Ok(workers)
    }

    /// Gives a device to a worker. The result takes it back when dropped.
    pub(crate) fn register(
        &self,
        device: &Arc<Transport>,
        failure: &OnFailure,
    ) -> io::Result<Registration> {
        let turn = self.next_worker.fetch_add(1, Ordering::Relaxed) % self.workers.len();
        let worker = self.workers[turn].0.clone();
        let mut registration = Registration {
            worker,
            tokens: Vec::new(),
        };
        for queue in 0..device.doorbells().len() {
            let token = self.next_token.fetch_add(1, Ordering::Relaxed);
            let served = Served {
                device: device.clone(),
                queue,
                open: Mutex::new(true),
                failure: failure.clone(),
            };
            registration.add(token, served)?;
        }
        Ok(registration)
    }

    /// CPU time of all workers so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        let clock = |worker: &Worker| worker.clock.get().copied().flatten();
        self.workers
            .iter()
            .filter_map(|(worker, _)| clock(worker)?.read())
            .sum()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for (worker, thread) in &mut self.workers {
            if worker.end.write(1).is_ok() {
                // A worker that panicked has told of it; there is nothing left to do for it here.
                let _ = thread.take().map(JoinHandle::join);
            }
        }
    }
}

/// A device's stay with its worker.
#[derive(Debug)]
pub(crate) struct Registration {
    worker: Arc<Worker>,
    tokens: Vec<u64>,
}

impl Registration {
    fn add(&mut self, token: u64, served: Served) -> io::Result<()> {
        let Some(doorbell) = served
            .device
            .doorbells()
            .get(served.queue)
            .map(AsRawFd::as_raw_fd)
        else {
            return Ok(());
        };
        self.worker.served.lock().insert(token, Arc::new(served));
        self.tokens.push(token);
        let event = EpollEvent::new(EventSet::IN, token);
        self.worker
            .epoll
            .ctl(ControlOperation::Add, doorbell, event)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        for token in self.tokens.drain(..) {
            let Some(served) = self.worker.served.lock().remove(&token) else {
                continue;
            };
            served.leave(&self.worker.epoll);
            *served.open.lock() = false;
        }
    }
}

impl Worker {
    fn run(&self) {
        self.clock.get_or_init(ThreadClock::current);
        // Where guests have no processor to spare, a guest that has just rung a doorbell would
        // otherwise lose its own to the worker at once, and each request would be a round.
        if let Err(error) = work_in_batches() {
            tracing::debug!(%error, "a device worker keeps its scheduling");
        }
        let mut events = vec![EpollEvent::default(); 64];
        let (mut ended, mut looks) = (false, false);
        while !ended {
            let count = match self.wait(&mut events, looks) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "a device worker can't poll its doorbells");
                    return;
                }
            };
            looks = false;
            for event in events.iter().take(count) {
                let token = event.data();
                if token == END {
                    ended = true;
                }
                let served = self.served.lock().get(&token).cloned();
                if let Some(served) = served {
                    looks |= served.device.is_network();
                    served.serve(&self.epoll);
                }
            }
        }
    }

    /// How many doorbells rang; it `looks` for a while before it sleeps.
    fn wait(&self, events: &mut [EpollEvent], looks: bool) -> io::Result<usize> {
        let began = Instant::now();
        while looks && began.elapsed() < LOOKING {
            let count = self.epoll.wait(0, events)?;
            if count > 0 {
                return Ok(count);
            }
            // Guests that want the processor have it.
            thread::yield_now();
        }
        self.epoll.wait(-1, events)
    }
}

impl Served {
    /// Serves one round of the queue whose doorbell rang.
    fn serve(&self, epoll: &Epoll) {
        let mut open = self.open.lock();
        if !*open {
            return;
        }
        // Cleared before the work: a ring during the work asks for another round.
        if let Some(doorbell) = self.device.doorbells().get(self.queue) {
            let _ = doorbell.read();
        }
        // A panic in a device is a bug of ours; it must cost one VM, not all that this worker serves.
        let round = catch_unwind(AssertUnwindSafe(|| self.device.process(self.queue)));
        let reason = match round {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its code panicked".into(),
        };
        *open = false;
        self.leave(epoll);
        (self.failure)(reason);
    }

    /// Stops polling the doorbell; that it is no longer polled is no error.
    fn leave(&self, epoll: &Epoll) {
        if let Some(doorbell) = self.device.doorbells().get(self.queue) {
            let event = EpollEvent::default();
            let _ = epoll.ctl(ControlOperation::Delete, doorbell.as_raw_fd(), event);
        }
    }
}
