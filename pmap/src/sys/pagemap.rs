//! Which pages of a range the process owns privately, and which of them were written.
//!
//! Linux 6.7 answers both by `PAGEMAP_SCAN` (Documentation/admin-guide/mm/pagemap.rst) at the cost
//! of the answer; older kernels by reading `/proc/self/pagemap` page by page, without writes.

use crate::types::{PAGE_BYTES, Ppn, PpnRun};
use std::{
    fs::File,
    io,
    ops::Range,
    os::{fd::AsRawFd, unix::fs::FileExt},
};

const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
const WP_MATCHING: u64 = 1;
const WRITTEN: u64 = 1 << 1;
const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
const PFNZERO: u64 = 1 << 5;
const REGIONS: usize = 512;
/// Pages between two runs that are asked about together: looking at so many takes as long as one more call.
const NEAR: u32 = 16;

const OLD_PRESENT: u64 = 1 << 63;
const OLD_SWAPPED: u64 = 1 << 62;
const OLD_FILE: u64 = 1 << 61;

/// `struct pm_scan_arg`.
#[repr(C)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// Which pages a scan matches.
#[derive(Clone, Copy)]
struct Categories {
    inverted: u64,
    all: u64,
    any: u64,
    told: u64,
}

/// A frame's page is file-backed, the kernel's zero page is nobody's: both are excluded.
const PRIVATE: Categories = Categories {
    inverted: FILE | PFNZERO,
    all: FILE | PFNZERO,
    any: PRESENT | SWAPPED,
    told: PRESENT,
};
#[cfg_attr(
    feature = "broken-lend-protocol",
    allow(dead_code, reason = "the broken protocol does not ask")
)]
const ABSENT: Categories = Categories {
    inverted: FILE | PRESENT,
    all: FILE | PRESENT,
    any: SWAPPED,
    told: SWAPPED,
};
const PRIVATE_WRITTEN: Categories = Categories {
    all: WRITTEN | FILE | PFNZERO,
    ..PRIVATE
};
const FRAMES: Categories = Categories {
    inverted: 0,
    all: WRITTEN | FILE | PRESENT,
    any: 0,
    told: PRESENT,
};
const ANY_PRESENT: Categories = Categories {
    inverted: 0,
    all: PRESENT,
    any: 0,
    told: PRESENT,
};
const OCCUPIED: Categories = Categories {
    inverted: 0,
    all: 0,
    any: PRESENT | SWAPPED,
    told: PRESENT,
};
const ANY_WRITTEN: Categories = Categories {
    inverted: 0,
    all: WRITTEN,
    any: 0,
    told: WRITTEN,
};

/// `/proc/self/pagemap`, with or without `PAGEMAP_SCAN`.
#[derive(Debug)]
pub(crate) struct Pagemap {
    file: File,
    scan: bool,
}

impl Pagemap {
    /// Opens the page map and finds out what this kernel can do.
    pub(crate) fn open() -> io::Result<Self> {
        let file = File::open("/proc/self/pagemap")?;
        let mut pagemap = Self { file, scan: true };
        pagemap.scan = pagemap.try_scan().is_ok();
        Ok(pagemap)
    }

    /// Scans a page, whatever it is, for the kernel's answer alone.
    pub(crate) fn try_scan(&self) -> io::Result<()> {
        self.scan_call(0, PAGE_BYTES, 0, PRIVATE, &mut [PageRegion::default()])
            .map(|_| ())
    }

    /// True where the kernel has `PAGEMAP_SCAN`.
    pub(crate) fn can_scan(&self) -> bool {
        self.scan
    }

    /// Appends the runs of private pages among those of `run`, in order.
    pub(crate) fn private_runs(
        &self,
        base: u64,
        run: PpnRun,
        out: &mut Vec<PpnRun>,
    ) -> io::Result<()> {
        if !self.scan {
            return self.read_runs(base, run, out);
        }
        let (start, end) = addresses(base, run);
        self.collect(base, start..end, 0, PRIVATE, out)
    }

