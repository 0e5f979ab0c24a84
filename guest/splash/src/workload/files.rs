//! A file service over the network: Disco's NFS, without what NFS has besides (Disco, sections 4.3
//! and 5.3).
//!
//! The server sends pages of its buffer cache as they lie there, the client's packets arrive in
//! pages that become its buffer cache as they are: a monitor that moves pages by mapping keeps each
//! block once, whoever has read it. Files are numbered from the largest on and read by clusters
//! of 16 pages; the last page of a file is sent whole.
//!
//! Requests are repeated until they are answered: packets may be lost.

mod client;
mod mount;
mod server;

pub(super) use client::run as read;
pub(super) use mount::{Mount, RemoteFile};
pub(super) use server::run as serve;

use crate::net::MESSAGE;
use mirrorball_abi::layout::PAGE_SIZE;

/// Pages of a cluster.
const CLUSTER: u64 = 16;
/// Bytes of a cluster.
const CLUSTER_BYTES: u64 = CLUSTER * PAGE_SIZE as u64;

/// What a message begins with, after its kind: others speak on the same network.
const MARK: [u8; 3] = *b"fs1";

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// To everybody: who serves?
    Hello,
    /// The answer: `value` files.
    Welcome,
    /// How long is `file`?
    Size,
    /// The answer: `bytes`, and in `value` the checksum of its path.
    Sized,
    /// The pages of `cluster` of `file`.
    Read,
    /// The answer, with the pages: `value` is the checksum of their first `bytes` bytes.
    Data,
    /// The sender needs nothing more.
    Bye,
    /// The answer.
    Gone,
    /// The server can't: the answer to anything.
    Failed,
}

impl Kind {
    /// Whether this answers a request of that kind. Others' requests bear the same numbers as ours.
    const fn answers(self, request: Self) -> bool {
        matches!(
            (request, self),
            (Self::Hello, Self::Welcome)
                | (Self::Size, Self::Sized | Self::Failed)
                | (Self::Read, Self::Data | Self::Failed)
                | (Self::Bye, Self::Gone)
        )
    }
}

const KINDS: [Kind; 9] = [
    Kind::Hello,
    Kind::Welcome,
    Kind::Size,
    Kind::Sized,
    Kind::Read,
    Kind::Data,
    Kind::Bye,
    Kind::Gone,
    Kind::Failed,
];

/// A request or its answer; what a kind does not need is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message {
    kind: Kind,
    /// Number that the answer bears too.
    request: u32,
    file: u32,
    cluster: u32,
    bytes: u64,
    value: u64,
}

impl Message {
    const fn new(kind: Kind, request: u32) -> Self {
        Self {
            kind,
            request,
            file: 0,
            cluster: 0,
            bytes: 0,
            value: 0,
        }
    }

    fn encode(self) -> [u8; MESSAGE] {
        let mut raw = [0; MESSAGE];
        let kind = KINDS.iter().position(|kind| *kind == self.kind);
        raw[0] = kind
            .and_then(|kind| u8::try_from(kind).ok())
            .unwrap_or(u8::MAX);
        raw[1..4].copy_from_slice(&MARK);
        for (at, number) in [(4, self.request), (8, self.file), (12, self.cluster)] {
            raw[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        for (at, number) in [(16, self.bytes), (24, self.value)] {
            raw[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        raw
    }

    /// `None` for what is no message.
    fn decode(raw: &[u8; MESSAGE]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(raw.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(raw.get(at..at + 8)?.try_into().ok()?));
        if raw[1..4] != MARK {
            return None;
        }
        Some(Self {
            kind: *KINDS.get(usize::from(raw[0]))?,
            request: word(4)?,
            file: word(8)?,
            cluster: word(12)?,
            bytes: long(16)?,
            value: long(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_clients_request_is_no_answer() {
        for request in [Kind::Hello, Kind::Size, Kind::Read, Kind::Bye] {
            for other in [Kind::Hello, Kind::Size, Kind::Read, Kind::Bye] {
                assert!(!other.answers(request));
            }
        }
        assert!(Kind::Welcome.answers(Kind::Hello) && !Kind::Failed.answers(Kind::Hello));
    }

    #[test]
    fn messages_come_back_as_they_were() {
        for kind in KINDS {
            let message = Message {
                kind,
                request: 1,
                file: u32::MAX,
                cluster: 7,
                bytes: 1 << 40,
                value: u64::MAX - 1,
            };
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn what_others_say_is_no_message() {
        let hello = Message::new(Kind::Hello, 1).encode();
        for (at, byte) in [(0, 9), (1, 0), (3, 0)] {
            let mut other = hello;
            other[at] = byte;
            assert_eq!(Message::decode(&other), None);
        }
        assert_eq!(Message::decode(&[0; MESSAGE]), None);
    }
}
