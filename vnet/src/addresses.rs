//! Which port an address is behind.
//!
//! An entry is one word, address and port together, so that it is read and replaced without a lock
//! and never seen half. Addresses that ports were given are exact; those learnt from packets are a
//! cache, where a newer one may push out another: its packets go to all ports that learn again.

use crate::Mac;
use std::sync::atomic::{AtomicU64, Ordering};

/// Learnt addresses that share a place; one of them goes when a fifth comes.
const WAYS: usize = 4;
/// Places for learnt addresses.
const SETS: usize = 1024;

const EMPTY: u64 = 0;
/// An entry that was taken out: a search goes on behind it.
const GONE: u64 = u64::MAX;

const fn entry(mac: u64, port: u16) -> u64 {
    mac << 16 | port as u64
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the lower 16 bits are the port"
)]
const fn port_of(entry: u64) -> u16 {
    (entry & 0xffff) as u16
}

/// Spreads addresses that differ in a few bits.
#[allow(
    clippy::cast_possible_truncation,
    reason = "only the upper bits are kept, 32 of them"
)]
const fn spread(mac: u64) -> usize {
    (mac.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

/// The addresses of one network.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// A hash table with linear probing; changed by one thread at a time.
    given: Box<[AtomicU64]>,
    learnt: Box<[[AtomicU64; WAYS]]>,
    next_way: AtomicU64,
}

impl Addresses {
    /// Room for the addresses of `ports` ports.
    pub(crate) fn new(ports: usize) -> Self {
        let places = (2 * ports).next_power_of_two();
        Self {
            given: (0..places).map(|_| AtomicU64::new(EMPTY)).collect(),
            learnt: (0..SETS).map(|_| Default::default()).collect(),
            next_way: AtomicU64::new(0),
        }
    }

    /// The port with this address, given or learnt.
    pub(crate) fn find(&self, mac: Mac) -> Option<u16> {
        self.find_given(mac).or_else(|| {
            let number = mac.number();
            let ways = self.learnt.get(spread(number) % SETS)?;
            let found = ways.iter().map(|way| way.load(Ordering::Relaxed));
            let mut found = found.filter(|&found| found != EMPTY && found >> 16 == number);
            found.next().map(port_of)
        })
    }

    /// The port that was given this address.
    pub(crate) fn find_given(&self, mac: Mac) -> Option<u16> {
        let number = mac.number();
        for place in self.probe(number) {
            match place.load(Ordering::Acquire) {
                EMPTY => return None,
                found if found != GONE && found >> 16 == number => return Some(port_of(found)),
                _ => {}
            }
        }
        None
    }

    /// Gives a port its address. The caller keeps others from changing given addresses.
    pub(crate) fn give(&self, mac: Mac, port: u16) {
        for place in self.probe(mac.number()) {
            if matches!(place.load(Ordering::Relaxed), EMPTY | GONE) {
                place.store(entry(mac.number(), port), Ordering::Release);
                return;
            }
        }
    }

    /// A packet with this source came from a port that learns.
    pub(crate) fn learn(&self, mac: Mac, port: u16) {
        let (number, new) = (mac.number(), entry(mac.number(), port));
        let Some(ways) = self.learnt.get(spread(number) % SETS) else {
            return;
        };
        let known = ways.iter().find(|way| {
            let found = way.load(Ordering::Relaxed);
            found == EMPTY || found >> 16 == number
        });
        let way = known.or_else(|| {
            let turn = self.next_way.fetch_add(1, Ordering::Relaxed) % WAYS as u64;
            ways.get(usize::try_from(turn).unwrap_or(0))
        });
        if let Some(way) = way.filter(|way| way.load(Ordering::Relaxed) != new) {
            way.store(new, Ordering::Relaxed);
        }
    }

    /// A port has gone, with all that was behind it. The caller keeps others from changing given
    /// addresses.
    pub(crate) fn forget(&self, port: u16) {
        for place in &self.given {
            let found = place.load(Ordering::Relaxed);
            if !matches!(found, EMPTY | GONE) && port_of(found) == port {
                place.store(GONE, Ordering::Release);
            }
        }
        for way in self.learnt.iter().flatten() {
            let found = way.load(Ordering::Relaxed);
            if found != EMPTY && port_of(found) == port {
                // Another may have been learnt there meanwhile: it stays.
                let _ = way.compare_exchange(found, EMPTY, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    fn probe(&self, number: u64) -> impl Iterator<Item = &AtomicU64> {
        let start = spread(number) % self.given.len();
        let (behind, ahead) = self.given.split_at(start);
        ahead.iter().chain(behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_addresses_are_exact_and_come_and_go() {
        let addresses = Addresses::new(8);
        for round in 0..20 {
            for port in 0..8 {
                addresses.give(Mac::numbered(round * 8 + u32::from(port)), port);
            }
            for port in 0..8 {
                let mac = Mac::numbered(round * 8 + u32::from(port));
                assert_eq!(addresses.find(mac), Some(port));
            }
            assert_eq!(addresses.find(Mac::numbered(9999)), None);
            (0..8).for_each(|port| addresses.forget(port));
            assert_eq!(addresses.find(Mac::numbered(round * 8)), None);
        }
    }

    #[test]
    fn what_is_learnt_never_displaces_what_is_given() {
        let addresses = Addresses::new(4);
        addresses.give(Mac::numbered(1), 1);
        addresses.learn(Mac::numbered(1), 3);
        assert_eq!(addresses.find(Mac::numbered(1)), Some(1));
        for number in 2..100_000 {
            addresses.learn(Mac::numbered(number), 3);
        }
        assert_eq!(addresses.find(Mac::numbered(1)), Some(1));
        assert_eq!(addresses.find(Mac::numbered(99_999)), Some(3));
        addresses.learn(Mac::numbered(99_999), 2);
        assert_eq!(
            addresses.find(Mac::numbered(99_999)),
            Some(2),
            "it has moved"
        );
        addresses.forget(3);
        addresses.forget(2);
        assert_eq!(addresses.find(Mac::numbered(99_999)), None);
    }
}
