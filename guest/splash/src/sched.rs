//! Cooperative threads, each pinned to a vCPU.
//!
//! A thread blocks on a condition by giving way until the condition holds; its vCPU polls the
//! conditions of its threads in turn, and when none of them holds it waits in the monitor. That
//! keeps every wait in the guest visible to the monitor as idle time, and needs no wait queues.
//!
//! No wake is lost: a vCPU says that it is about to sleep, polls once more, then sleeps; whoever
//! makes a condition true looks at that flag afterwards ([`notify`]). A wake that arrives between
//! the two makes the monitor return from the wait at once.

use crate::context::{self, stack_pointer};
use crate::memory::Region;
use crate::port;
use crate::shared;
use crate::sync::Spin;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ptr::{self, with_exposed_provenance_mut};
use core::sync::atomic::{AtomicBool, Ordering, fence};
use mirrorball_abi::MAX_VCPUS;
use mirrorball_abi::layout::PAGE_SIZE;

/// Bytes of a thread's stack; also its alignment, by which a running thread finds itself.
const STACK: usize = 64 << 10;
/// A thread that has come this close to the end of its stack has no room for the next call chain.
const STACK_MARGIN: usize = 2048;
/// No deadline.
const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Blocked,
    Finished,
}

/// What lies at the upper end of each thread's stack.
struct Thread {
    context: usize,
    state: State,
    deadline: u64,
    vcpu: usize,
    next: *mut Thread,
    entry: Option<Box<dyn FnOnce() + Send>>,
    done: AtomicBool,
}

/// Room kept for [`Thread`] at the upper end of a stack.
const HEADER: usize = 128;
const _: () = assert!(size_of::<Thread>() <= HEADER);

/// What one vCPU's scheduler shares with the others.
struct Vcpu {
    inbox: Spin<Inbox>,
    sleeping: AtomicBool,
    /// Set when a thread of this vCPU got on or changed what another may wait for.
    moved: AtomicBool,
    /// Stack pointer of the scheduler while a thread runs; used by this vCPU alone.
    scheduler: UnsafeCell<usize>,
}

struct Inbox(*mut Thread);

// SAFETY: a thread in an inbox is referred to by nobody else but its joiner, who only looks at `done`.
unsafe impl Send for Inbox {}
// SAFETY: `scheduler` is touched by the owning vCPU only; the rest is shared by design.
unsafe impl Sync for Vcpu {}

static VCPUS: [Vcpu; MAX_VCPUS] = [const {
    Vcpu {
        inbox: Spin::new(Inbox(ptr::null_mut())),
        sleeping: AtomicBool::new(false),
        moved: AtomicBool::new(false),
        scheduler: UnsafeCell::new(0),
    }
}; MAX_VCPUS];

/// The running thread; `None` on a boot stack, where the scheduler itself runs.
fn current() -> Option<*mut Thread> {
    if cfg!(test) {
        return None;
    }
    let stack = stack_pointer();
    if stack < shared::free_start() {
        return None;
    }
    Some(with_exposed_provenance_mut(
        (stack & !(STACK - 1)) + STACK - HEADER,
    ))
}

/// Number of the vCPU this thread runs on (0 for a scheduler, which has no need to know).
pub fn vcpu() -> usize {
    // SAFETY: a running thread's header is intact, and `vcpu` never changes.
    current().map_or(0, |thread| unsafe { (*thread).vcpu })
}

/// Gives way to the scheduler with this state. Only on a thread's stack.
fn give_way(thread: *mut Thread, state: State, deadline: u64) {
    assert!(
        stack_pointer() % STACK > STACK_MARGIN,
        "a thread's stack is full"
    );
    // SAFETY: the header belongs to the running thread until it has switched; the scheduler's
    // context was saved by the switch that resumed this thread, on this vCPU.
    unsafe {
        (*thread).state = state;
        (*thread).deadline = deadline;
        let scheduler = *VCPUS[(*thread).vcpu].scheduler.get();
        context::switch(&raw mut (*thread).context, scheduler);
    }
}

