//! Totals of the books, and the kernel's own account to check them against.

use crate::{
    pmap::Pmap,
    types::{PAGE_BYTES, Ppn, PpnRun},
};
use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    ops::Range,
};

/// Pages of the whole machine by what they are (ESX's words, see `docs/`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Memory that the VMs were told they have.
    pub guest_physical: u64,
    /// Pages that are or were in use: private, mapped and zero.
    pub touched: u64,
    /// Pages of the VMs' own.
    pub private: u64,
    /// Guest pages that name a frame.
    pub mapped: u64,
    /// Guest pages that name a frame which another names too, or that are zero.
    pub shared: u64,
    /// `shared` less the frames that back them.
    pub reclaimed: u64,
    /// Guest pages given back because they were all zero.
    pub zero: u64,
    /// Frames in use.
    pub frames: u64,
    /// Pages that guests gave to the balloon.
    pub ballooned: u64,
    /// Pages on swap.
    pub swapped: u64,
    /// Reclaimed pages by `Mechanism::index`; zero pages are apart.
    pub by_mechanism: [u64; 3],
    /// Memory mappings of guest memory.
    pub vmas: u64,
    /// Frames mapped whose page a guest has then written.
    pub broken: u64,
    /// The monitor's own memory for all of this, in bytes.
    pub overhead_bytes: u64,
}

impl Totals {
    /// Machine pages in use for guests: private pages and frames.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.private + self.frames
    }
}

/// What the kernel says guest memory takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelAccount {
    /// Proportional set size of the guest regions, frames apart, bytes.
    pub private_bytes: u64,
    /// Resident bytes of the frame store, without free frames whose memory is kept (those count as
    /// [`Totals::overhead_bytes`]).
    pub frame_bytes: u64,
}

impl KernelAccount {
    /// Both together, bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.private_bytes + self.frame_bytes
    }
}

impl Pmap {
    /// The machine's totals, by the books; settle first where they must be exact.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let frames = self.frames().counts();
        let mut totals = Totals {
            shared: frames.shared,
            frames: frames.frames,
            by_mechanism: frames.reclaimed,
            vmas: self.common.budget.used(),
            overhead_bytes: self.frames().overhead_bytes() + frames.spare * PAGE_BYTES,
            ..Totals::default()
        };
        for space in self.spaces() {
            let one = space.totals();
            totals.guest_physical += one.guest_physical;
            totals.touched += one.touched;
            totals.private += one.private;
            totals.mapped += one.mapped;
            totals.zero += one.zero;
            totals.ballooned += one.ballooned;
            totals.swapped += one.swapped;
            totals.broken += one.broken;
            totals.overhead_bytes += space.overhead_bytes();
        }
        totals.shared += totals.zero;
        totals.reclaimed = frames.reclaimed.iter().sum::<u64>() + totals.zero;
        totals
    }

    /// What the kernel says: the proportional set size of the guests' memory from
    /// `/proc/self/smaps`, and the frame store's resident blocks. Reads every mapping of the
    /// process: for a check at the end of a run, not for samples.
    ///
    /// # Errors
    /// `/proc/self/smaps` can't be read.
    pub fn kernel_account(&self) -> io::Result<KernelAccount> {
        let mut regions: Vec<Range<u64>> = self
            .spaces()
            .iter()
            .map(|space| space.host_address()..space.host_address() + space.bytes())
            .collect();
        regions.sort_by_key(|region| region.start);
        let spare = self.frames().counts().spare * PAGE_BYTES;
        let smaps = BufReader::new(File::open("/proc/self/smaps")?);
        let private_bytes = private_in(smaps, &regions)?;
        Ok(KernelAccount {
            private_bytes,
            frame_bytes: self.resident_frames()?.saturating_sub(spare),
        })
    }
}

impl crate::AddressSpace {
    /// Pages of the VM's own as the kernel counts them now, without touching the books.
    ///
    /// # Errors
    /// The page map can't be read.
    pub fn private_pages_now(&self) -> io::Result<u64> {
        let mut runs = Vec::new();
        let whole = PpnRun::new(Ppn(0), self.pages());
        self.pagemap()
            .private_runs(self.host_address(), whole, &mut runs)?;
        let runs = self.without_large_zeros(runs);
        Ok(runs.iter().map(|run| u64::from(run.pages)).sum())
    }
}

/// Sums what mappings inside `regions` (sorted) hold privately: the proportional set size of
/// anonymous ones, the anonymous part of overlays.
fn private_in(smaps: impl BufRead, regions: &[Range<u64>]) -> io::Result<u64> {
    let (mut inside, mut overlay, mut total) = (false, false, 0);
    for line in smaps.lines() {
        let line = line?;
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if let Some(range) = parse_range(first) {
            let next = regions.partition_point(|region| region.end <= range.start);
            inside = regions
                .get(next)
                .is_some_and(|region| region.contains(&range.start));
            overlay = words.nth(3).is_some_and(|inode| inode != "0");
        } else if inside && first == if overlay { "Anonymous:" } else { "Pss:" } {
            total += words
                .next()
                .and_then(|number| number.parse::<u64>().ok())
                .unwrap_or(0)
                * 1024;
        }
    }
    Ok(total)
}

fn parse_range(word: &str) -> Option<Range<u64>> {
    let (start, end) = word.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

const _: () = assert!(PAGE_BYTES == 4096);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_memory_inside_the_regions_counts() {
        let smaps = "\
1000-3000 rw-p 00000000 00:00 0\nPss:  8 kB\nAnonymous:  8 kB\n\
3000-5000 rw-p 00000000 00:01 77 /memfd:x\nPss:  6 kB\nAnonymous:  4 kB\n\
9000-a000 rw-p 00000000 00:00 0\nPss:  4 kB\nAnonymous:  4 kB\n";
        let regions = vec![Range {
            start: 0x1000,
            end: 0x5000,
        }];
        assert_eq!(private_in(smaps.as_bytes(), &regions).unwrap(), 12 * 1024);
    }
}
