//! The meeting point of a vCPU's thread and those who control it.
//!
//! One lock per vCPU carries its orders (run, pause, stop), its place (in the guest, waiting,
//! parked, ended) and the pending wake of the guest interface's `WAIT`/`WAKE`. Waiting happens here,
//! in user space: a thousand idle vCPUs cost no KVM state changes.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::sys::clock::ThreadClock;
use crate::sys::kick::KickTarget;

/// How long a controller waits for an acknowledgement before it kicks again.
const KICK_AGAIN: Duration = Duration::from_millis(10);

/// What a vCPU shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Run,
    Pause,
    /// Final: no later order replaces it.
    Stop,
}

/// Where a vCPU's thread is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// No thread: not yet started, or ended.
    Absent,
    /// In guest mode or handling an exit.
    Running(KickTarget),
    /// In `WAIT`; it looks at its orders before it goes back to the guest.
    Waiting,
    /// Held by a pause.
    Parked,
}

#[derive(Debug)]
struct State {
    order: Order,
    place: Place,
    pending: bool,
    kicked: Option<Instant>,
    clock: Option<ThreadClock>,
    used: Duration,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    /// The vCPU's thread waits here.
    go: Condvar,
    /// Controllers wait here until the vCPU is out of the guest.
    quiet: Condvar,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let state = State {
            order: Order::Run,
            place: Place::Absent,
            pending: false,
            kicked: None,
            clock: None,
            used: Duration::ZERO,
        };
        Self {
            state: Mutex::new(state),
            go: Condvar::new(),
            quiet: Condvar::new(),
        }
    }

    /// Whether the vCPU is outside the guest until something from outside lets it go on: a guest that
    /// has said that it is done may still be on its way to its `WAIT`.
    pub(crate) fn rests(&self) -> bool {
        let state = self.state.lock();
        match state.place {
            Place::Running(_) => false,
            Place::Waiting => !state.pending,
            Place::Absent | Place::Parked => true,
        }
    }

    /// The vCPU's thread begins; the result ends its presence when dropped.
    pub(crate) fn enter(&self) -> Presence<'_> {
        let target = KickTarget::current();
        let mut state = self.state.lock();
        state.clock = ThreadClock::current();
        state.place = Place::Running(target);
        Presence { gate: self, target }
    }

    /// Wakes the vCPU from its `WAIT`, this one or the next.
    pub(crate) fn wake(&self) {
        let mut state = self.state.lock();
        state.pending = true;
        let waits = matches!(state.place, Place::Waiting);
        drop(state);
        if waits {
            self.go.notify_one();
        }
    }

    /// Gives an order and kicks the vCPU out of the guest when it has to hear it.
    pub(crate) fn order(&self, order: Order) {
        let mut state = self.state.lock();
        if state.order == Order::Stop {
            return;
        }
        state.order = order;
        if let (Place::Running(target), Order::Pause | Order::Stop) = (state.place, order) {
            state.kicked.get_or_insert_with(Instant::now);
            target.kick();
        }
        // Who is woken while the lock is held may be given it before it has a core, and then keeps the
        // next order waiting for as long as it waits for one.
        drop(state);
        self.go.notify_one();
    }

    /// Waits until the vCPU is outside guest mode and can't get back without looking at its order.
    pub(crate) fn await_quiet(&self) {
        let mut state = self.state.lock();
        while let Place::Running(target) = state.place {
            if state.order == Order::Run {
                return;
            }
            if self.quiet.wait_for(&mut state, KICK_AGAIN).timed_out() {
                target.kick();
            }
        }
    }

    /// CPU time of the vCPU's thread so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        let state = self.state.lock();
        state.used + state.clock.and_then(ThreadClock::read).unwrap_or_default()
    }
}

/// The vCPU's thread at its gate.
#[derive(Debug)]
pub(crate) struct Presence<'a> {
    gate: &'a Gate,
    target: KickTarget,
}

impl Presence<'_> {
    /// Obeys orders: returns at once, or after a pause, `true` to run on and `false` to end.
    /// `latency` is told how long a kick took to arrive.
    pub(crate) fn checkpoint(&self, latency: impl FnOnce(Duration)) -> bool {
        let mut state = self.gate.state.lock();
        if let Some(kicked) = state.kicked.take() {
            latency(kicked.elapsed());
        }
        while state.order == Order::Pause {
            state.place = Place::Parked;
            self.gate.quiet.notify_all();
            self.gate.go.wait(&mut state);
        }
        state.place = Place::Running(self.target);
        state.order == Order::Run
    }

    /// The guest's `WAIT`: blocks until a wake, the limit's end, or a stop. A wake that came before
    /// ends it at once. A pause holds the vCPU here.
    pub(crate) fn wait(&self, limit: Option<Duration>) {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut state = self.gate.state.lock();
        loop {
            let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            match state.order {
                Order::Stop => break,
                Order::Run if state.pending || over => {
                    state.pending = false;
                    break;
                }
                Order::Run | Order::Pause => {}
            }
            state.place = Place::Waiting;
            state.kicked = None;
            self.gate.quiet.notify_all();
            match deadline {
                Some(deadline) if state.order == Order::Run => {
                    self.gate.go.wait_until(&mut state, deadline);
                }
                _ => self.gate.go.wait(&mut state),
            }
        }
        state.place = Place::Running(self.target);
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        let used = state
            .clock
            .take()
            .and_then(ThreadClock::read)
            .unwrap_or_default();
        state.used += used;
        state.place = Place::Absent;
        self.gate.quiet.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_vcpu_rests_in_its_wait_unless_it_was_woken() {
        let gate = Arc::new(Gate::new());
        assert!(gate.rests(), "there is no thread");
        let thread = {
            let gate = gate.clone();
            std::thread::spawn(move || {
                let here = gate.enter();
                let before = gate.rests();
                here.wait(None);
                (before, gate.rests())
            })
        };
        while !matches!(gate.state.lock().place, Place::Waiting) {
            std::thread::yield_now();
        }
        assert!(gate.rests());
        gate.wake();
        assert_eq!(thread.join().unwrap(), (false, false));
        assert!(gate.rests(), "its thread is gone");
    }

    #[test]
    fn a_wake_before_the_wait_is_kept() {
        let gate = Gate::new();
        gate.wake();
        let here = gate.enter();
        here.wait(None);
        here.wait(Some(Duration::from_millis(1)));
    }

    #[test]
    fn a_paused_waiter_stays_although_woken_and_goes_on_after() {
        crate::sys::kick::install_handler().unwrap();
        let gate = Arc::new(Gate::new());
        let rounds = Arc::new(AtomicU32::new(0));
        let thread = {
            let (gate, rounds) = (gate.clone(), rounds.clone());
            std::thread::spawn(move || {
                let here = gate.enter();
                while here.checkpoint(|_| ()) {
                    here.wait(None);
                    rounds.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let reach = |wanted| while rounds.load(Ordering::SeqCst) < wanted {};
        gate.wake();
        reach(1);
        gate.order(Order::Pause);
        gate.await_quiet();
        let before = rounds.load(Ordering::SeqCst);
        gate.wake();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(rounds.load(Ordering::SeqCst), before);
        gate.order(Order::Run);
        reach(before + 1);
        gate.order(Order::Stop);
        gate.order(Order::Run);
        thread.join().unwrap();
        assert!(gate.cpu_time() > Duration::ZERO);
    }
}