/// Lets the other threads of this vCPU run. On a boot stack only a pause.
pub fn yield_now() {
    match current() {
        Some(thread) => give_way(thread, State::Ready, NEVER),
        None => pause(),
    }
}

/// What waits without a scheduler, waits here: on a boot stack, or in a test on the host, where other
/// threads need the processor to go on.
fn pause() {
    #[cfg(test)]
    std::thread::yield_now();
    #[cfg(not(test))]
    core::hint::spin_loop();
}

/// Blocks the calling thread until `condition` holds. Whoever makes it hold calls [`notify`],
/// unless it is a device or the monitor.
pub fn block_until(mut condition: impl FnMut() -> bool) {
    block_until_or(NEVER, &mut condition);
}

/// Blocks the calling thread until `condition` holds or the time stamp counter reaches `deadline`.
pub fn block_until_or(deadline: u64, mut condition: impl FnMut() -> bool) {
    let mut blocked = false;
    while !condition() && port::ticks() < deadline {
        match current() {
            Some(thread) => give_way(thread, State::Blocked, deadline),
            None => pause(),
        }
        blocked = true;
    }
    if blocked {
        VCPUS[vcpu()].moved.store(true, Ordering::Relaxed);
    }
}

/// Sleeps for `ticks`, or until the monitor asks the workload to stop.
pub fn sleep(ticks: u64) {
    block_until_or(port::ticks().saturating_add(ticks), shared::stop_requested);
}

/// Wakes the vCPUs that are about to sleep or asleep, so that they look at their conditions again.
pub fn notify() {
    fence(Ordering::SeqCst);
    let own = current().map(|_| vcpu());
    let mut mask = 0;
    for (index, vcpu) in VCPUS.iter().enumerate() {
        if own == Some(index) {
            vcpu.moved.store(true, Ordering::Relaxed);
        } else if vcpu.sleeping.load(Ordering::Relaxed)
            && vcpu.sleeping.swap(false, Ordering::Relaxed)
        {
            mask |= 1 << index;
        }
    }
    if mask != 0 {
        port::wake(mask);
    }
}

/// A thread that was started; must be joined.
#[derive(Debug)]
#[must_use = "a thread's stack is given back by join"]
pub struct JoinHandle {
    thread: *mut Thread,
    stack: Region,
}

// SAFETY: the handle's owner only reads `done` and frees the stack after that.
unsafe impl Send for JoinHandle {}

impl JoinHandle {
    /// Blocks until the thread has ended.
    pub fn join(self) {
        block_until(|| self.is_done());
        // Which calls left what there depends on whether a wait was one; free pages shall not. Pages
        // that were never written stay so.
        for word in self.stack.words() {
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
        }
        drop(self.stack);
    }

    /// True when the thread has ended, and a join will not block.
    pub fn is_done(&self) -> bool {
        // SAFETY: the header lives as long as the stack in this handle.
        unsafe { (*self.thread).done.load(Ordering::Acquire) }
    }
}

/// Takes memory for a thread's stack.
fn stack() -> Option<Region> {
    Region::aligned(STACK / PAGE_SIZE, STACK / PAGE_SIZE)
}

/// Starts a thread on a vCPU; `None` when there is no memory for its stack.
pub fn spawn(vcpu: usize, entry: impl FnOnce() + Send + 'static) -> Option<JoinHandle> {
    Some(spawn_on(stack()?, vcpu, entry))
}

fn spawn_on(stack: Region, vcpu: usize, entry: impl FnOnce() + Send + 'static) -> JoinHandle {
    let header = stack.address() + STACK - HEADER;
    let thread: *mut Thread = with_exposed_provenance_mut(header);
    // SAFETY: the stack was just taken; the header fits at its end and the context below it.
    unsafe {
        thread.write(Thread {
            context: context::prepare(header, thread_main),
            state: State::Ready,
            deadline: NEVER,
            vcpu,
            next: ptr::null_mut(),
            entry: Some(Box::new(entry)),
            done: AtomicBool::new(false),
        });
        let mut inbox = VCPUS[vcpu].inbox.lock();
        (*thread).next = inbox.0;
        inbox.0 = thread;
    }
    notify();
    JoinHandle { thread, stack }
}