    /// Appends the runs of pages that [`Self::private_runs`] calls private though they are not in the page
    /// table: on the host's swap, being moved by it, or a mark of the write tracking and nothing else. A
    /// touch makes them what they are.
    #[cfg_attr(
        feature = "broken-lend-protocol",
        allow(dead_code, reason = "the broken protocol does not ask")
    )]
    pub(crate) fn absent_runs(
        &self,
        base: u64,
        run: PpnRun,
        out: &mut Vec<PpnRun>,
    ) -> io::Result<()> {
        if !self.scan {
            // No marks there: writes are not tracked.
            return Ok(());
        }
        let (start, end) = addresses(base, run);
        self.collect(base, start..end, 0, ABSENT, out)
    }

    /// Appends the runs of private pages written since they were last protected, in order. Returns
    /// how many other pages had to be looked at: those that are not protected at all.
    pub(crate) fn written_runs(
        &self,
        base: u64,
        run: PpnRun,
        out: &mut Vec<PpnRun>,
    ) -> io::Result<u64> {
        if !self.scan {
            self.read_runs(base, run, out)?;
            return Ok(0);
        }
        // The kernel answers "written" alone many times faster than together with other questions,
        // but counts what was never protected (holes, frames) as written: ask again only there.
        let mut suspects = Vec::new();
        let (start, end) = addresses(base, run);
        self.collect(base, start..end, 0, ANY_WRITTEN, &mut suspects)?;
        let already = pages_of(out);
        for range in suspects.chunk_by(|one, next| next.start.0 - one.end().0 <= NEAR) {
            let (Some(first), Some(last)) = (range.first(), range.last()) else {
                continue;
            };
            let whole = PpnRun::new(first.start, last.end().0 - first.start.0);
            let (start, end) = addresses(base, whole);
            self.collect(base, start..end, 0, PRIVATE_WRITTEN, out)?;
        }
        Ok(pages_of(&suspects).saturating_sub(pages_of(out) - already))
    }

    /// Protects the frames' pages that are present in `run`, so that they are no longer looked at
    /// one by one until they are broken.
    pub(crate) fn protect_frames(&self, base: u64, run: PpnRun) -> io::Result<()> {
        let (start, end) = addresses(base, run);
        // An answer that nobody wants: asked for none, the kernel protects every page of the range,
        // of whatever kind, and private pages written a moment ago would go unnoticed.
        self.collect(base, start..end, WP_MATCHING, FRAMES, &mut Vec::new())
    }

    /// Starts tracking writes to the private pages of `run` afresh, and appends those that had been
    /// written: taking note and protecting are one step for each page.
    pub(crate) fn protect(&self, base: u64, run: PpnRun, out: &mut Vec<PpnRun>) -> io::Result<()> {
        let (start, end) = addresses(base, run);
        self.collect(base, start..end, WP_MATCHING, PRIVATE_WRITTEN, out)
    }

    /// Whether any page of `run` is in the page table now, whatever it is.
    pub(crate) fn is_present(&self, base: u64, run: PpnRun) -> io::Result<bool> {
        self.has(base, run, ANY_PRESENT)
    }

    /// Whether any page of `run` is anywhere: in the page table, or on the host's swap.
    pub(crate) fn is_occupied(&self, base: u64, run: PpnRun) -> io::Result<bool> {
        self.has(base, run, OCCUPIED)
    }

    fn has(&self, base: u64, run: PpnRun, categories: Categories) -> io::Result<bool> {
        let mut found = Vec::new();
        if !self.scan {
            self.read_runs(base, run, &mut found)?;
            return Ok(!found.is_empty());
        }
        let (start, end) = addresses(base, run);
        self.collect(base, start..end, 0, categories, &mut found)?;
        Ok(!found.is_empty())
    }

    /// Whether the page in the page table is one of a file's, or the kernel's own.
    pub(crate) fn is_shared(&self, base: u64, ppn: Ppn) -> io::Result<bool> {
        let mut entry = [0; 8];
        let at = (base + ppn.address()) / PAGE_BYTES * 8;
        self.file.read_exact_at(&mut entry, at)?;
        let entry = u64::from_ne_bytes(entry);
        Ok(entry & OLD_PRESENT != 0 && entry & OLD_FILE != 0)
    }

    fn collect(
        &self,
        base: u64,
        addresses: Range<u64>,
        flags: u64,
        categories: Categories,
        out: &mut Vec<PpnRun>,
    ) -> io::Result<()> {
        let (mut start, end) = (addresses.start, addresses.end);
        let mut regions = [PageRegion::default(); REGIONS];
        while start < end {
            let (found, walked) = self.scan_call(start, end, flags, categories, &mut regions)?;
            for region in &regions[..found] {
                push_run(out, ppn_at(base, region.start), ppn_at(base, region.end));
            }
            start = walked;
        }
        Ok(())
    }

    fn scan_call(
        &self,
        start: u64,
        end: u64,
        flags: u64,
        categories: Categories,
        regions: &mut [PageRegion],
    ) -> io::Result<(usize, u64)> {
        let vec = if regions.is_empty() {
            0
        } else {
            regions.as_mut_ptr() as u64
        };
        let mut argument = ScanArgument {
            size: size_of::<ScanArgument>() as u64,
            flags,
            start,
            end,
            walk_end: 0,
            vec,
            vec_len: regions.len() as u64,
            max_pages: 0,
            category_inverted: categories.inverted,
            category_mask: categories.all,
            category_anyof_mask: categories.any,
            return_mask: categories.told,
        };
        // SAFETY: the structure is the one that this ioctl takes; `vec` and `vec_len` name a live,
        // exclusively borrowed array, or nothing.
        let answer = unsafe { libc::ioctl(self.file.as_raw_fd(), PAGEMAP_SCAN, &raw mut argument) };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((usize::try_from(answer).unwrap_or(0), argument.walk_end))
    }

    fn read_runs(&self, base: u64, run: PpnRun, out: &mut Vec<PpnRun>) -> io::Result<()> {
        let mut buffer = [0u8; 8 * 1024];
        let (mut start, end) = addresses(base, run);
        while start < end {
            let bytes = buffer
                .len()
                .min(usize::try_from((end - start) / PAGE_BYTES * 8).unwrap_or(usize::MAX));
            self.file
                .read_exact_at(&mut buffer[..bytes], start / PAGE_BYTES * 8)?;
            for entry in buffer[..bytes].chunks_exact(8) {
                let entry = u64::from_ne_bytes(entry.try_into().unwrap_or_default());
                if entry & (OLD_PRESENT | OLD_SWAPPED) != 0 && entry & OLD_FILE == 0 {
                    push_run(out, ppn_at(base, start), ppn_at(base, start + PAGE_BYTES));
                }
                start += PAGE_BYTES;
            }
        }
        Ok(())
    }
}

