//! How much machine memory guests use, by the kernel's count of the process's pages.
//!
//! The books know exactly, but only once they are settled, which costs by what guests wrote. The
//! kernel's count costs the same however large the guests are. It has all of the process's own
//! memory in it: what of that is not guests' is found whenever the books are settled anyway.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pages of the process's own memory, guests' included: resident less shared (`proc(5)`, `statm`).
#[derive(Debug)]
pub struct Meter {
    statm: File,
    /// Pages that are not guests'.
    base: AtomicU64,
}

impl Meter {
    /// A meter of a process without guests.
    ///
    /// # Errors
    /// `/proc/self/statm` can't be read.
    pub fn new() -> io::Result<Self> {
        let meter = Self {
            statm: File::open("/proc/self/statm")?,
            base: AtomicU64::new(0),
        };
        let process = meter.process()?;
        meter.set((process, process), 0);
        Ok(meter)
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

    /// Guests had `private` pages at some moment between two in which the process had `before` and
    /// `after`: settling the books takes time, and guests go on meanwhile. What is not guests' changes
    /// little, so it stays what it was thought to be as far as that agrees with this.
    pub fn set(&self, (before, after): (u64, u64), private: u64) {
        let (least, most) = (before.min(after), before.max(after));
        let base = self.base.load(Ordering::Relaxed);
        let base = base.clamp(least.saturating_sub(private), most.saturating_sub(private));
        self.base.store(base, Ordering::Relaxed);
    }

    /// Pages that are guests' own now.
    pub fn private(&self) -> io::Result<u64> {
        Ok(self
            .process()?
            .saturating_sub(self.base.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_taken_is_counted() {
        let meter = Meter::new().unwrap();
        let before = meter.process().unwrap();
        meter.set((before, before), 100);
        let taken = std::hint::black_box(vec![1_u8; 32 << 20]);
        let after = meter.private().unwrap();
        assert!((8_000..12_000).contains(&after), "{after} pages");
        drop(taken);
    }
}
