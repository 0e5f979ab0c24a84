//! How much machine memory a run uses, by the kernel's count of the process's pages.
//!
//! The books know exactly what is guests', but only once they are settled, which costs by what guests
//! wrote. The kernel's count costs the same however large the guests are, and has what the monitor takes
//! for the run in it: its books, the scanner's index, pages on their way to swap.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pages of the process's own memory, guests' included: resident less shared (`proc(5)`, `statm`).
#[derive(Debug)]
pub struct Meter {
    statm: File,
    /// Pages that the process had before the run, as far as it has not given them back since.
    before: AtomicU64,
}

impl Meter {
    /// A meter of a process without guests: what it has now is not the run's.
    ///
    /// # Errors
    /// `/proc/self/statm` can't be read.
    pub fn new() -> io::Result<Self> {
        let statm = File::open("/proc/self/statm")?;
        let meter = Self {
            statm,
            before: AtomicU64::new(0),
        };
        meter.before.store(meter.process()?, Ordering::Relaxed);
        Ok(meter)
    }

    /// Guests had `private` pages at some moment between two in which the process had `before` and
    /// `after`. What an earlier run had is given back late: it would hide as much of this one's.
    /// Answers how many pages the run has besides.
    pub fn besides(&self, (before, after): (u64, u64), private: u64) -> u64 {
        let most = before.max(after).saturating_sub(private);
        let start = self.before.fetch_min(most, Ordering::Relaxed).min(most);
        let least = before.min(after).saturating_sub(private);
        least.saturating_sub(start)
    }

    /// Pages that the run has taken, frames apart: guests' own, and the monitor's for them.
    pub fn used(&self) -> io::Result<u64> {
        Ok(self
            .process()?
            .saturating_sub(self.before.load(Ordering::Relaxed)))
    }

    /// Pages of the process's own memory.
    pub fn process(&self) -> io::Result<u64> {
        let mut text = [0; 128];
        let length = self.statm.read_at(&mut text, 0)?;
        let text = std::str::from_utf8(&text[..length]).map_err(io::Error::other)?;
        let mut numbers = text.split_ascii_whitespace().skip(1);
        let mut next = || numbers.next().and_then(|word| word.parse::<u64>().ok());
        let (resident, shared) = (next(), next());
        resident
            .zip(shared)
            .map(|(resident, shared)| resident.saturating_sub(shared))
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_taken_is_counted_and_what_was_there_is_not() {
        let earlier = std::hint::black_box(vec![1_u8; 32 << 20]);
        let meter = Meter::new().unwrap();
        assert!(meter.used().unwrap() < 2_000);
        let taken = std::hint::black_box(vec![1_u8; 32 << 20]);
        let used = meter.used().unwrap();
        assert!((7_000..12_000).contains(&used), "{used} pages");
        drop(earlier);
        // 32 MiB are the guests', and 32 MiB of an earlier run have gone.
        let process = meter.process().unwrap();
        let besides = meter.besides((process, process), 8192);
        assert!(besides < 2_000, "{besides}");
        let used = meter.used().unwrap();
        assert!((7_000..12_000).contains(&used), "{used} pages");
        drop(taken);
    }
}