fn addresses(base: u64, run: PpnRun) -> (u64, u64) {
    (base + run.start.address(), base + run.end().address())
}

fn pages_of(runs: &[PpnRun]) -> u64 {
    runs.iter().map(|run| u64::from(run.pages)).sum()
}

fn ppn_at(base: u64, address: u64) -> Ppn {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a region has fewer than 2^32 pages"
    )]
    Ppn(((address - base) / PAGE_BYTES) as u32)
}

fn push_run(out: &mut Vec<PpnRun>, start: Ppn, end: Ppn) {
    match out.last_mut() {
        Some(last) if last.end() == start => last.pages += end.0 - start.0,
        _ => out.push(PpnRun::new(start, end.0 - start.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Region, WriteTracking};
    use vm_memory::{Bytes, GuestAddress};

    #[test]
    fn protecting_frames_leaves_what_was_written_to_be_found() {
        let pagemap = Pagemap::open().unwrap();
        let Ok(tracking) = WriteTracking::open() else {
            eprintln!("not run: writes can't be tracked here");
            return;
        };
        let (region, whole) = (Region::reserve(8).unwrap(), PpnRun::new(Ppn(0), 8));
        let (base, bytes) = (region.address(), 8 * PAGE_BYTES);
        tracking.register(base, bytes).unwrap();
        let memory = region.guest_memory().unwrap();
        memory
            .write_slice(&[1; 2 * 4096], GuestAddress(PAGE_BYTES))
            .unwrap();
        pagemap.protect_frames(base, whole).unwrap();
        let mut written = Vec::new();
        pagemap.written_runs(base, whole, &mut written).unwrap();
        assert_eq!(written, [PpnRun::new(Ppn(1), 2)]);
    }
}
