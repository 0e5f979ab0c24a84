//! What breaking a shared page costs, by the guest's own clock, against a first write.
//!
//! The guest's `probe` workload writes one word to each of many pages nobody touched, fills them,
//! waits for the scanner, and writes one word to each again. The guests take turns, so that no
//! other guest's faults are in the figures. Nobody reads the pages in between but, in the second
//! half of the guests, the host: then the process already has a translation of the frame.

use mirrorball_abi::{SampleBuckets, Status, WorkloadKind, bucket_value};
use mirrorball_pmap::{PageState, Ppn, PpnRun};

use super::rig::{self, Guests, Rig};
use super::{Bench, BenchError, Log, Row, Wanted};

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "break",
    what: "a break as the guest sees it against a first write",
    measure,
};

const PAGES: u64 = 8192;
const MOST_PASSES: u32 = 10;

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    let guests = Guests {
        count: 6,
        memory: 64 << 20,
        image: None,
        disk_sharing: true,
        tracking: true,
    };
    for _ in 0..log.runs {
        let rig = Rig::start(&guests)?;
        let first = ticks(&rig.run_in_turns(&rig::workload(WorkloadKind::Probe, &[PAGES]))?);
        let mut scanner = rig.scanner();
        for _ in 0..MOST_PASSES {
            scanner.pass();
        }
        let half = rig.vms().len() / 2;
        let mut mapped = 0;
        for vm in &rig.vms()[half..] {
            let space = vm.space();
            let whole = PpnRun::new(Ppn(0), space.pages());
            let frames = whole
                .iter()
                .zip(space.states(whole))
                .filter(|(_, state)| matches!(state, PageState::Mapped(..)));
            for (ppn, _) in frames {
                // A read that nobody needs would be left out.
                std::hint::black_box(space.with_page(ppn, |page| page[0]));
                mapped += 1_u64;
            }
        }
        let expected = PAGES * (rig.vms().len() - half) as u64;
        if mapped < expected * 9 / 10 {
            return Err(BenchError(format!(
                "only {mapped} of {expected} pages were shared"
            )));
        }
        let again = rig.run_in_turns(&rig::workload(WorkloadKind::Probe, &[PAGES, 1]))?;
        let (unread, read) = (ticks(&again[..half]), ticks(&again[half..]));
        tell(log, &first, &unread, &read);
    }
    Ok(())
}

fn tell(log: &mut Log<'_>, first: &Ticks, unread: &Ticks, read: &Ticks) {
    let what = "first write to a shared page over first write to an untouched one, medians";
    log.add(
        &Row::new("break", what, "", Wanted::AtMost(1.5)),
        unread.at(0.5) / first.at(0.5),
    );
    let what = "the same, shared page read by the host before";
    log.add(
        &Row::new("break-read", what, "", Wanted::AtMost(1.5)),
        read.at(0.5) / first.at(0.5),
    );
    let what = "the same at p99, not read before";
    log.add(
        &Row::detail("break-p99", what, ""),
        unread.at(0.99) / first.at(0.99),
    );
    log.add(
        &Row::detail(
            "break-first",
            "median of first writes to untouched pages",
            "ticks",
        ),
        first.at(0.5),
    );
    log.add(
        &Row::detail(
            "break-shared",
            "median of first writes to shared pages",
            "ticks",
        ),
        unread.at(0.5),
    );
    log.add(
        &Row::detail(
            "break-first-p99",
            "p99 of first writes to untouched pages",
            "ticks",
        ),
        first.at(0.99),
    );
    log.add(
        &Row::detail(
            "break-shared-p99",
            "p99 of first writes to shared pages",
            "ticks",
        ),
        unread.at(0.99),
    );
}

/// Samples of several guests.
struct Ticks(Vec<u64>);

fn ticks(statuses: &[Status]) -> Ticks {
    let counts = |status: &Status| status.write_ticks.counts.map(u64::from);
    let mut sum = SampleBuckets::EMPTY.counts.map(u64::from);
    for status in statuses {
        for (sum, count) in sum.iter_mut().zip(counts(status)) {
            *sum += count;
        }
    }
    Ticks(sum.to_vec())
}

impl Ticks {
    /// A quantile, read off linearly inside its bucket.
    fn at(&self, quantile: f64) -> f64 {
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
