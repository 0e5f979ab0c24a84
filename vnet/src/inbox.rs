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

/// What waits from one sender, in all lanes.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    packets: usize,
    bytes: usize,
}

/// What waits from one sender in one lane.
#[derive(Debug, Default)]
struct Flow {
    packets: VecDeque<Arc<Packet>>,
    credit: usize,
}

/// What waits in one lane.
#[derive(Debug, Default)]
struct Lane {
    /// Senders of whom something waits.
    flows: BTreeMap<u64, Flow>,
    /// The same, in the order of their turns.
    turns: VecDeque<u64>,
}

impl Lane {
    fn push(&mut self, from: u64, packet: Arc<Packet>) {
        let flow = self.flows.entry(from).or_insert_with(|| {
            self.turns.push_back(from);
            Flow::default()
        });
        flow.packets.push_back(packet);
    }

    /// The next packet by fair turns, and its sender.
    fn pop(&mut self) -> Option<(u64, Arc<Packet>)> {
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
            let packet = flow.packets.pop_front();
            if flow.packets.is_empty() {
                self.flows.remove(&from);
                self.turns.pop_front();
            }
            return packet.map(|packet| (from, packet));
        }
    }
}

/// All that waits for one receiver, spread over its lanes by connections. A sender's bound holds for
/// all of them together, however many connections it has.
#[derive(Debug)]
pub(crate) struct Inbox {
    lanes: Box<[Lane]>,
    /// How many of these are in use, from the first; at least one.
    open: usize,
    held: BTreeMap<u64, Held>,
}

impl Inbox {
    /// With so many lanes, the first in use.
    pub(crate) fn new(lanes: usize) -> Self {
        Self {
            lanes: (0..lanes.max(1)).map(|_| Lane::default()).collect(),
            open: 1,
            held: BTreeMap::new(),
        }
    }

    /// Adds a packet of the sender `from` and the connection `flow`; gives it back when the sender has
    /// its bound waiting already. Answers with the lane that it came to, if nothing waited there.
    pub(crate) fn push(
        &mut self,
        (from, flow): (u64, u32),
        packet: Arc<Packet>,
        bounds: Bounds,
    ) -> Result<Option<usize>, Arc<Packet>> {
        let held = self.held.entry(from).or_default();
        let bytes = held.bytes.saturating_add(packet.bytes());
        if held.packets > 0 && (held.packets >= bounds.packets || bytes > bounds.bytes) {
            return Err(packet);
        }
        *held = Held {
            packets: held.packets + 1,
            bytes,
        };
        Ok(self.put(from, flow, packet))
    }

    fn put(&mut self, from: u64, flow: u32, packet: Arc<Packet>) -> Option<usize> {
        let number = flow as usize % self.open;
        let lane = self.lanes.get_mut(number)?;
        let idle = lane.turns.is_empty();
        lane.push(from, packet);
        idle.then_some(number)
    }

    /// The next packet of a lane, by fair turns.
    pub(crate) fn pop(&mut self, lane: usize) -> Option<Arc<Packet>> {
        let (from, packet) = self.lanes.get_mut(lane)?.pop()?;
        if let Some(held) = self.held.get_mut(&from) {
            held.packets -= 1;
            held.bytes -= packet.bytes();
            if held.packets == 0 {
                self.held.remove(&from);
            }
        }
        Some(packet)
    }

    pub(crate) fn is_empty(&self, lane: usize) -> bool {
        let lane = self.lanes.get(lane);
        lane.is_none_or(|lane| lane.turns.is_empty())
    }

