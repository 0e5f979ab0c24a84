//! Several pairs of queues (virtio 1.2, clause 5.1.6.5.5): which queue is what, and how a driver says how
//! many pairs it uses.
//!
//! Packets for a guest are spread over the pairs by their connections, in the network's port.

use crate::device::DeviceError;
use crate::queue::Buffers;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_ERR, VIRTIO_NET_OK,
};
use vm_memory::GuestMemoryMmap;

/// Most pairs of queues of a device.
pub const MOST_PAIRS: u16 = 16;

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Room for packets of this lane of the port's.
    Receive(usize),
    /// Packets to be sent.
    Transmit,
    /// Commands.
    Control,
}

/// Index of a lane's receive queue; the transmit queue follows it (clause 5.1.2).
pub(super) const fn receives(lane: usize) -> usize {
    2 * lane
}

/// Queues of a device with so many pairs.
pub(super) const fn queues(pairs: usize) -> usize {
    if pairs > 1 { 2 * pairs + 1 } else { 2 }
}

/// What a queue is for, where the control queue follows so many pairs, if there is one.
pub(super) fn kind(queue: usize, before_control: Option<usize>) -> Kind {
    match queue {
        _ if before_control.map(receives) == Some(queue) => Kind::Control,
        _ if queue.is_multiple_of(2) => Kind::Receive(queue / 2),
        _ => Kind::Transmit,
    }
}

/// The number of pairs that a command asks for; `None` if it is another command, or asks for none or
/// more than `most`.
pub(super) fn command(
    asked: &Buffers,
    memory: &GuestMemoryMmap,
    most: usize,
) -> Result<Option<usize>, DeviceError> {
    let mut raw = [0; 4];
    let read = asked.read(memory, &mut raw);
    let read = read.map_err(virtio_queue::Error::GuestMemory)?;
    let [class, command, low, high] = raw;
    let known = u32::from(class) == VIRTIO_NET_CTRL_MQ
        && u32::from(command) == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
    let pairs = usize::from(u16::from_le_bytes([low, high]));
    Ok((known && read == raw.len() && (1..=most).contains(&pairs)).then_some(pairs))
}

/// Answers a command.
pub(super) fn answer(
    room: &Buffers,
    memory: &GuestMemoryMmap,
    good: bool,
) -> Result<u32, DeviceError> {
    let word = if good { VIRTIO_NET_OK } else { VIRTIO_NET_ERR };
    let written = room.write(memory, &[u8::try_from(word).unwrap_or(1)]);
    let written = written.map_err(virtio_queue::Error::GuestMemory)?;
    Ok(u32::try_from(written).unwrap_or(0))
}
