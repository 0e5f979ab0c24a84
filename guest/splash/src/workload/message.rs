//! What stands before the pages of a packet between guests of the same workload.

use crate::net::MESSAGE;
use crate::shared;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// I am here.
    Hello = 1,
    /// Bytes.
    Data = 2,
    /// That number has come.
    Ack = 3,
    /// I send nothing more.
    Done = 4,
}

/// The head of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) number: u64,
    /// Of the bytes that follow, where the workload checks them.
    pub(super) sum: u64,
    /// How many follow, where the workload says.
    pub(super) bytes: usize,
}

impl Head {
    /// The head of a packet without bytes, or without a word of them.
    pub(super) fn new(kind: Kind, number: u64) -> Self {
        Self {
            kind,
            number,
            sum: 0,
            bytes: 0,
        }
    }

    pub(super) fn encode(self) -> [u8; MESSAGE] {
        let mut raw = [0; MESSAGE];
        raw[0] = self.kind as u8;
        raw[8..16].copy_from_slice(&self.number.to_le_bytes());
        raw[16..24].copy_from_slice(&self.sum.to_le_bytes());
        raw[24..32].copy_from_slice(&(self.bytes as u64).to_le_bytes());
        raw
    }

    /// `None` for what is no head.
    pub(super) fn decode(raw: &[u8; MESSAGE]) -> Option<Self> {
        let kinds = [Kind::Hello, Kind::Data, Kind::Ack, Kind::Done];
        let word = |at: usize| Some(u64::from_le_bytes(raw.get(at..at + 8)?.try_into().ok()?));
        Some(Self {
            kind: *kinds.iter().find(|kind| **kind as u8 == raw[0])?,
            number: word(8)?,
            sum: word(16)?,
            bytes: shared::usize_of(word(24)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back_as_they_were() {
        for kind in [Kind::Hello, Kind::Data, Kind::Ack, Kind::Done] {
            let head = Head {
                kind,
                number: u64::MAX - 1,
                sum: 1 << 63,
                bytes: 1 << 20,
            };
            assert_eq!(Head::decode(&head.encode()), Some(head));
        }
        assert_eq!(Head::decode(&[0; MESSAGE]), None);
    }
}
