//! How long writes took, as the guests' probe counts it.

use mirrorball_abi::{SampleBuckets, Status, bucket_value};

/// Samples of one or more guests, ticks of the time stamp counter.
#[derive(Debug)]
pub struct Ticks(Vec<u64>);

impl Ticks {
    /// No samples.
    pub fn none() -> Self {
        Self(vec![0; SampleBuckets::EMPTY.counts.len()])
    }

    /// Adds a guest's.
    pub fn add(&mut self, status: &Status) {
        for (sum, count) in self.0.iter_mut().zip(status.write_ticks.counts) {
            *sum += u64::from(count);
        }
    }

    /// A quantile, read off linearly inside its bucket.
    pub fn at(&self, quantile: f64) -> f64 {
        let wanted = self.0.iter().sum::<u64>() as f64 * quantile;
        let mut below = 0.0;
        for (bucket, count) in self.0.iter().enumerate() {
            let count = *count as f64;
            if count > 0.0 && below + count >= wanted {
                let middle = bucket_value(bucket) as f64;
                let width = (bucket_value(bucket + 1) as f64 - middle).max(1.0);
                return middle + width * ((wanted - below) / count - 0.5);
            }
            below += count;
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_read_off_the_buckets() {
        let mut buckets = SampleBuckets::EMPTY;
        (0..100).for_each(|_| buckets.record(8000));
        buckets.record(1 << 30);
        let ticks = Ticks(buckets.counts.map(u64::from).to_vec());
        assert!((ticks.at(0.5) - 8000.0).abs() < 1000.0, "{}", ticks.at(0.5));
        assert!(ticks.at(1.0) > 1e9);
    }
}
