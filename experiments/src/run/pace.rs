//! What thin guests do in a stretch of time: how much, and how long single touches take.

use std::time::Instant;

use mirrorball_abi::Status;

use crate::output::summary::Workload;
use crate::samples::Samples;

/// What guests had done at a moment, by their own word.
#[derive(Debug)]
pub struct Done {
    at: Instant,
    operations: u64,
    touches: Samples,
}

impl Done {
    /// What they have done by now.
    pub fn by(guests: impl Iterator<Item = Status>) -> Self {
        let mut done = Self {
            at: Instant::now(),
            operations: 0,
            touches: Samples::none(),
        };
        for status in guests {
            done.operations = done.operations.saturating_add(status.operations);
            done.touches.add(&status.touch_nanoseconds);
        }
        done
    }

    /// Tells what came after `before`.
    #[allow(clippy::cast_precision_loss, reason = "a number of operations")]
    pub fn tell(&self, before: &Self, figures: &mut Workload) {
        let operations = self.operations.saturating_sub(before.operations) as f64;
        let time = (self.at - before.at).as_secs_f64();
        figures.rate = Some(operations / time.max(f64::MIN_POSITIVE));
        let touches = self.touches.since(&before.touches);
        if !touches.is_empty() {
            figures.touch_p99_seconds = Some(touches.at(0.99) / 1e9);
            figures.touch_p999_seconds = Some(touches.at(0.999) / 1e9);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn only_what_guests_do_between_two_moments_counts() {
        let mut status = Status::new_zeroed();
        status.operations = 1_000_000;
        (0..1000).for_each(|_| status.touch_nanoseconds.record(1 << 30));
        let before = Done::by([status, status].into_iter());
        status.operations += 500;
        (0..1000).for_each(|_| status.touch_nanoseconds.record(4096));
        let mut after = Done::by([status, status].into_iter());
        after.at = before.at + Duration::from_secs(2);
        let mut figures = Workload::default();
        after.tell(&before, &mut figures);
        assert_eq!(figures.rate, Some(500.0));
        let tail = figures.touch_p999_seconds.unwrap();
        assert!((3.5e-6..4.7e-6).contains(&tail), "{tail}");
    }

    #[test]
    fn guests_that_touch_nothing_have_no_times_of_touches() {
        let status = Status::new_zeroed();
        let (before, after) = (
            Done::by([status].into_iter()),
            Done::by([status].into_iter()),
        );
        let mut figures = Workload::default();
        after.tell(&before, &mut figures);
        assert!(figures.rate.is_some() && figures.touch_p99_seconds.is_none());
    }
}
