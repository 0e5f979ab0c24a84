//! Log lines to the virtio console, for people.
//!
//! Set up at the first line, so that a guest with nothing to say needs no queue. A guest without a
//! console loses its lines: they are for reading, the monitor decides by the status page alone.

use crate::hal::{SplashHal, transport};
use crate::sched;
use crate::sync::Spin;
use alloc::boxed::Box;
use core::fmt;
use virtio_drivers::device::common::Feature;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;
use virtio_drivers::transport::mmio::MmioTransport;

/// virtio device id of a console (virtio 1.2, clause 5.3.1).
const CONSOLE_DEVICE: u32 = 3;
/// The transmit queue of port 0 (clause 5.3.2).
const TRANSMIT: u16 = 1;
const QUEUE_SIZE: usize = 2;

struct Console {
    transport: MmioTransport<'static>,
    queue: VirtQueue<SplashHal, QUEUE_SIZE>,
}

// SAFETY: the queue's memory is reachable from any vCPU, and the lock around it admits one at a time.
unsafe impl Send for Console {}

enum State {
    Unknown,
    Missing,
    Idle(Box<Console>),
    Busy,
}

static CONSOLE: Spin<State> = Spin::new(State::Unknown);

fn open() -> Option<Box<Console>> {
    let mut transport = transport(CONSOLE_DEVICE, 0)?;
    transport.begin_init(Feature::VERSION_1);
    let queue = VirtQueue::new(&mut transport, TRANSMIT, false, false).ok()?;
    transport.finish_init();
    Some(Box::new(Console { transport, queue }))
}

/// Takes the console for one line, opening it if nobody has; `None` when there is none.
fn take() -> Option<Box<Console>> {
    let mut taken = None;
    let mut missing = false;
    sched::block_until(|| {
        let mut state = CONSOLE.lock();
        match core::mem::replace(&mut *state, State::Busy) {
            State::Unknown => {
                taken = open();
                missing = taken.is_none();
            }
            State::Missing => missing = true,
            State::Idle(console) => taken = Some(console),
            State::Busy => {}
        }
        if missing {
            *state = State::Missing;
        }
        missing || taken.is_some()
    });
    taken
}

/// Writes one line.
pub fn line(text: fmt::Arguments<'_>) {
    let Some(mut console) = take() else {
        return;
    };
    let text = alloc::format!("{text}\n");
    let inputs: [&[u8]; 1] = [text.as_bytes()];
    // SAFETY: the text is not changed or freed before it is popped below.
    if let Ok(token) = unsafe { console.queue.add(&inputs, &mut []) } {
        console.transport.notify(TRANSMIT);
        sched::block_until(|| console.queue.peek_used() == Some(token));
        // SAFETY: the same buffer as added.
        let _ = unsafe { console.queue.pop_used(token, &inputs, &mut []) };
    }
    *CONSOLE.lock() = State::Idle(console);
    sched::notify();
}
