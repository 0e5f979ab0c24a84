//! What waits for one receiver: a bounded queue for each sender, served in turn by bytes.
//!
//! Deficit round robin (Shreedhar and Varghese, SIGCOMM'95): a sender that floods a receiver fills
//! its own queue and takes its own share of the receiver's time, nobody else's.

use crate::Packet;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Bytes that a sender may have delivered in one turn.
const QUANTUM: usize = 64 << 10;

/// Most that waits from one sender for one receiver; what comes beyond is dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Packets.
    pub packets: usize,
    /// Their bytes. One packet always has room.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            packets: 4096,
            bytes: 16 << 20,
        }
    }
}

/// What waits from one sender.
#[derive(Debug, Default)]
struct Flow {
    packets: VecDeque<Arc<Packet>>,
    bytes: usize,
    credit: usize,
}

/// All that waits for one receiver.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Senders of whom something waits.
    flows: BTreeMap<u64, Flow>,
    /// The same, in the order of their turns.
    turns: VecDeque<u64>,
}

impl Inbox {
    /// Adds a packet of the sender `from`; gives it back when that has its bound waiting already.
    /// Answers whether nothing waited before.
    pub(crate) fn push(
        &mut self,
        from: u64,
        packet: Arc<Packet>,
        bounds: Bounds,
    ) -> Result<bool, Arc<Packet>> {
        let idle = self.turns.is_empty();
        let flow = self.flows.entry(from).or_insert_with(|| {
            self.turns.push_back(from);
            Flow::default()
        });
        let bytes = flow.bytes + packet.bytes();
        if !flow.packets.is_empty()
            && (flow.packets.len() >= bounds.packets || bytes > bounds.bytes)
        {
            return Err(packet);
        }
        flow.bytes = bytes;
        flow.packets.push_back(packet);
        Ok(idle)
    }

    /// The next packet by fair turns.
    pub(crate) fn pop(&mut self) -> Option<Arc<Packet>> {
        loop {
            let from = *self.turns.front()?;
            let flow = self.flows.get_mut(&from)?;
            let bytes = flow.packets.front().map_or(0, |packet| packet.bytes());
            if bytes > flow.credit {
                flow.credit += QUANTUM;
                self.turns.rotate_left(1);
                continue;
            }
            flow.credit -= bytes;
            flow.bytes -= bytes;
            let packet = flow.packets.pop_front();
            if flow.packets.is_empty() {
                self.flows.remove(&from);
                self.turns.pop_front();
            }
            return packet;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Offload, Piece};

    fn packet(bytes: usize) -> Arc<Packet> {
        Arc::new(Packet::new(vec![Piece::Bytes(vec![0; bytes])], Offload::default()).unwrap())
    }

    #[test]
    fn a_flood_of_large_packets_leaves_half_the_bytes_to_another_sender() {
        let mut inbox = Inbox::default();
        let bounds = Bounds {
            packets: usize::MAX,
            bytes: usize::MAX,
        };
        for _ in 0..100 {
            inbox.push(1, packet(60_000), bounds).unwrap();
            for _ in 0..60 {
                inbox.push(2, packet(1000), bounds).unwrap();
            }
        }
        let (mut large, mut small) = (0_u64, 0_u64);
        while large + small < 3_000_000 {
            match inbox.pop().unwrap().bytes() {
                1000 => small += 1000,
                bytes => large += bytes as u64,
            }
        }
        assert!(
            large.abs_diff(small) <= 2 * QUANTUM as u64,
            "{large} {small}"
        );
    }

    #[test]
    fn a_bound_holds_one_sender_and_not_the_others() {
        let bounds = Bounds {
            packets: 3,
            bytes: 500,
        };
        let mut inbox = Inbox::default();
        assert_eq!(inbox.push(1, packet(200), bounds).ok(), Some(true));
        assert_eq!(inbox.push(1, packet(300), bounds).ok(), Some(false));
        assert!(inbox.push(1, packet(14), bounds).is_err(), "bytes");
        assert!(
            inbox.push(2, packet(10_000), bounds).is_ok(),
            "one has room"
        );
        for _ in 0..3 {
            inbox.push(3, packet(14), bounds).unwrap();
        }
        assert!(inbox.push(3, packet(14), bounds).is_err(), "packets");
        let mut all = 0;
        while inbox.pop().is_some() {
            all += 1;
        }
        assert_eq!(all, 6);
        assert!(inbox.is_empty());
    }
}
