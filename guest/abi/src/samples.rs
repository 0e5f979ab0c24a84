//! A log-linear histogram small enough to live in a shared page.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const SUB_BITS: u32 = 3;
const SUB: usize = 1 << SUB_BITS;
/// Number of buckets: values up to 2^40, eight buckets for each power of two.
pub const BUCKETS: usize = 38 * SUB;

/// Counts of samples by size: eight buckets for each power of two, so a value is known to 12.5 %.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SampleBuckets {
    /// Samples in each bucket.
    pub counts: [u32; BUCKETS],
}

impl SampleBuckets {
    /// No samples.
    pub const EMPTY: Self = Self {
        counts: [0; BUCKETS],
    };

    /// Counts one sample.
    pub fn record(&mut self, value: u64) {
        let count = &mut self.counts[bucket_of(value)];
        *count = count.saturating_add(1);
    }
}

/// The bucket that a value falls into; values over the range fall into the last.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    reason = "masked to the bits of a sub-bucket"
)]
pub const fn bucket_of(value: u64) -> usize {
    if value < SUB as u64 {
        return value as usize & (SUB - 1);
    }
    let exponent = 63 - value.leading_zeros();
    let sub = (value >> (exponent - SUB_BITS)) as usize & (SUB - 1);
    let bucket = (exponent - SUB_BITS + 1) as usize * SUB + sub;
    if bucket < BUCKETS {
        bucket
    } else {
        BUCKETS - 1
    }
}

/// A value in the middle of a bucket.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    reason = "there are fewer than 2^32 buckets"
)]
pub const fn bucket_value(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    let shift = (bucket / SUB - 1) as u32;
    let low = ((SUB + bucket % SUB) as u64) << shift;
    low + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_within_an_eighth() {
        for value in (0..4000).chain([1 << 20, (1 << 30) + 12345, (1 << 39) + 7]) {
            let back = bucket_value(bucket_of(value));
            assert!(
                back.abs_diff(value) * 8 <= value.max(1),
                "{value} came back as {back}"
            );
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }
}
