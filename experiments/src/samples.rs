//! Samples of one or more guests, as they count them in their status pages.

use mirrorball_abi::{SampleBuckets, bucket_value};

/// Numbers of samples by their size; the unit is that of the guests' field.
#[derive(Clone, Debug)]
pub struct Samples(Vec<u64>);

impl Samples {
    /// No samples.
    pub fn none() -> Self {
        Self(vec![0; SampleBuckets::EMPTY.counts.len()])
    }

    /// Adds a guest's.
    pub fn add(&mut self, buckets: &SampleBuckets) {
        for (sum, count) in self.0.iter_mut().zip(buckets.counts) {
            *sum += u64::from(count);
        }
    }

    /// Those that came since there were these.
    pub fn since(&self, before: &Self) -> Self {
        let counts = self.0.iter().zip(&before.0);
        Self(
            counts
                .map(|(now, then)| now.saturating_sub(*then))
                .collect(),
        )
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
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

    fn samples(of: impl IntoIterator<Item = u64>) -> Samples {
        let mut buckets = SampleBuckets::EMPTY;
        of.into_iter().for_each(|value| buckets.record(value));
        let mut samples = Samples::none();
        samples.add(&buckets);
        samples
    }

    #[test]
    fn quantiles_are_read_off_the_buckets() {
        let samples = samples(std::iter::repeat_n(8000, 100).chain([1 << 30]));
        let half = samples.at(0.5);
        assert!((half - 8000.0).abs() < 1000.0, "{half}");
        assert!(samples.at(1.0) > 1e9);
    }

    #[test]
    fn what_came_before_does_not_count() {
        let mut all = samples(std::iter::repeat_n(1 << 30, 100));
        let before = all.clone();
        assert!(all.since(&before).is_empty());
        let mut later = SampleBuckets::EMPTY;
        later.record(1000);
        all.add(&later);
        assert!(all.since(&before).at(0.999) < 2000.0);
        assert!(all.at(0.999) > 1e9);
    }
}
