//! virtio-console (virtio 1.2, clause 5.3), one port.
//!
//! What a guest prints is kept as a bounded tail: enough to say how a VM ended, never enough to
//! fill the host's memory. A sink can see every byte as it comes. A console that is a control
//! channel keeps whole lines as well, until they are taken. What the host types waits, bounded,
//! until the guest has room for it.

mod tail;

pub use crate::lines::{MAX_LINE, MAX_WAITING};
pub use tail::Tail;

use crate::device::{Completed, Device, DeviceError};
use crate::lines::Lines;
use crate::queue::{self, Chain};
use crate::transport::Notifier;
use mirrorball_pmap::Access;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock};
use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;

/// receiveq(port 0) and transmitq(port 0) (clause 5.3.2).
const QUEUE_SIZES: [u16; 2] = [64, 64];
/// Index of receiveq(port 0).
const RECEIVE: usize = 0;
/// Index of transmitq(port 0).
const TRANSMIT: usize = 1;
/// Most bytes in one chain: no driver prints more at a time.
const MAX_OUTPUT: u64 = 1 << 20;
/// Most bytes of input that wait for the guest.
pub const MAX_INPUT: usize = 64 << 10;

/// Something that sees a guest's output as it comes.
pub type Sink = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// The guest has not read enough of what waits for it already; nothing was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guest does not read its console: {waiting} bytes of input wait")]
pub struct InputFull {
    /// Bytes that wait.
    pub waiting: usize,
}

/// One guest's console.
pub struct Console {
    tail: Mutex<Tail>,
    lines: Option<Mutex<Lines>>,
    input: Mutex<VecDeque<u8>>,
    sink: Option<Sink>,
    notifier: OnceLock<Notifier>,
}

impl Console {
    /// A console that keeps the last `tail_bytes` bytes of output.
    #[must_use]
    pub fn new(tail_bytes: usize) -> Self {
        Self {
            tail: Mutex::new(Tail::new(tail_bytes)),
            lines: None,
            input: Mutex::default(),
            sink: None,
            notifier: OnceLock::new(),
        }
    }

    /// The same, and every byte goes to `sink` too, on a device worker's thread, after the lines
    /// that it completes can be taken. The sink may call this console's methods.
    #[must_use]
    pub fn with_sink(self, sink: Sink) -> Self {
        Self {
            sink: Some(sink),
            ..self
        }
    }

    /// The same, and whole lines are kept for [`Self::take_lines`].
    #[must_use]
    pub fn with_lines(self) -> Self {
        Self {
            lines: Some(Mutex::default()),
            ..self
        }
    }

    /// The last bytes of output; what is not UTF-8 is shown as replacement characters.
    #[must_use]
    pub fn tail(&self) -> String {
        self.tail.lock().text()
    }

    /// What was printed since `seen` bytes had been, as far as it is kept, and the bytes printed so
    /// far.
    #[must_use]
    pub fn since(&self, seen: u64) -> (Vec<u8>, u64) {
        self.tail.lock().since(seen)
    }

    /// The whole lines that the guest has printed since the last call, without their ends; none of
    /// a console without lines. At most [`MAX_WAITING`] bytes wait here: what a guest prints beyond
    /// is lost, and counted by [`Self::damaged_lines`].
    #[must_use = "a line is given once"]
    pub fn take_lines(&self) -> Vec<String> {
        let lines = self.lines.as_ref();
        lines.map_or_else(Vec::new, |lines| lines.lock().take())
    }

    /// Lines that were longer than [`MAX_LINE`] and are cut, or found no room and are lost.
    #[must_use]
    pub fn damaged_lines(&self) -> u64 {
        let lines = self.lines.as_ref();
        lines.map_or(0, |lines| lines.lock().damaged())
    }

    /// Types `bytes` on the console: all of them or none. The guest reads them when it has room,
    /// however late its driver comes, and also after a reset.
    ///
    /// # Errors
    /// When they and what waits already are more than [`MAX_INPUT`] bytes.
    pub fn send(&self, bytes: &[u8]) -> Result<(), InputFull> {
        let mut input = self.input.lock();
        let waiting = input.len();
        if bytes.len() > MAX_INPUT - waiting {
            return Err(InputFull { waiting });
        }
        input.extend(bytes);
        drop(input);
        if let Some(notifier) = self.notifier.get() {
            notifier.ring(RECEIVE);
        }
        Ok(())
    }

