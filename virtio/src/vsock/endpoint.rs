//! The host's end of a guest's stream: who is connected, what either side may still send, and what
//! is to be answered (virtio 1.2, clauses 5.10.6.3 to 5.10.6.5).
//!
//! It knows headers and numbers of bytes only, neither queues nor memory nor what the bytes mean, and
//! takes anything that a guest may say. There is one stream at a time: what the host has to say and
//! to hear is for one party in the guest.

use super::header::{
    Address, Credit, HOST, Header, NO_MORE_RECEIVED, NO_MORE_SENT, Operation, STREAM,
};
use std::collections::VecDeque;

/// Bytes that a guest may send before it hears that they were consumed.
pub(super) const BUFFER: u32 = 16 << 10;
/// Most answers that wait for room in the guest's receive queue.
const MOST_REPLIES: usize = 64;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// It is dealt with.
    Nothing,
    /// A stream begins.
    Connected,
    /// Its payload continues the stream.
    Data,
}

/// The host's end.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// The guest's machine number.
    guest: u64,
    /// The port that may be connected to.
    port: u32,
    stream: Option<Stream>,
    replies: VecDeque<Header>,
    /// What the host has to say on the stream.
    input: VecDeque<u8>,
}

/// A stream; numbers of bytes count from its beginning, modulo 2^32.
#[derive(Debug, Default)]
struct Stream {
    /// The guest's port.
    port: u32,
    received: u32,
    consumed: u32,
    /// How much of `consumed` the guest was told of.
    told: u32,
    /// The guest is to be told.
    credit_due: bool,
    sent: u32,
    /// What the guest can take.
    peer: Credit,
    /// Which directions the guest has ended.
    ended: u32,
}

impl Endpoint {
    pub(super) fn new(guest: u32, port: u32) -> Self {
        Self {
            guest: guest.into(),
            port,
            stream: None,
            replies: VecDeque::new(),
            input: VecDeque::new(),
        }
    }

    pub(super) fn connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether so many answers wait that no more packets can be taken.
    pub(super) fn full(&self) -> bool {
        self.replies.len() >= MOST_REPLIES
    }

    /// Takes a packet whose buffers hold so many bytes after the header. What is malformed or
    /// unexpected ends its stream and is answered with a reset.
    pub(super) fn receive(&mut self, header: &Header, payload: u64) -> Received {
        if header.from.machine != self.guest {
            // Not this guest's address: there is nobody to answer.
            return Received::Nothing;
        }
        let refused = header.operation == Operation::RESET;
        let received = if refused {
            None
        } else {
            self.take(header, payload)
        };
        received.unwrap_or_else(|| {
            if self.is_peer(header) {
                self.end();
            }
            // A reset is never answered: two ends could go on for ever.
            if !refused {
                self.reply(header, Operation::RESET);
            }
            Received::Nothing
        })
    }

    /// `None` if the packet is to be answered with a reset.
    fn take(&mut self, header: &Header, payload: u64) -> Option<Received> {
        let for_us = header.to == self.address() && header.kind == STREAM;
        let bytes = if header.operation == Operation::DATA {
            u64::from(header.len) <= payload
        } else {
            header.len == 0
        };
        if !for_us || !bytes {
            return None;
        }
        if header.operation == Operation::REQUEST {
            return self.connect(header);
        }
        let stream = self.stream.as_mut();
        let stream = stream.filter(|stream| stream.port == header.from.port)?;
        stream.peer = header.credit;
        match header.operation {
            Operation::DATA => return stream.accept(header.len).then_some(Received::Data),
            Operation::CREDIT_UPDATE => {}
            Operation::CREDIT_REQUEST => stream.credit_due = true,
            Operation::SHUTDOWN => {
                stream.ended |= header.flags & (NO_MORE_RECEIVED | NO_MORE_SENT);
                if stream.ended == NO_MORE_RECEIVED | NO_MORE_SENT {
                    // The reset confirms that it is over.
                    return None;
                }
            }
            _ => return None,
        }
        Some(Received::Nothing)
    }

