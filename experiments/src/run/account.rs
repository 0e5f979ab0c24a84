//! What machine memory is used for: the pmap's books, corrected where the kernel merges pages.
//!
//! KSM works below the pmap, which goes on to count every page that KSM merged as the VM's own. All
//! figures of a `ksm` cell therefore come from both, and they come from here alone, so that the
//! budget, the table and the check against the kernel mean the same by "used".

use std::io;

use mirrorball_pmap::{Mechanism, PAGE_BYTES, Totals};
use mirrorball_virtio::BlockStats;

use super::scanning::Reading;
use crate::output::summary::{Accounting, ByMechanism, Disk, Memory};

/// The largest gap between the pmap's account and the kernel's, as a fraction of the kernel's.
const MOST_APART: f64 = 0.01;

/// Bytes of machine memory that guests use.
pub fn used(totals: &Totals, reading: &Reading) -> u64 {
    (totals.used() * PAGE_BYTES).saturating_sub(reading.ksm_saved().unwrap_or(0))
}

/// All of it, with what perfect sharing could reclaim in pages.
pub fn memory(totals: &Totals, reading: &Reading, reclaimable: u64) -> Memory {
    let bytes = |pages: u64| Some(pages * PAGE_BYTES);
    let merged = ksm_merged(reading);
    let saved = reading.ksm_saved().unwrap_or(0);
    Memory {
        guest_physical: bytes(totals.guest_physical),
        touched: bytes(totals.touched),
        private: Some((totals.private * PAGE_BYTES).saturating_sub(merged)),
        shared: Some(totals.shared * PAGE_BYTES + merged),
        reclaimed: Some(totals.reclaimed * PAGE_BYTES + saved),
        zero: bytes(totals.zero + reading.ksm.map_or(0, |ksm| ksm.ksm_zero_pages)),
        frames: bytes(totals.frames),
        ballooned: bytes(totals.ballooned),
        swapped: bytes(totals.swapped),
        oracle_reclaimable: bytes(reclaimable),
        machine_used: Some(used(totals, reading)),
        overhead: Some(totals.overhead_bytes + reading.ours.map_or(0, |stats| stats.index_bytes)),
    }
}

/// Who reclaimed it.
pub fn by_mechanism(totals: &Totals, reading: &Reading) -> ByMechanism {
    let by = |mechanism: Mechanism| Some(totals.by_mechanism[mechanism.index()] * PAGE_BYTES);
    ByMechanism {
        disk: by(Mechanism::Disk),
        network: by(Mechanism::Network),
        content: by(Mechanism::Content),
        zero: Some(totals.zero * PAGE_BYTES),
        ksm: reading.ksm_saved(),
    }
}

/// What these disks were read for; nothing where no page was read.
pub fn disk(disks: impl IntoIterator<Item = BlockStats>) -> Disk {
    let (mut mapped, mut copied, mut reads) = (0, 0, 0);
    for disk in disks {
        mapped += disk.mapped_pages;
        copied += disk.copied_pages;
        reads += disk.image_reads;
    }
    Disk {
        mapped_pages: Some(mapped),
        copied_pages: Some(copied),
        mapped_share: fraction(mapped, mapped + copied),
        image_reads: Some(reads),
    }
}

/// The pmap's word and the kernel's, both from a time when nothing changed, if there is one: a Linux guest
/// whose work is done goes on to tell which of its pages are free.
///
/// # Errors
/// The kernel's word can't be had.
pub fn compare_at_rest(
    used: impl Fn() -> u64,
    kernel: impl Fn() -> io::Result<u64>,
) -> io::Result<Accounting> {
    const ATTEMPTS: u32 = 10;
    let mut before = used();
    let mut accounting = Accounting::default();
    for _ in 0..ATTEMPTS {
        let kernel = kernel()?;
        let after = used();
        accounting = compare(after, kernel);
        if after == before {
            break;
        }
        before = after;
    }
    Ok(accounting)
}

/// The pmap's word and the kernel's on the same memory, bytes.
fn compare(pmap: u64, kernel: u64) -> Accounting {
    Accounting {
        pmap: Some(pmap),
        kernel: Some(kernel),
        // Where the kernel counts nothing there is no whole to be a fraction of.
        gap: Some(
            fraction(pmap.abs_diff(kernel), kernel).unwrap_or(if pmap == 0 { 0.0 } else { 1.0 }),
        ),
    }
}

/// Why a run is not to be believed, if the two differ by more than they may.
pub fn apart(accounting: &Accounting) -> Option<String> {
    let (pmap, kernel, gap) = (accounting.pmap?, accounting.kernel?, accounting.gap?);
    (gap > MOST_APART).then(|| {
        format!(
            "the pmap says that guests use {pmap} bytes, the kernel says {kernel}: {:.2} % apart",
            gap * 100.0
        )
    })
}

