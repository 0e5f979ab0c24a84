//! Checksums and random numbers for workloads: fast, seeded, and the same in every guest.

/// Mixes 64 bits so that every input bit can change every output bit (the finaliser of SplitMix64).
pub const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A running checksum of words, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// A checksum of nothing yet.
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x9e37_79b9_7f4a_7c15))
    }

    /// Adds one word.
    pub fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// The checksum so far.
    pub fn value(self) -> u64 {
        mix(self.0)
    }
}

/// The checksum of bytes, their number included.
pub fn bytes(data: &[u8]) -> u64 {
    let mut sum = Sum::new(data.len() as u64);
    let (words, rest) = data.as_chunks::<8>();
    for word in words {
        sum.word(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    sum.word(u64::from_le_bytes(last));
    sum.value()
}

/// SplitMix64: one addition and one mix for each number, any seed is good.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence for a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound` (0 when the bound is 0).
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            0
        } else {
            crate::shared::usize_of(self.next() % bound as u64)
        }
    }

    /// True in `percent` of the cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_sees_order_length_and_every_bit() {
        let base = bytes(b"the quick brown fox");
        assert_ne!(base, bytes(b"the quick brown fow"));
        assert_ne!(bytes(b"\0"), bytes(b"\0\0"));
        assert_ne!(bytes(b"12345678abcdefgh"), bytes(b"abcdefgh12345678"));
    }

    #[test]
    fn seeds_give_their_own_sequence_again() {
        let sequence = |seed| {
            let mut random = Random::new(seed);
            core::array::from_fn::<u64, 8, _>(|_| random.next())
        };
        assert_eq!(sequence(7), sequence(7));
        assert_ne!(sequence(7), sequence(8));
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| random.below(7) < 7));
        assert_eq!(random.below(0), 0);
    }
}
