//! The scanner on a thread of its own: pass after pass, within its rates,
//! switchable and stoppable at any time.

use super::pace::{Limits, Pace, Work};
use super::{Scanner, ScannerStats};
use crate::cpu::Thread;
use mirrorball_pmap::Undisturbed;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Which mechanisms are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Switches {
    zero: bool,
    content: bool,
}

/// What the owner wants, and what the thread tells.
#[derive(Debug)]
struct Desk {
    switches: Switches,
    paused: bool,
    stop: bool,
    /// The thread stands still because it was told to.
    resting: bool,
    /// Passes that were asked for at once, and how many of those were made.
    hurries: u64,
    hurried: u64,
    /// The scanning thread and those that hash.
    threads: Vec<Thread>,
    stats: ScannerStats,
}

#[derive(Debug)]
struct Shared {
    desk: Mutex<Desk>,
    changed: Condvar,
}

/// A running scanner. Dropping it stops it.
#[derive(Debug)]
pub struct ScannerThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl ScannerThread {
    /// Starts scanning.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(scanner: Scanner) -> io::Result<Self> {
        let desk = Desk {
            switches: Switches {
                zero: scanner.config.zero,
                content: scanner.config.content,
            },
            paused: false,
            stop: false,
            resting: false,
            hurries: 0,
            hurried: 0,
            threads: Vec::new(),
            stats: scanner.stats,
        };
        let shared = Arc::new(Shared {
            desk: Mutex::new(desk),
            changed: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("scanner".into())
            .spawn(move || {
                Thread::this().give_way(scanner.config().nice);
                run(scanner, &theirs);
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Switches the release of zero pages; a pass under way ends early.
    pub fn set_zero(&self, on: bool) {
        self.change(|desk| desk.switches.zero = on);
    }

    /// Switches the sharing of equal pages; a pass under way ends early.
    pub fn set_content(&self, on: bool) {
        self.change(|desk| desk.switches.content = on);
    }

    /// What was done so far, a slice of pages ago at most.
    #[must_use]
    pub fn stats(&self) -> ScannerStats {
        self.shared.desk.lock().stats
    }

    /// Stands still when it returns: nothing is hashed or shared until
    /// [`Self::resume`].
    pub fn pause(&self) {
        self.change(|desk| desk.paused = true);
        let mut desk = self.shared.desk.lock();
        while desk.paused
            && !desk.resting
            && self
                .thread
                .as_ref()
                .is_some_and(|thread| !thread.is_finished())
        {
            self.shared
                .changed
                .wait_for(&mut desk, Duration::from_millis(100));
        }
    }

    /// Goes on where [`Self::pause`] stopped it.
    pub fn resume(&self) {
        self.change(|desk| desk.paused = false);
    }

    /// Asks for a pass over all that was written so far, at once: without rates and pauses, and
    /// however short a time ago it was written. For who needs memory and has guests wait meanwhile.
    /// Returns what [`Self::hurried`] will say when it was made.
    pub fn hurry(&self) -> u64 {
        let mut wanted = 0;
        let mut threads = Vec::new();
        self.change(|desk| {
            desk.hurries += 1;
            wanted = desk.hurries;
            threads.clone_from(&desk.threads);
        });
        // What it does just now ends early, and can take long where guests use all cores.
        for thread in threads {
            thread.go_first();
        }
        wanted
    }

    /// How many of the passes that [`Self::hurry`] asked for have been made.
    #[must_use]
    pub fn hurried(&self) -> u64 {
        self.shared.desk.lock().hurried
    }

    /// Stops within a slice of pages (milliseconds), and returns what was
    /// done.
    #[must_use = "the last statistics are gone with the thread"]
    pub fn stop(mut self) -> ScannerStats {
        self.end();
        self.stats()
    }

    fn change(&self, change: impl FnOnce(&mut Desk)) {
        change(&mut self.shared.desk.lock());
        self.shared.changed.notify_all();
    }

    fn end(&mut self) {
        self.change(|desk| desk.stop = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the scanner thread panicked");
        }
    }
}

impl Drop for ScannerThread {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(mut scanner: Scanner, shared: &Shared) {
    let mut threads = scanner.lookers.threads();
    threads.push(Thread::this());
    shared.desk.lock().threads = threads;
    let mut owner = Owner {
        shared,
        switches: shared.desk.lock().switches,
        limits: Limits::new(&scanner.config, scanner.pmap.guest_fault()),
        hurries: false,
    };
    loop {
        let desk = shared.desk.lock();
        let wanted = desk.hurries;
        owner.switches = desk.switches;
        owner.hurries = wanted > desk.hurried;
        drop(desk);
        scanner.set_zero(owner.switches.zero);
        scanner.set_content(owner.switches.content);
        scanner.hurries = owner.hurries;
        // Guests may be waiting for what it finds.
        let first = owner.hurries.then(Undisturbed::begin);
        let complete = scanner.pass_at(&mut owner).complete;
        drop(first);
        if owner.hurries {
            // Who asked may have made it go first before it did so itself.
            Thread::this().give_way(scanner.config.nice);
        }
        let mut desk = shared.desk.lock();
        if complete {
            desk.hurried = wanted;
        }
        let pause = if complete {
            scanner.config.interval
        } else {
            Duration::ZERO
        };
        if !rest(shared, &mut desk, pause) {
            break;
        }
    }
}

/// Waits for `time`, and for as long as the scanner is paused; false if it is
/// to stop.
fn rest(shared: &Shared, desk: &mut MutexGuard<'_, Desk>, time: Duration) -> bool {
    let until = Instant::now() + time;
    while !desk.stop {
        if desk.paused {
            desk.resting = true;
            shared.changed.notify_all();
            shared.changed.wait(desk);
        } else if desk.hurries > desk.hurried || shared.changed.wait_until(desk, until).timed_out()
        {
            break;
        }
        desk.resting = false;
    }
    !desk.stop
}

/// The limits and the owner's wishes.
#[derive(Debug)]
struct Owner<'a> {
    shared: &'a Shared,
    switches: Switches,
    limits: Limits,
    /// This pass was asked for at once.
    hurries: bool,
}

impl Pace for Owner<'_> {
    fn slice(&self) -> u32 {
        if self.hurries {
            self.limits.most()
        } else {
            self.limits.slice()
        }
    }

    fn protectable(&self) -> Option<u64> {
        if self.hurries {
            None
        } else {
            self.limits.protectable()
        }
    }

    fn go_on(&mut self, work: Work, stats: &ScannerStats) -> bool {
        let mut wait = self.limits.charge(&work);
        let mut desk = self.shared.desk.lock();
        desk.stats = *stats;
        loop {
            if !self.hurries && desk.hurries > desk.hurried {
                // What is left of this pass is done by the one that was asked for.
                return false;
            }
            if self.hurries {
                wait = Duration::ZERO;
            }
            let on = if wait.is_zero() && !desk.paused {
                !desk.stop
            } else {
                rest(self.shared, &mut desk, wait)
            };
            if !on || desk.switches != self.switches {
                return false;
            }
            if self.hurries {
                return true;
            }
            wait = self.limits.wait();
            if wait.is_zero() {
                return true;
            }
        }
    }
}
