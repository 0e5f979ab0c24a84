//! How fast and how late a port's packets get onto its network, for experiments with slow links.
//!
//! When a packet is due follows from the port's limits, its seed, and the times and lengths of the
//! packets before it; a thread of the network's delivers what is due. Ports without limits know nothing
//! of all this: their senders deliver.

use crate::Packet;
use crate::port::Station;
use parking_lot::{Condvar, Mutex};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Limits of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that it sends in a second at most.
    pub rate: Option<NonZeroU64>,
    /// Time after which a packet that was sent arrives.
    pub delay: Duration,
    /// Most that is added to the delay, by chance; packets stay in their order.
    pub jitter: Duration,
    /// What that chance follows from.
    pub seed: u64,
}

/// When packets of one port are due.
#[derive(Debug)]
pub(crate) struct Shaper {
    limits: Limits,
    /// When the link is free for the next packet, since the port's first moment.
    free: Duration,
    /// When the last packet is due.
    last: Duration,
    packets: u64,
}

impl Shaper {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            free: Duration::ZERO,
            last: Duration::ZERO,
            packets: 0,
        }
    }

    /// When a packet of so many bytes is due that is sent now.
    pub(crate) fn due(&mut self, now: Duration, bytes: usize) -> Duration {
        let Limits {
            rate,
            delay,
            jitter,
            seed,
        } = self.limits;
        let takes = rate.map_or(Duration::ZERO, |rate| time_for(bytes, rate));
        self.free = self.free.max(now).saturating_add(takes);
        self.packets += 1;
        let chance = mix(seed ^ mix(self.packets));
        let most = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX);
        let extra = Duration::from_nanos(chance % most.saturating_add(1).max(1));
        let due = self.free.saturating_add(delay).saturating_add(extra);
        self.last = self.last.max(due);
        self.last
    }
}

fn time_for(bytes: usize, rate: NonZeroU64) -> Duration {
    let nanos = bytes as u128 * 1_000_000_000 / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Every bit of the input changes every bit of the output with the same chance (`SplitMix64`).
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A packet that is due some time.
#[derive(Debug)]
struct Late {
    due: Instant,
    /// Packets that are due at one time stay in their order.
    number: u64,
    from: Arc<Station>,
    packet: Arc<Packet>,
}

impl PartialEq for Late {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Late {}

impl PartialOrd for Late {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Late {
    /// The next is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

#[derive(Debug, Default)]
struct Waiting {
    late: BinaryHeap<Late>,
    number: u64,
    end: bool,
}

/// What is on its way, in the order in which it is due.
#[derive(Debug, Default)]
pub(crate) struct Line {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Line {
    pub(crate) fn push(&self, due: Instant, from: Arc<Station>, packet: Arc<Packet>) {
        let mut waiting = self.waiting.lock();
        waiting.number += 1;
        let number = waiting.number;
        waiting.late.push(Late {
            due,
            number,
            from,
            packet,
        });
        self.changed.notify_one();
    }

    /// Waits for the next packet that is due; `None` when the network ends.
    pub(crate) fn next(&self) -> Option<(Arc<Station>, Arc<Packet>)> {
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.end {
                return None;
            }
            match waiting.late.peek().map(|late| late.due) {
                None => self.changed.wait(&mut waiting),
                Some(due) if due > Instant::now() => {
                    self.changed.wait_until(&mut waiting, due);
                }
                Some(_) => {
                    let Late { from, packet, .. } = waiting.late.pop()?;
                    return Some((from, packet));
                }
            }
        }
    }

    /// Nothing is delivered any more.
    pub(crate) fn end(&self) {
        self.waiting.lock().end = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn packets_leave_at_the_rate_and_arrive_after_the_delay() {
        let mut shaper = Shaper::new(Limits {
            rate: NonZeroU64::new(1_000_000),
            delay: 5 * MS,
            ..Limits::default()
        });
        let due: Vec<_> = (0..3).map(|_| shaper.due(Duration::ZERO, 1000)).collect();
        assert_eq!(due, [6 * MS, 7 * MS, 8 * MS]);
        assert_eq!(
            shaper.due(100 * MS, 500),
            105 * MS + MS / 2,
            "an idle link saves nothing up"
        );
    }

    #[test]
    fn jitter_is_bounded_the_same_for_a_seed_and_keeps_the_order() {
        let sequence = |seed| {
            let mut shaper = Shaper::new(Limits {
                jitter: 3 * MS,
                seed,
                ..Limits::default()
            });
            let now = (0..1000).map(|sent| sent * MS / 10);
            now.map(|now| (now, shaper.due(now, 1))).collect::<Vec<_>>()
        };
        assert_eq!(sequence(1), sequence(1));
        assert_ne!(sequence(1), sequence(2));
        let all = sequence(1);
        assert!(all.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        assert!(
            all.iter()
                .all(|(sent, due)| *sent <= *due && *due <= *sent + 3 * MS)
        );
        assert!(all.iter().any(|(sent, due)| *due > *sent + 2 * MS));
    }

    #[test]
    fn no_number_is_too_large() {
        let mut shaper = Shaper::new(Limits {
            rate: NonZeroU64::new(1),
            delay: Duration::MAX,
            jitter: Duration::MAX,
            seed: 0,
        });
        assert_eq!(shaper.due(Duration::MAX, usize::MAX), Duration::MAX);
    }
}