    /// Uses so many lanes from now on, at least one and no more than there are, and spreads what waits
    /// anew, each connection's in its order. Answers in which lanes something waits then.
    pub(crate) fn set_lanes(&mut self, lanes: usize) -> Vec<usize> {
        let before: Vec<_> = self.lanes.iter_mut().map(std::mem::take).collect();
        self.open = lanes.clamp(1, self.lanes.len());
        for mut lane in before {
            while let Some((from, packet)) = lane.pop() {
                self.put(from, packet.flow(), packet);
            }
        }
        (0..self.open)
            .filter(|lane| !self.is_empty(*lane))
            .collect()
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
        let mut inbox = Inbox::new(1);
        let bounds = Bounds {
            packets: usize::MAX,
            bytes: usize::MAX,
        };
        for _ in 0..100 {
            inbox.push((1, 0), packet(60_000), bounds).unwrap();
            for _ in 0..60 {
                inbox.push((2, 0), packet(1000), bounds).unwrap();
            }
        }
        let (mut large, mut small) = (0_u64, 0_u64);
        while large + small < 3_000_000 {
            match inbox.pop(0).unwrap().bytes() {
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
        let mut inbox = Inbox::new(1);
        assert_eq!(inbox.push((1, 0), packet(200), bounds).ok(), Some(Some(0)));
        assert_eq!(inbox.push((1, 0), packet(300), bounds).ok(), Some(None));
        assert!(inbox.push((1, 0), packet(14), bounds).is_err(), "bytes");
        assert!(
            inbox.push((2, 0), packet(10_000), bounds).is_ok(),
            "one has room"
        );
        for _ in 0..3 {
            inbox.push((3, 0), packet(14), bounds).unwrap();
        }
        assert!(inbox.push((3, 0), packet(14), bounds).is_err(), "packets");
        let mut all = 0;
        while inbox.pop(0).is_some() {
            all += 1;
        }
        assert_eq!(all, 6);
        assert!(inbox.is_empty(0));
    }

    /// A packet of UDP over IPv4 from this port, with a number.
    fn datagram(port: u8, number: u8) -> Arc<Packet> {
        let mut bytes = vec![0; 60];
        (bytes[12], bytes[14], bytes[23], bytes[35]) = (8, 0x45, 17, port);
        bytes[59] = number;
        Arc::new(Packet::new(vec![Piece::Bytes(bytes)], Offload::default()).unwrap())
    }

    #[test]
    fn a_sender_has_one_bound_however_many_connections_it_spreads_over_lanes() {
        let bounds = Bounds {
            packets: 8,
            bytes: usize::MAX,
        };
        let mut inbox = Inbox::new(16);
        inbox.set_lanes(16);
        let push = |inbox: &mut Inbox, from, port| {
            let packet = datagram(port, 0);
            inbox.push((from, packet.flow()), packet, bounds).is_ok()
        };
        let fitted = (0..64).filter(|&port| push(&mut inbox, 1, port)).count();
        assert_eq!(fitted, 8);
        assert!(push(&mut inbox, 2, 0), "another sender has its own");
        let lanes = (0..16).filter(|&lane| !inbox.is_empty(lane)).count();
        assert!(lanes > 1, "they are spread");
        let taken = (0..16).find_map(|lane| inbox.pop(lane));
        assert!(taken.is_some());
        assert!(
            push(&mut inbox, 1, 0) || push(&mut inbox, 2, 0),
            "what was taken makes room"
        );
    }

    #[test]
    fn what_waits_stays_in_order_when_the_number_of_lanes_changes() {
        let bounds = Bounds::default();
        let mut inbox = Inbox::new(4);
        inbox.set_lanes(4);
        for number in 0..40 {
            let packet = datagram(number % 10, number);
            inbox.push((1, packet.flow()), packet, bounds).unwrap();
        }
        assert_eq!(inbox.set_lanes(1), [0]);
        assert!(
            (1..4).all(|lane| inbox.is_empty(lane)),
            "nothing is left behind"
        );
        let mut numbers: [Vec<u8>; 10] = Default::default();
        while let Some(packet) = inbox.pop(0) {
            let mut bytes = [0; 60];
            packet.copy_to(&mut bytes);
            numbers[usize::from(bytes[35])].push(bytes[59]);
        }
        for (port, numbers) in (0..).zip(numbers) {
            assert_eq!(numbers, [port, port + 10, port + 20, port + 30]);
        }
        assert!(inbox.held.is_empty());
    }
}