    fn print(&self, output: &[u8]) {
        self.tail.lock().push(output);
        if let Some(lines) = &self.lines {
            lines.lock().push(output);
        }
        if let Some(sink) = &self.sink {
            sink(output);
        }
    }

    /// Prints what a chain holds.
    fn transmit(&self, chain: &Chain, memory: &GuestMemoryMmap) -> Result<u32, DeviceError> {
        let head = chain.head;
        let bad = |reason| DeviceError::Request { head, reason };
        let bytes = chain.readable.bytes();
        let len = usize::try_from(bytes).map_err(|_| bad("output too long"))?;
        if bytes > MAX_OUTPUT {
            return Err(bad("more than 1 MiB of output in one chain"));
        }
        let mut output = vec![0; len];
        chain
            .readable
            .read(memory, &mut output)
            .map_err(virtio_queue::Error::GuestMemory)?;
        self.print(&output);
        Ok(0)
    }

    /// Fills a chain with as much input as waits and has room.
    fn receive(&self, chain: &Chain, memory: &GuestMemoryMmap) -> Result<u32, DeviceError> {
        let mut input = self.input.lock();
        let written = chain
            .writable
            .write(memory, input.make_contiguous())
            .map_err(virtio_queue::Error::GuestMemory)?;
        input.drain(..written);
        Ok(u32::try_from(written).unwrap_or(0))
    }
}

impl Device for Console {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_CONSOLE
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn attach(&self, notifier: Notifier) {
        // A second transport before one device would be the monitor's mistake; the first counts.
        let _ = self.notifier.set(notifier);
    }

    fn read_config(&self, _offset: u64, _data: &mut [u8]) {}

    /// Input buffers stay with the device until somebody types.
    fn process(
        &self,
        queue: usize,
        ring: &mut Queue,
        access: &Access<'_>,
    ) -> Result<Completed, DeviceError> {
        let memory = access.memory();
        if queue == TRANSMIT {
            return queue::drain(ring, memory, |chain| self.transmit(&chain, memory));
        }
        let typed = || !self.input.lock().is_empty();
        queue::visit(ring, memory, typed, |ring, chain| {
            let written = self.receive(&chain, memory)?;
            ring.add_used(memory, chain.head, written)?;
            Ok(1)
        })
    }

    fn reset(&self) {}
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("tail", &self.tail)
            .field("lines", &self.lines)
            .field("sink", &self.sink.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_taken_whole_or_not_at_all() {
        let console = Console::new(0);
        console.send(&[1; MAX_INPUT - 1]).unwrap();
        let full = InputFull {
            waiting: MAX_INPUT - 1,
        };
        assert_eq!(console.send(b"go"), Err(full));
        assert_eq!(console.send(b"g"), Ok(()));
        assert_eq!(console.send(b""), Ok(()));
    }

    #[test]
    fn a_sink_finds_the_lines_that_it_is_told_of() {
        let console = Arc::new_cyclic(|console: &std::sync::Weak<Console>| {
            let console = console.clone();
            let echo: Sink = Arc::new(move |_| {
                let console = console.upgrade().unwrap();
                for line in console.take_lines() {
                    console.send(line.as_bytes()).unwrap();
                }
            });
            Console::new(16).with_lines().with_sink(echo)
        });
        console.print(b"ready\nhal");
        console.print(b"f\n");
        assert_eq!(console.input.lock().make_contiguous(), b"readyhalf");
        assert_eq!(console.tail(), "ready\nhalf\n");
    }

    #[test]
    fn the_sink_sees_everything() {
        let seen = Arc::new(Mutex::new(Vec::<u8>::new()));
        let all = Arc::clone(&seen);
        let console = Console::new(2).with_sink(Arc::new(move |bytes| all.lock().extend(bytes)));
        console.print(b"hello ");
        console.print(b"\xffworld");
        assert_eq!(*seen.lock(), b"hello \xffworld");
        assert_eq!(console.tail(), "ld");
    }
}
