//! virtio-vsock (virtio 1.2, clause 5.10): a stream between a guest and the monitor that needs no
//! network and no terminal.
//!
//! It is a control channel: the host listens on one port of its own, a guest connects to it, and what
//! the guest says is kept in whole lines until they are taken. The guest may send as much as there is
//! room for, and waits when nobody takes its lines; nothing is lost, and nothing grows. All other
//! ports, a second stream and whatever makes no sense are answered with a reset.

mod endpoint;
mod header;
#[cfg(test)]
mod tests;

use crate::device::{self, Completed, Device, DeviceError};
use crate::lines::Lines;
use crate::queue::{self, Chain};
use crate::transport::Notifier;
use endpoint::{BUFFER, Endpoint, Received};
use header::{HEADER, Header};
use mirrorball_pmap::Access;
use parking_lot::Mutex;
use std::fmt;
use std::sync::{Arc, OnceLock};
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;

/// rx, tx and event (clause 5.10.2).
const QUEUE_SIZES: [u16; 3] = [64, 64, 8];
/// Index of the rx queue, on which the guest receives.
const RECEIVE: usize = 0;
/// Index of the tx queue, on which the guest transmits.
const TRANSMIT: usize = 1;

/// VIRTIO_VSOCK_F_STREAM (clause 5.10.3).
const STREAMS: u64 = 1;

/// Most bytes that wait for the guest.
pub const MAX_INPUT: usize = 64 << 10;

/// Called when a guest has said something, on a device worker's thread.
pub type Told = Arc<dyn Fn() + Send + Sync>;

/// Why the guest can't be told something; nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It is not connected.
    #[error("the guest is not connected to the control port")]
    NotConnected,
    /// It has not read enough of what waits for it already.
    #[error("the guest does not read its control stream: {waiting} bytes wait for it")]
    Full {
        /// Bytes that wait.
        waiting: usize,
    },
}

/// One guest's socket device.
pub struct Vsock {
    guest: u32,
    state: Mutex<State>,
    told: Told,
    notifier: OnceLock<Notifier>,
}

#[derive(Debug)]
struct State {
    endpoint: Endpoint,
    lines: Lines,
    /// The transmit queue was left for want of room for answers.
    stalled: bool,
}

impl Vsock {
    /// The device of the guest with the context identifier `guest`, from 3 on, which may connect to
    /// `port` of the host. `told` is called when there are lines to take; it may take them.
    #[must_use]
    pub fn new(guest: u32, port: u32, told: Told) -> Self {
        Self {
            guest,
            state: Mutex::new(State {
                endpoint: Endpoint::new(guest, port),
                lines: Lines::default(),
                stalled: false,
            }),
            told,
            notifier: OnceLock::new(),
        }
    }

