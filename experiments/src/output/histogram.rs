//! Histograms in the HdrHistogram log format, which other tools read.

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

/// Histograms of one run: what of, and the values in nanoseconds.
pub type Histograms = Vec<(&'static str, Histogram<u64>)>;

/// The log of one run.
///
/// # Errors
/// A histogram can't be encoded.
pub fn log(histograms: &Histograms, began: SystemTime, took: Duration) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("values are nanoseconds; the maximum is shown in milliseconds")
        .with_start_time(began)
        .with_base_time(began)
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut bytes, &mut serializer)
        .map_err(|error| error.to_string())?;
    for (name, histogram) in histograms {
        log.write_histogram(histogram, Duration::ZERO, took, Tag::new(name))
            .map_err(|error| error.to_string())?;
    }
    drop(log);
    Ok(bytes)
}

/// The sum of two histograms of the same kind, whatever their bounds.
#[must_use]
pub fn merged(parts: impl IntoIterator<Item = Histogram<u64>>) -> Option<Histogram<u64>> {
    parts.into_iter().reduce(|mut sum, part| {
        if sum.add(&part).is_err() {
            // The sum can't hold a value of the part: let it grow.
            sum.auto(true);
            let _ = sum.add(&part);
        }
        sum
    })
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    #[test]
    fn a_log_is_read_back_with_its_tags_and_values() {
        let mut hold = Histogram::<u64>::new(3).unwrap();
        hold.record_n(250_000, 7).unwrap();
        let bytes = log(
            &vec![("hold", hold.clone())],
            SystemTime::now(),
            Duration::from_secs(3),
        )
        .unwrap();
        let interval = IntervalLogIterator::new(&bytes)
            .find_map(|entry| match entry.unwrap() {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            })
            .unwrap();
        assert_eq!(interval.tag().unwrap().as_str(), "hold");
        assert_eq!(interval.duration(), Duration::from_secs(3));
        // The format wants standard base64 of the encoded histogram.
        let raw = base64(interval.encoded_histogram());
        let back: Histogram<u64> = Deserializer::new()
            .deserialize(&mut raw.as_slice())
            .unwrap();
        assert_eq!(back, hold);
    }

    fn base64(text: &str) -> Vec<u8> {
        let digit = |c: u8| match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let mut out = Vec::new();
        for four in text.trim_end_matches('=').as_bytes().chunks(4) {
            let bits = four
                .iter()
                .fold(0_u32, |bits, c| bits << 6 | u32::from(digit(*c)))
                << (6 * (4 - four.len()));
            out.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
        }
        out
    }

    #[test]
    fn sums_keep_every_value() {
        let mut small = Histogram::<u64>::new_with_max(1000, 3).unwrap();
        small.record(10).unwrap();
        let mut large = Histogram::<u64>::new(3).unwrap();
        large.record(5_000_000).unwrap();
        let sum = merged([small, large]).unwrap();
        assert_eq!(sum.len(), 2);
        assert!(sum.max() >= 5_000_000);
    }
}
