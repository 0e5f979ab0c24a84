//! Laying frames over many neighbouring runs at once.
//!
//! A mapping that replaces another costs the kernel a split of the old one, a walk over its page table,
//! a flush of the translations and a call to each VM of the process (MMU notifiers). One that is laid
//! where nothing is mapped costs none of these. So a stretch is unmapped as a whole, once, and its runs
//! are then mapped one by one (`mirrorball bench --only merge` has what that brings).

use super::{Region, StoreMemory, bytes_of};
use crate::types::{Mpn, PpnRun};
use rustix::mm;
use std::{io, process, ptr, thread, time::Duration};

/// Attempts to give an unmapped stretch memory again before the process ends itself.
const ATTEMPTS: u32 = 1000;

impl Region {
    /// Puts frames over neighbouring runs, each with the first of its frames, copy-on-write. Every page
    /// equals its frame already. Returns how many runs name their frames now; the others, if the
    /// kernel refused a mapping, are plain memory with the same bytes.
    ///
    /// For a moment nothing is mapped there: the caller keeps everybody out, vCPUs, devices and the
    /// monitor's own readers. Nothing else of the process can get there either (see `seclusion`), so
    /// only for regions that are secluded.
    ///
    /// # Errors
    /// The kernel's, when the stretch could not be unmapped: nothing has changed then.
    ///
    /// # Panics
    /// When the region is not secluded, or the runs are not neighbours in order.
    pub(crate) fn replace(&self, runs: &[(PpnRun, Mpn)], store: &StoreMemory) -> io::Result<usize> {
        self.replace_by(runs, store, |run, first| self.overlay(run, store, first))
    }

    fn replace_by(
        &self,
        runs: &[(PpnRun, Mpn)],
        store: &StoreMemory,
        mut lay: impl FnMut(PpnRun, Mpn) -> io::Result<()>,
    ) -> io::Result<usize> {
        let Some((first, _)) = runs.first() else {
            return Ok(0);
        };
        let mut whole = PpnRun::new(first.start, 0);
        for (run, _) in runs {
            assert!(
                run.start == whole.end(),
                "{run:?} does not follow {whole:?}"
            );
            whole.pages += run.pages;
        }
        assert!(self.is_secluded(), "others' memory could come in between");
        // SAFETY: inside the region (`at` checks). Nobody accesses it now, the caller says, no other
        // mapping can be made there before those below, and each page's content is in its frame.
        unsafe { mm::munmap(self.at(whole), bytes_of(whole.pages))? };
        let laid = runs
            .iter()
            .take_while(|(run, first)| lay(*run, *first).is_ok());
        let laid = laid.count();
        for (run, first) in runs.iter().skip(laid) {
            self.copy_back(*run, *first, store);
        }
        Ok(laid)
    }

    /// Gives an unmapped run plain memory with the bytes of its frames.
    fn copy_back(&self, run: PpnRun, first: Mpn, store: &StoreMemory) {
        let mut attempts = 0;
        while let Err(error) = self.anonymous(run) {
            attempts += 1;
            if attempts == ATTEMPTS {
                // Whoever touches it next would end the process anyway, and say less.
                tracing::error!(%error, ?run, "guest memory is lost: the kernel has none left");
                process::abort();
            }
            thread::sleep(Duration::from_millis(1));
        }
        // SAFETY: the frames are published and the caller keeps them alive.
        let bytes = unsafe { store.bytes(first, run.pages) };
        // SAFETY: the run was mapped above, is as long, and nobody else accesses it, the caller says.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(run).cast::<u8>(), bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Ppn;
    use vm_memory::{Bytes, GuestAddress};

    const RUNS: [(PpnRun, Mpn); 3] = [
        (PpnRun::new(Ppn(2), 2), Mpn(5)),
        (PpnRun::new(Ppn(4), 1), Mpn(0)),
        (PpnRun::new(Ppn(5), 2), Mpn(2)),
    ];

    fn byte(frame: u32) -> u8 {
        u8::try_from(frame).unwrap() + 1
    }

    fn filled() -> (Region, StoreMemory) {
        let (region, store) = (Region::reserve(8).unwrap(), StoreMemory::new(8).unwrap());
        for frame in 0..8 {
            store.write(Mpn(frame), 0, &[byte(frame); 4096]).unwrap();
        }
        let memory = region.guest_memory().unwrap();
        for page in [0, 1, 7] {
            memory
                .write_slice(&[99; 4096], GuestAddress(page * 4096))
                .unwrap();
        }
        for (run, first) in RUNS {
            for (ppn, frame) in run.iter().zip(first.0..) {
                let content = [byte(frame); 4096];
                memory
                    .write_slice(&content, GuestAddress(ppn.address()))
                    .unwrap();
            }
        }
        (region, store)
    }

    fn content(region: &Region) -> Vec<u8> {
        let pages = (0..8).map(Ppn);
        pages
            .map(|ppn| region.page(ppn))
            .map(|page| {
                assert!(page.iter().all(|byte| *byte == page[0]));
                page[0]
            })
            .collect()
    }

    #[test]
    fn runs_name_their_frames_and_read_as_before() {
        let (region, store) = filled();
        let before = content(&region);
        assert_eq!(region.replace(&RUNS, &store).unwrap(), 3);
        assert_eq!(content(&region), before);
        // A write breaks the one page and no frame.
        let memory = region.guest_memory().unwrap();
        memory
            .write_slice(&[77; 4096], GuestAddress(3 * 4096))
            .unwrap();
        assert_eq!(content(&region), [99, 99, 6, 77, 1, 3, 4, 99]);
        // SAFETY: nobody makes frames of this store.
        assert_eq!(unsafe { store.bytes(Mpn(6), 1) }, [7; 4096]);
    }

    #[test]
    fn runs_that_get_no_mapping_keep_their_bytes() {
        let (region, store) = filled();
        let before = content(&region);
        let mut left = 1;
        let laid = region.replace_by(&RUNS, &store, |run, first| {
            if left == 0 {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            left -= 1;
            region.overlay(run, &store, first)
        });
        assert_eq!(laid.unwrap(), 1);
        assert_eq!(content(&region), before);
        let memory = region.guest_memory().unwrap();
        memory
            .write_slice(&[77; 4096], GuestAddress(6 * 4096))
            .unwrap();
        assert_eq!(content(&region)[6], 77);
    }
}
