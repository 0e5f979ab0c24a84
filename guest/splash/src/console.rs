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

struct Console<T: Transport = MmioTransport<'static>> {
    transport: T,
    queue: VirtQueue<SplashHal, QUEUE_SIZE>,
}

// SAFETY: the queue's memory is reachable from any vCPU, and the lock around it admits one at a time.
unsafe impl<T: Transport + Send> Send for Console<T> {}

enum State {
    Unknown,
    Missing,
    Idle(Box<Console>),
    Busy,
}

static CONSOLE: Spin<State> = Spin::new(State::Unknown);

impl<T: Transport> Console<T> {
    /// Sets the device behind `transport` up; `None` when it has no queue to transmit by.
    fn new(mut transport: T) -> Option<Self> {
        transport.begin_init(Feature::VERSION_1);
        let queue = VirtQueue::new(&mut transport, TRANSMIT, false, false).ok()?;
        transport.finish_init();
        Some(Self { transport, queue })
    }

    /// Transmits some text and waits until the device has it.
    fn transmit(&mut self, text: &str) {
        let inputs: [&[u8]; 1] = [text.as_bytes()];
        // SAFETY: the text is not changed or freed before it is popped below.
        if let Ok(token) = unsafe { self.queue.add(&inputs, &mut []) } {
            self.transport.notify(TRANSMIT);
            sched::block_until(|| self.queue.peek_used() == Some(token));
            // SAFETY: the same buffer as added.
            let _ = unsafe { self.queue.pop_used(token, &inputs, &mut []) };
        }
    }
}

fn open() -> Option<Box<Console>> {
    Console::new(transport(CONSOLE_DEVICE, 0)?).map(Box::new)
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
    console.transmit(&alloc::format!("{text}\n"));
    *CONSOLE.lock() = State::Idle(console);
    sched::notify();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, VERSION_1};
    use std::thread;
    use virtio_drivers::transport::DeviceType;

    fn device(largest_queue: u32) -> Fake {
        Fake::new(DeviceType::Console, VERSION_1, &[], largest_queue)
    }

    #[test]
    fn texts_come_whole_in_order_and_only_then_does_the_caller_go_on() {
        let fake = device(64);
        let mut console = Console::new(fake.clone()).unwrap();
        assert!(fake.is_live());
        assert_eq!(fake.accepted(), VERSION_1);
        // More texts than the queue has descriptors: each must be taken off again.
        let texts: Vec<String> = (0..9).map(|i| "line\n".repeat(i + 1)).collect();
        thread::scope(|scope| {
            let caller = scope.spawn(|| texts.iter().for_each(|text| console.transmit(text)));
            for (index, text) in texts.iter().enumerate() {
                let chain = fake.wait(usize::from(TRANSMIT));
                assert!(chain.readable == text.as_bytes() && chain.writable.is_empty());
                assert!(!caller.is_finished(), "text {index} was not taken yet");
                assert!(
                    fake.take(usize::from(TRANSMIT)).is_none(),
                    "one text at a time"
                );
                fake.finish(usize::from(TRANSMIT), &chain, 0);
            }
        });
        assert_eq!(fake.notified(usize::from(TRANSMIT)), 9);
        assert_eq!(fake.notified(0), 0);
    }

    #[test]
    fn a_console_without_a_queue_is_none() {
        let fake = device(0);
        assert!(Console::new(fake.clone()).is_none());
        assert!(!fake.is_live());
    }
}