    fn connect(&mut self, header: &Header) -> Option<Received> {
        if self.stream.is_some() {
            return None;
        }
        self.stream = Some(Stream {
            port: header.from.port,
            peer: header.credit,
            ..Stream::default()
        });
        self.reply(header, Operation::RESPONSE);
        Some(Received::Connected)
    }

    /// All that was received so far is consumed.
    pub(super) fn consume(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.consumed = stream.received;
            let news = stream.consumed.wrapping_sub(stream.told);
            stream.credit_due |= news >= BUFFER / 2;
        }
    }

    /// Bytes that wait to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.input.len()
    }

    /// Sends these bytes when the guest has room; nobody hears them if there is no stream.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if self.connected() {
            self.input.extend(bytes);
        }
    }

    /// Whether there is a packet for the guest.
    pub(super) fn has_packet(&self) -> bool {
        let due = self.stream.as_ref().is_some_and(|stream| stream.credit_due);
        due || !self.replies.is_empty() || self.sendable() > 0
    }

    /// The next packet for the guest, with a payload of `room` bytes at most.
    pub(super) fn next(&mut self, room: usize) -> Option<(Header, Vec<u8>)> {
        if let Some(reply) = self.replies.pop_front() {
            return Some((reply, Vec::new()));
        }
        let bytes = self.sendable().min(room);
        let (from, guest) = (self.address(), self.guest);
        let stream = self.stream.as_mut()?;
        let operation = match bytes {
            0 if !stream.credit_due => return None,
            0 => Operation::CREDIT_UPDATE,
            _ => Operation::DATA,
        };
        let len = u32::try_from(bytes).ok()?;
        let payload = self.input.drain(..bytes).collect();
        stream.sent = stream.sent.wrapping_add(len);
        stream.told = stream.consumed;
        stream.credit_due = false;
        let header = Header {
            from,
            to: Address {
                machine: guest,
                port: stream.port,
            },
            len,
            kind: STREAM,
            operation,
            flags: 0,
            credit: stream.credit(),
        };
        Some((header, payload))
    }

    /// Forgets everything: the driver has begun anew.
    pub(super) fn reset(&mut self) {
        self.end();
        self.replies.clear();
    }

    fn address(&self) -> Address {
        Address {
            machine: HOST,
            port: self.port,
        }
    }

    /// Whether a packet comes from the other end of the stream.
    fn is_peer(&self, header: &Header) -> bool {
        let port = self.stream.as_ref().map(|stream| stream.port);
        header.to == self.address() && port == Some(header.from.port)
    }

    fn end(&mut self) {
        self.stream = None;
        self.input.clear();
    }

    fn reply(&mut self, to: &Header, operation: Operation) {
        if self.full() {
            return;
        }
        let credit = self.stream.as_ref().map(Stream::credit);
        self.replies.push_back(Header {
            from: to.to,
            to: to.from,
            len: 0,
            kind: to.kind,
            operation,
            flags: 0,
            credit: credit.unwrap_or_default(),
        });
    }

    /// Bytes that wait and that the guest has room for.
    fn sendable(&self) -> usize {
        let room = self.stream.as_ref().map_or(0, Stream::room);
        self.input.len().min(room)
    }
}

impl Stream {
    /// Whether the guest was free to send so many bytes.
    fn accept(&mut self, bytes: u32) -> bool {
        let unread = self.received.wrapping_sub(self.consumed);
        let fits = bytes <= BUFFER.saturating_sub(unread);
        let accepted = fits && self.ended & NO_MORE_SENT == 0;
        if accepted {
            self.received = self.received.wrapping_add(bytes);
        }
        accepted
    }

    /// Bytes that the guest has room for, by its own word.
    fn room(&self) -> usize {
        if self.ended & NO_MORE_RECEIVED != 0 {
            return 0;
        }
        let under_way = self.sent.wrapping_sub(self.peer.consumed);
        let room = self.peer.buffer.saturating_sub(under_way);
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// What the guest is told of our room.
    fn credit(&self) -> Credit {
        Credit {
            buffer: BUFFER,
            consumed: self.consumed,
        }
    }
}
