//! virtio-console (virtio 1.2, clause 5.3), one port, output only.
//!
//! What a guest prints is kept as a bounded tail: enough to say how a VM ended, never enough to
//! fill the host's memory. A sink can see every byte as it comes.

use crate::device::{Completed, Device, DeviceError};
use crate::queue;
use mirrorball_pmap::Access;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;
use virtio_queue::Queue;

/// receiveq(port 0) and transmitq(port 0) (clause 5.3.2).
const QUEUE_SIZES: [u16; 2] = [64, 64];
/// Index of transmitq(port 0).
const TRANSMIT: usize = 1;
/// Most bytes in one chain: no driver prints more at a time.
const MAX_OUTPUT: u64 = 1 << 20;

/// Something that sees a guest's output as it comes.
pub type Sink = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// One guest's console.
pub struct Console {
    tail_bytes: usize,
    tail: Mutex<VecDeque<u8>>,
    sink: Option<Sink>,
}

impl Console {
    /// A console that keeps the last `tail_bytes` bytes of output.
    #[must_use]
    pub fn new(tail_bytes: usize) -> Self {
        Self {
            tail_bytes,
            tail: Mutex::new(VecDeque::new()),
            sink: None,
        }
    }

    /// The same, and every byte goes to `sink` too, on a device worker's thread.
    #[must_use]
    pub fn with_sink(self, sink: Sink) -> Self {
        Self {
            sink: Some(sink),
            ..self
        }
    }

    /// The last bytes of output; what is not UTF-8 is shown as replacement characters.
    #[must_use]
    pub fn tail(&self) -> String {
        String::from_utf8_lossy(self.tail.lock().make_contiguous()).into_owned()
    }

    fn print(&self, output: &[u8]) {
        if let Some(sink) = &self.sink {
            sink(output);
        }
        let kept = &output[output.len().saturating_sub(self.tail_bytes)..];
        let mut tail = self.tail.lock();
        let excess = (tail.len() + kept.len()).saturating_sub(self.tail_bytes);
        tail.drain(..excess);
        tail.extend(kept);
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

    fn read_config(&self, _offset: u64, _data: &mut [u8]) {}

    /// Input buffers stay with the device: nobody types.
    fn process(
        &self,
        queue: usize,
        ring: &mut Queue,
        access: &Access<'_>,
    ) -> Result<Completed, DeviceError> {
        if queue != TRANSMIT {
            return Ok(Completed::default());
        }
        let memory = access.memory();
        queue::drain(ring, memory, |chain| {
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
        })
    }

    fn reset(&self) {}
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("tail_bytes", &self.tail_bytes)
            .field("sink", &self.sink.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded_and_keeps_the_end() {
        let console = Console::new(8);
        console.print(b"abc");
        assert_eq!(console.tail(), "abc");
        console.print(b"defghij");
        assert_eq!(console.tail(), "cdefghij");
        console.print(b"0123456789");
        assert_eq!(console.tail(), "23456789");
    }

    #[test]
    fn a_console_may_keep_nothing() {
        let console = Console::new(0);
        console.print(b"abc");
        assert_eq!(console.tail(), "");
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