/// A part of a whole; `None` of nothing.
#[allow(clippy::cast_precision_loss, reason = "a fraction, known to 53 bits")]
pub fn fraction(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Bytes of guest pages that share a frame of KSM's or are its zero page.
fn ksm_merged(reading: &Reading) -> u64 {
    reading
        .ksm
        .map_or(0, |ksm| ksm.pages_shared + ksm.reclaimed())
        * PAGE_BYTES
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use mirrorball_dedup::ksm::KsmCounters;

    use super::*;

    /// Private pages of these contents (0 is the zero page) after KSM has merged what it can: what
    /// the pmap goes on to say, and KSM's counters as the kernel defines them.
    fn merged(contents: &[u64]) -> (Totals, Reading) {
        let mut copies = BTreeMap::<u64, u64>::new();
        for content in contents {
            *copies.entry(*content).or_default() += 1;
        }
        let zero = copies.remove(&0).unwrap_or(0);
        let shared = copies.values().filter(|copies| **copies > 1);
        let ksm = KsmCounters {
            pages_shared: shared.clone().count() as u64,
            pages_sharing: shared.map(|copies| copies - 1).sum(),
            ksm_zero_pages: zero,
            ..KsmCounters::default()
        };
        let pages = contents.len() as u64;
        let totals = Totals {
            guest_physical: 100,
            touched: pages,
            private: pages,
            ..Totals::default()
        };
        let reading = Reading {
            ours: None,
            ksm: Some(ksm),
        };
        (totals, reading)
    }

    fn pages(bytes: Option<u64>) -> u64 {
        bytes.unwrap() / PAGE_BYTES
    }

    #[test]
    fn memory_that_goes_back_during_the_check_is_no_difference() {
        let memory = Cell::new(100_000);
        let times = Cell::new(0);
        let given_back = || {
            times.set(times.get() + 1);
            if times.get() < 4 {
                memory.set(memory.get() - 4_000);
            }
            Ok(memory.get())
        };
        let accounting = compare_at_rest(|| memory.get(), given_back).unwrap();
        assert_eq!(apart(&accounting), None);
        assert_eq!(accounting.pmap, Some(88_000));
        assert_eq!(times.get(), 4, "nothing changed in the last");

        let lost = compare_at_rest(|| memory.get(), || Ok(memory.get() - 4_000)).unwrap();
        assert!(apart(&lost).is_some());
        let growing = compare_at_rest(|| memory.replace(memory.get() + 1), || Ok(0));
        assert!(apart(&growing.unwrap()).is_some(), "it ends");
        assert!(compare_at_rest(|| 0, || Err(io::Error::other("unreadable"))).is_err());
    }

    #[test]
    fn ksms_merged_pages_are_neither_private_nor_used_twice() {
        // Two frames with three and two references, four zero pages, and one page like no other.
        let (totals, reading) = merged(&[7, 7, 7, 8, 8, 0, 0, 0, 0, 9]);
        let memory = memory(&totals, &reading, 7);
        assert_eq!(pages(memory.private), 1, "the one like no other");
        assert_eq!(pages(memory.shared), 9, "all others");
        assert_eq!(pages(memory.zero), 4);
        assert_eq!(pages(memory.machine_used), 3, "7, 8 and 9, once each");
        assert_eq!(pages(memory.reclaimed), 7, "ten pages in three");
        assert_eq!(memory.reclaimed, memory.oracle_reclaimable);
        assert_eq!(memory.machine_used, Some(used(&totals, &reading)));
        let by = by_mechanism(&totals, &reading);
        assert_eq!((by.ksm, by.zero), (memory.reclaimed, Some(0)));
        assert_eq!(
            apart(&compare(used(&totals, &reading), 3 * PAGE_BYTES)),
            None
        );
    }

    #[test]
    fn ksms_pages_come_on_top_of_the_pmaps_own() {
        // The boot image: five guest pages that name two frames.
        let (mut totals, reading) = merged(&[7, 7, 0]);
        (totals.mapped, totals.shared) = (5, 5);
        (totals.frames, totals.reclaimed) = (2, 3);
        totals.by_mechanism[Mechanism::Disk.index()] = 3;
        totals.zero = 1;
        let memory = memory(&totals, &reading, 0);
        assert_eq!((pages(memory.private), pages(memory.shared)), (0, 8));
        assert_eq!((pages(memory.zero), pages(memory.frames)), (2, 2));
        assert_eq!(
            (pages(memory.reclaimed), pages(memory.machine_used)),
            (5, 3)
        );
        let by = by_mechanism(&totals, &reading);
        assert_eq!((pages(by.disk), pages(by.zero), pages(by.ksm)), (3, 1, 2));
    }

    #[test]
    fn without_ksm_the_books_stand_as_they_are() {
        let (totals, _) = merged(&[7, 7, 0]);
        let reading = Reading::default();
        let memory = memory(&totals, &reading, 2);
        assert_eq!((pages(memory.private), pages(memory.shared)), (3, 0));
        assert_eq!(
            (pages(memory.machine_used), pages(memory.reclaimed)),
            (3, 0)
        );
        assert_eq!(by_mechanism(&totals, &reading).ksm, None);
    }

    #[test]
    fn a_gap_of_more_than_one_percent_is_told() {
        assert_eq!(apart(&compare(101, 100)), None);
        assert!(apart(&compare(102, 100)).unwrap().contains("2.00 % apart"));
        assert!(apart(&compare(98, 100)).is_some());
        assert_eq!(apart(&compare(0, 0)), None);
        assert!(
            apart(&compare(1, 0)).is_some(),
            "memory the kernel never gave"
        );
    }
}