/// Runs `work(index)` for each index below `count`, spread over all vCPUs, and waits for all.
///
/// False when there is no memory for all the stacks: then none has run, since some may wait for others.
pub fn on_all_vcpus(count: usize, work: impl Fn(usize) + Send + Clone + 'static) -> bool {
    let Some(stacks) = (0..count).map(|_| stack()).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let handles: Vec<_> = stacks
        .into_iter()
        .enumerate()
        .map(|(index, stack)| {
            let work = work.clone();
            spawn_on(stack, index % shared::vcpus(), move || work(index))
        })
        .collect();
    handles.into_iter().for_each(JoinHandle::join);
    true
}

extern "sysv64" fn thread_main() -> ! {
    if let Some(thread) = current() {
        // SAFETY: this is the thread's own header; nobody else uses `entry`.
        let entry = unsafe { (*thread).entry.take() };
        if let Some(entry) = entry {
            entry();
        }
        give_way(thread, State::Finished, NEVER);
    }
    unreachable!("a finished thread was resumed");
}

/// Runs the threads of a vCPU for ever. `poll` is called in every round, before sleeping, and answers
/// until when it is to be called again.
pub fn run(index: usize, mut poll: impl FnMut() -> u64) -> ! {
    let vcpu = &VCPUS[index];
    let mut threads: *mut Thread = ptr::null_mut();
    let mut announced = false;
    loop {
        let again = poll();
        adopt(vcpu, &mut threads);
        let (progress, deadline) = round(vcpu, &mut threads);
        if progress {
            announced = false;
            vcpu.sleeping.store(false, Ordering::Relaxed);
        } else if announced {
            port::wait(microseconds_until(deadline.min(again)));
            vcpu.sleeping.store(false, Ordering::Relaxed);
            announced = false;
        } else {
            vcpu.sleeping.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            announced = true;
        }
    }
}

/// Moves newly spawned threads to the run list.
fn adopt(vcpu: &Vcpu, threads: &mut *mut Thread) {
    let mut list = core::mem::replace(&mut vcpu.inbox.lock().0, ptr::null_mut());
    while !list.is_null() {
        // SAFETY: threads in the inbox are alive and now belong to this vCPU alone.
        unsafe {
            let next = (*list).next;
            (*list).next = *threads;
            *threads = list;
            list = next;
        }
    }
}

/// Resumes each thread once. True when any of them got on; else the earliest deadline counts.
fn round(vcpu: &Vcpu, threads: &mut *mut Thread) -> (bool, u64) {
    let mut progress = false;
    let mut deadline = NEVER;
    let mut link: *mut *mut Thread = threads;
    // SAFETY: the list holds live threads of this vCPU, suspended in `give_way` or not yet started;
    // a finished one is unlinked before its joiner may free it.
    unsafe {
        while !(*link).is_null() {
            let thread = *link;
            context::switch(vcpu.scheduler.get(), (*thread).context);
            match (*thread).state {
                State::Ready => progress = true,
                State::Blocked => deadline = deadline.min((*thread).deadline),
                State::Finished => {
                    progress = true;
                    vcpu.sleeping.store(false, Ordering::Relaxed);
                    *link = (*thread).next;
                    (*thread).done.store(true, Ordering::Release);
                    notify();
                    continue;
                }
            }
            link = &raw mut (*thread).next;
        }
    }
    (
        progress || vcpu.moved.swap(false, Ordering::Relaxed),
        deadline,
    )
}

/// Time until `deadline` in the unit of the wait port; 0 for no limit.
fn microseconds_until(deadline: u64) -> u32 {
    if deadline == NEVER {
        return 0;
    }
    let ticks = deadline.saturating_sub(port::ticks());
    let microseconds = ticks.saturating_mul(1000) / shared::ticks_per_ms();
    u32::try_from(microseconds.saturating_add(1)).unwrap_or(u32::MAX)
}