    /// Whether the guest is connected.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.state.lock().endpoint.connected()
    }

    /// The whole lines that the guest has said since the last call, without their ends. A guest that
    /// has said some 500 KiB that were not taken waits.
    #[must_use = "a line is given once"]
    pub fn take_lines(&self) -> Vec<String> {
        let mut state = self.state.lock();
        let lines = state.lines.take();
        state.consume();
        let answer = state.endpoint.has_packet();
        drop(state);
        if answer {
            self.ring(RECEIVE);
        }
        lines
    }

    /// Lines that were longer than [`MAX_LINE`](crate::console::MAX_LINE) and are cut.
    #[must_use]
    pub fn damaged_lines(&self) -> u64 {
        self.state.lock().lines.damaged()
    }

    /// Tells the guest `bytes`: all of them or none.
    ///
    /// # Errors
    /// It is not connected, or more than [`MAX_INPUT`] bytes would wait for it.
    pub fn send(&self, bytes: &[u8]) -> Result<(), SendError> {
        let mut state = self.state.lock();
        if !state.endpoint.connected() {
            return Err(SendError::NotConnected);
        }
        let waiting = state.endpoint.waiting();
        if bytes.len() > MAX_INPUT.saturating_sub(waiting) {
            return Err(SendError::Full { waiting });
        }
        state.endpoint.send(bytes);
        drop(state);
        self.ring(RECEIVE);
        Ok(())
    }

    fn ring(&self, queue: usize) {
        if let Some(notifier) = self.notifier.get() {
            notifier.ring(queue);
        }
    }

    /// Takes the packet in a chain. One that is too short for a header says nothing, not even whom to
    /// answer.
    fn transmit(&self, chain: Chain, memory: &GuestMemoryMmap) -> Result<(), DeviceError> {
        let Some((header, payload)) = chain.readable.split_at(HEADER as u64) else {
            return Ok(());
        };
        let mut raw = [0; HEADER];
        header.read(memory, &mut raw).map_err(memory_fault)?;
        let header = Header::parse(&raw);
        let mut state = self.state.lock();
        match state.endpoint.receive(&header, payload.bytes()) {
            Received::Nothing => return Ok(()),
            Received::Connected => {
                state.lines.forget_begun();
                return Ok(());
            }
            Received::Data => {}
        }
        // Bounded by the room that the guest was given.
        let mut data = vec![0; header.len as usize];
        payload.read(memory, &mut data).map_err(memory_fault)?;
        state.lines.push(&data);
        state.consume();
        drop(state);
        (self.told)();
        Ok(())
    }

    /// Fills a chain with the next packet; answers how many bytes it has.
    fn receive(&self, chain: &Chain, memory: &GuestMemoryMmap) -> Result<u32, DeviceError> {
        let room = usize::try_from(chain.writable.bytes()).unwrap_or(usize::MAX);
        let Some(room) = room.checked_sub(HEADER) else {
            return Ok(0);
        };
        let Some((header, payload)) = self.state.lock().endpoint.next(room) else {
            return Ok(0);
        };
        let packet = [&header.build()[..], &payload].concat();
        let written = chain.writable.write(memory, &packet);
        Ok(u32::try_from(written.map_err(memory_fault)?).unwrap_or(0))
    }

    /// Serves the rx queue: packets for the guest.
    fn serve_receive(
        &self,
        ring: &mut Queue,
        memory: &GuestMemoryMmap,
    ) -> Result<Completed, DeviceError> {
        let wanted = || self.state.lock().endpoint.has_packet();
        let completed = queue::visit(ring, memory, wanted, |ring, chain| {
            let written = self.receive(&chain, memory)?;
            ring.add_used(memory, chain.head, written)?;
            Ok(1)
        })?;
        let mut state = self.state.lock();
        let go_on = state.stalled && !state.endpoint.full();
        state.stalled &= !go_on;
        drop(state);
        if go_on {
            self.ring(TRANSMIT);
        }
        Ok(completed)
    }

    /// Serves the tx queue for as long as there is room for answers.
    fn serve_transmit(
        &self,
        ring: &mut Queue,
        memory: &GuestMemoryMmap,
    ) -> Result<Completed, DeviceError> {
        let wanted = || {
            let mut state = self.state.lock();
            let full = state.endpoint.full();
            state.stalled |= full;
            !full
        };
        let completed = queue::visit(ring, memory, wanted, |ring, chain| {
            let head = chain.head;
            self.transmit(chain, memory)?;
            ring.add_used(memory, head, 0)?;
            Ok(1)
        })?;
        let answer = self.state.lock().endpoint.has_packet();
        if answer {
            self.ring(RECEIVE);
        }
        Ok(completed)
    }
}

impl State {
    /// Lets the guest go on as long as there is room for all that it may send then.
    fn consume(&mut self) {
        if self.lines.has_room(BUFFER as usize) {
            self.endpoint.consume();
        }
    }
}

fn memory_fault(error: vm_memory::GuestMemoryError) -> DeviceError {
    virtio_queue::Error::GuestMemory(error).into()
}

impl Device for Vsock {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    fn features(&self) -> u64 {
        STREAMS
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    /// `struct virtio_vsock_config`: the guest's context identifier.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = u64::from(self.guest).to_le_bytes();
        device::read_config(&config, offset, data);
    }

    fn attach(&self, notifier: Notifier) {
        // A second transport before one device would be the monitor's mistake; the first counts.
        let _ = self.notifier.set(notifier);
    }

    /// Buffers of the event queue stay with the device: nothing ever happens that it is for.
    fn process(
        &self,
        queue: usize,
        ring: &mut Queue,
        access: &Access<'_>,
    ) -> Result<Completed, DeviceError> {
        match queue {
            RECEIVE => self.serve_receive(ring, access.memory()),
            TRANSMIT => self.serve_transmit(ring, access.memory()),
            _ => Ok(Completed::default()),
        }
    }

    fn reset(&self) {
        let mut state = self.state.lock();
        state.endpoint.reset();
        state.stalled = false;
    }
}

impl fmt::Debug for Vsock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vsock")
            .field("guest", &self.guest)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
