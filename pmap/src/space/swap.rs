//! Pages on swap: how they are taken from a running guest, and how they come back.
//!
//! # Protocol
//! A page is taken by one move of the kernel's (`sys/paging.rs`), which needs no fence: the content
//! that was moved is the content that was last written, and who touches the page afterwards waits. What
//! that one will get is said by the *book* of the space:
//!
//! * `swap`, the book's lock, comes after `table` and before the ledger. It is held from before a
//!   page is moved until the book says where its content is; by the pager from its look into the book
//!   until the page is there again; and by whoever lays something else over a page until the book has
//!   forgotten it. So the book and the memory never disagree for anybody who holds it.
//! * **Whoever holds `swap` must not touch guest memory**: the pager would have to bring the page and
//!   waits for `swap`. The pager takes no other lock of a space, so all other locks may be held over a
//!   touch (content sharing compares under `dma` and `table`).
//!
//! The table follows with the lag that it always has: a page that has come back is *swapped* in it
//! until the next settling finds it.
//!
//! The file is written while no lock of the space is held: until then the content is a copy in the book,
//! which serves who touches the page meanwhile.
//!
//! Nothing is lost when a write fails: the page goes back to where it was. A page that can't be read
//! is never made up, see [`Pager`](crate::Pager).

use super::{
    AddressSpace,
    book::{Book, Place},
    table::{Empty, Table},
    zero::is_zero,
};
use crate::{
    swap::{Packed, SwapArea, SwapError},
    sys::{Buffer, Scratch, WriteTracking},
    types::{PAGE_BYTES, Page, Ppn, PpnRun},
};
use std::{io, sync::atomic::Ordering, time::Duration};

/// Pages around a missing one that are shown as zeros with it, if nobody has given them content:
/// those of one page table.
const SHOWN: u32 = 512;

/// Runs over frames that are picked, where those before could not be made plain.
const MOST_PICKED: u32 = 16;

/// What was done for who touched a missing page.
#[derive(Debug)]
pub(crate) enum Served {
    /// It was on swap and is back.
    Read,
    /// It had no content, or somebody else had been there.
    Shown,
    /// It can't be read.
    Lost(io::Error),
}

/// What came of swapping out, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwapOutcome {
    /// On swap now, in the store or compressed.
    pub swapped: u64,
    /// All zero: dropped, nothing was written.
    pub zero: u64,
}

impl SwapOutcome {
    /// Pages of memory that were freed.
    #[must_use]
    pub const fn freed(&self) -> u64 {
        self.swapped + self.zero
    }
}

impl AddressSpace {
    /// The machine's swap, if it has any.
    pub(super) fn area(&self) -> Option<&SwapArea> {
        self.common.swap.get().map(AsRef::as_ref)
    }

    pub(super) fn paging(&self) -> Option<(&SwapArea, &WriteTracking)> {
        Some((self.area()?, self.common.tracking.as_ref()?))
    }

    /// Pages have other content now, or are gone; `remapped` when something was laid over them.
    pub(super) fn forget_swapped(&self, run: PpnRun, remapped: bool) {
        self.swap.lock().forget(run, remapped, self.area());
    }

    /// Takes up to `pages` private pages, chosen at random by `seed`, and puts them on swap, while the
    /// guest runs. Pages that are known to be private by the books are taken, so settle before. Pages
    /// that lie over frames are made the VM's own plain memory first.
    ///
    /// Returns how many, fewer when there are no more.
    ///
    /// # Errors
    /// No swap, or it is full or can't be written. What was not written is where it was.
    pub fn swap_out(&self, pages: u32, seed: u64) -> Result<SwapOutcome, SwapError> {
        let (area, tracking) = self.paging().ok_or(SwapError::None)?;
        let mut outcome = SwapOutcome::default();
        let mut random = Random(seed);
        let mut left = pages;
        while left > 0 {
            let before = outcome.freed();
            self.swap_batch(area, tracking, left, &mut random, &mut outcome)?;
            let freed = outcome.freed() - before;
            if freed == 0 && !self.flatten_some(&mut random) {
                break;
            }
            left = left.saturating_sub(u32::try_from(freed).unwrap_or(u32::MAX));
        }
        Ok(outcome)
    }

    /// One batch.
    fn swap_batch(
        &self,
        area: &SwapArea,
        tracking: &WriteTracking,
        pages: u32,
        random: &mut Random,
        outcome: &mut SwapOutcome,
    ) -> Result<(), SwapError> {
        let mut scratch = area.scratch.lock();
        scratch.prepare().map_err(SwapError::Move)?;
        let mut table = self.table.lock();
        let mut book = self.swap.lock();
        if table.detached() || book.lost {
            return Ok(());
        }
        let most = pages.min(scratch.pages());
        let picked = table.pick_private(most as usize, |below| random.below(below));
        // Before any page is taken: who failed in between would leave those taken before in no book.
        for &ppn in &picked {
            self.expect(tracking, &table, &mut book, ppn)
                .map_err(SwapError::Move)?;
        }
        let mut taken = Vec::new();
        for ppn in picked {
            match tracking.take(self.address_of(ppn), &mut scratch, self.pagemap()) {
                Ok(index) => taken.push((index, ppn)),
                // It is not there, or held by a transfer of the kernel's: another will do.
                Err(error) => tracing::trace!(%error, ?ppn, "not taken"),
            }
        }
        let (zero, full): (Vec<_>, Vec<_>) = (taken.iter())
            .map(|(index, ppn)| (*index, ppn))
            .partition(|&(index, _)| is_zero(scratch.page(index)));
        let mut released = Vec::new();
        for (_, ppn) in &zero {
            table.set_empty(
                PpnRun::new(**ppn, 1),
                Empty::Untouched,
                false,
                &mut released,
            );
        }
        area.count_zero(zero.len() as u64);
        outcome.zero += zero.len() as u64;
        for (index, ppn) in &full {
            let mut copy = Buffer::new();
            copy.0 = *scratch.page(*index);
            book.places.insert(**ppn, Place::Writing(copy));
            table.set_swapped(**ppn);
        }
        drop(book);
        drop(table);
        let (packed, rest) = pack(area, &scratch, full);
        outcome.swapped += packed.len() as u64;
        self.packed(area, packed);
        // The file may be slow: nobody waits for it but the next batch.
        let written = write_out(area, &scratch, &rest);
        self.written(area, tracking, &rest, &written);
        scratch.clear().map_err(SwapError::Move)?;
        outcome.swapped += written?.len() as u64;
        Ok(())
    }

    /// The pages have been compressed. Those that were touched meanwhile need it no more.
    fn packed(&self, area: &SwapArea, pages: Vec<(Ppn, Packed)>) {
        let mut book = self.swap.lock();
        for (ppn, packed) in pages {
            match book.places.get_mut(&ppn) {
                Some(place @ Place::Writing(_)) => *place = Place::Packed(packed),
                _ => area.drop_packed(&packed, false),
            }
        }
    }

    /// The pages have been written, or could not be. Those that were touched meanwhile, or have other
    /// content by now, are no longer in the book: their slots are free again.
    fn written(
        &self,
        area: &SwapArea,
        tracking: &WriteTracking,
        pages: &[Numbered<'_>],
        written: &Result<Vec<u32>, SwapError>,
    ) {
        let mut book = self.swap.lock();
        for (number, (_, ppn)) in pages.iter().enumerate() {
            let slot = written.as_ref().ok().and_then(|slots| slots.get(number));
            let waits = matches!(book.places.get(ppn), Some(Place::Writing(_)));
            match (waits, slot) {
                (true, Some(slot)) => {
                    book.places.insert(**ppn, Place::Slot(*slot));
                }
                (true, None) => {
                    if let Some(Place::Writing(copy)) = book.places.remove(ppn) {
                        self.put_back(tracking, &mut book, **ppn, &copy.0);
                    }
                }
                (false, Some(slot)) => area.free([*slot]),
                (false, None) => {}
            }
        }
    }

    /// Has the next touch of a page that lies over no frame told, once it is missing.
    pub(super) fn expect(
        &self,
        tracking: &WriteTracking,
        table: &Table,
        book: &mut Book,
        ppn: Ppn,
    ) -> io::Result<()> {
        if !book.is_expected(ppn) {
            let run = table.plain_around(ppn, SHOWN);
            let (start, end) = (self.address_of(run.start), self.address_of(run.end()));
            book.ask(run);
            tracking.expect_missing(start, end - start)?;
            book.expect(run);
        }
        Ok(())
    }

    /// Gives a page that was taken back at once; keeps it for later where that fails.
    pub(super) fn put_back(
        &self,
        tracking: &WriteTracking,
        book: &mut Book,
        ppn: Ppn,
        page: &Page,
    ) {
        if let Err(error) = tracking.give(self.address_of(ppn), page) {
            tracing::warn!(%error, vm = ?self.vm, ?ppn, "a page could not be given back at once");
            let mut kept = Buffer::new();
            kept.0 = *page;
            book.places.insert(ppn, Place::Kept(kept));
            // They look again, and ask for it once more.
            tracking.wake(self.address_of(ppn));
        }
    }

    /// Makes pages that were written over frames plain memory; false when there are none, or none
    /// of some that were picked can be made.
    fn flatten_some(&self, random: &mut Random) -> bool {
        (0..MOST_PICKED).any(|_| {
            let picked = self.table.lock().pick_broken(|below| random.below(below));
            picked.is_some_and(|run| self.flatten(run))
        })
    }

    /// Brings the page at a host address back for who touched it.
    pub(crate) fn serve_touch(&self, address: u64, buffer: &mut Buffer) -> Served {
        let Some((area, tracking)) = self.paging() else {
            return Served::Shown;
        };
        let ppn = self.ppn_of(address);
        let mut book = self.swap.lock();
        book.watched.remove(&ppn);
        let read = match book.places.get(&ppn) {
            Some(Place::Slot(slot)) => area.store.read(*slot, &mut buffer.0),
            Some(Place::Packed(packed)) => packed.unpack(&mut buffer.0),
            Some(Place::Kept(_) | Place::Writing(_)) => {
                if let Some(Place::Kept(kept) | Place::Writing(kept)) = book.places.remove(&ppn) {
                    self.put_back(tracking, &mut book, ppn, &kept.0);
                    tracking.wake(address);
                }
                return Served::Read;
            }
            None => {
                self.show(tracking, &book, ppn);
                return Served::Shown;
            }
        };
        if let Err(error) = read {
            if self.is_abandoned() {
                self.show(tracking, &book, ppn);
                return Served::Shown;
            }
            area.count_read_error();
            book.lost = true;
            book.awaited.push(ppn);
            return Served::Lost(error);
        }
        match book.places.remove(&ppn) {
            Some(Place::Slot(slot)) => area.free([slot]),
            Some(Place::Packed(packed)) => area.drop_packed(&packed, true),
            _ => {}
        }
        self.put_back(tracking, &mut book, ppn, &buffer.0);
        Served::Read
    }

    /// Shows zeros where no content is, at the page and around it.
    fn show(&self, tracking: &WriteTracking, book: &Book, ppn: Ppn) {
        let address = self.address_of(ppn);
        if !book.may_show(ppn) {
            // The message is older than what lies there now.
            tracking.wake(address);
            return;
        }
        let block = ppn.0 - ppn.0 % SHOWN;
        let end = block.saturating_add(SHOWN).min(self.pages());
        let empty = |at: &u32| {
            let at = Ppn(*at);
            book.is_expected(at) && !book.places.contains_key(&at) && !book.watched.contains(&at)
        };
        let length = (ppn.0 + 1..end).take_while(empty).count() as u64 + 1;
        // Together they may be several mappings, which the kernel refuses.
        let shown = tracking
            .give_zeros(address, length * PAGE_BYTES)
            .or_else(|_| tracking.give_zeros(address, PAGE_BYTES));
        match shown {
            Ok(_) => {}
            // A mark of the write tracking is in the way: then it is a page of zeros.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                let given = tracking.give(address, &Buffer::new().0);
                tracing::trace!(?given, ?ppn, "zeros");
            }
            // Something else was laid over it meanwhile.
            Err(error) => tracing::trace!(%error, ?ppn, "nothing to show"),
        }
        tracking.wake(address);
    }

    pub(crate) fn count_read(&self, latency: Duration) {
        if let Some(area) = self.area() {
            area.count_read(latency);
        }
    }

    /// Nobody runs on this memory any more: what a page held that can't be read does not matter, and
    /// who waits for one goes on and sees zeros.
    pub fn abandon(&self) {
        let Some((_, tracking)) = self.paging() else {
            return;
        };
        let mut book = self.swap.lock();
        self.abandoned.store(true, Ordering::Release);
        for ppn in std::mem::take(&mut book.awaited) {
            self.show(tracking, &book, ppn);
        }
    }

    /// Whether a page may ever be lost, see [`is_abandoned`](Self::is_abandoned): without swap none is.
    #[must_use]
    pub fn can_lose_pages(&self) -> bool {
        self.paging().is_some()
    }

    /// Whether pages may read as zeros that held something else: what was read before this said no is
    /// what the guest wrote, anything later may not be, and must reach nobody.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Brings all pages back that are on swap; one that can't be read is logged.
    pub(crate) fn bring_all_back(&self) {
        let away: Vec<Ppn> = self.swap.lock().places.keys().copied().collect();
        let mut buffer = Buffer::new();
        for ppn in away {
            if let Served::Lost(error) = self.serve_touch(self.address_of(ppn), &mut buffer) {
                tracing::error!(%error, vm = ?self.vm, ?ppn, "not brought back from swap");
            }
        }
    }

    pub(super) fn address_of(&self, ppn: Ppn) -> u64 {
        self.region.address() + ppn.address()
    }

    fn ppn_of(&self, address: u64) -> Ppn {
        let page = address.saturating_sub(self.region.address()) / PAGE_BYTES;
        Ppn(u32::try_from(page).unwrap_or(u32::MAX))
    }

    /// Whether a host address is in this space.
    pub(crate) fn contains_address(&self, address: u64) -> bool {
        (self.region.address()..self.region.address() + self.bytes()).contains(&address)
    }
}

/// A page of the scratch memory, and whose it is.
type Numbered<'a> = (u32, &'a Ppn);

/// Compresses what there is room for; that, and what has to be written.
fn pack<'a>(
    area: &SwapArea,
    scratch: &Scratch,
    full: Vec<Numbered<'a>>,
) -> (Vec<(Ppn, Packed)>, Vec<Numbered<'a>>) {
    let (mut packed, mut rest) = (Vec::new(), Vec::new());
    for (index, ppn) in full {
        match area.pack(scratch.page(index)) {
            Some(page) => packed.push((*ppn, page)),
            None => rest.push((index, ppn)),
        }
    }
    (packed, rest)
}

/// Writes the pages of the scratch memory that are named; their slots.
fn write_out(
    area: &SwapArea,
    scratch: &Scratch,
    full: &[Numbered<'_>],
) -> Result<Vec<u32>, SwapError> {
    if full.is_empty() {
        return Ok(Vec::new());
    }
    let slots = area.allocate(full.len())?;
    let indices: Vec<u32> = full.iter().map(|(index, _)| *index).collect();
    let last = indices.last().map_or(0, |last| last + 1);
    match area.write(&slots, &indices, scratch.bytes(last)) {
        Ok(()) => Ok(slots),
        Err(error) => {
            area.free(slots);
            Err(SwapError::Write(error))
        }
    }
}

/// Random numbers that follow from a seed (splitmix64).
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// A number from 0 to below `below`, which is not 0.
    pub(super) fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % (below as u64).max(1)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Mechanism, Pager, Pmap, PmapConfig, ShareCandidate, SwapLimits, SwapStore,
        types::{GroupId, PAGE_SIZE, VmId},
    };
    use vm_memory::{Bytes, GuestAddress};

    #[derive(Debug)]
    struct NoStore;

    impl SwapStore for NoStore {
        fn write(&self, _: u32, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn read(&self, _: u32, _: &mut Page) -> io::Result<()> {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Two who wait for one page send two messages, and the second may be read when the page has long
    /// been there and was shared.
    #[test]
    fn a_late_message_does_not_hide_what_was_laid_over_the_page() {
        let config = PmapConfig {
            frame_capacity: 1 << 28,
            ..PmapConfig::default()
        };
        let pmap = Pmap::new(&config).unwrap();
        let _pager = match Pager::start(&pmap, Box::new(NoStore), SwapLimits::store(0), |_| ()) {
            Ok(pager) => pager,
            Err(error) => {
                eprintln!("not run: {error}");
                return;
            }
        };
        let space = pmap
            .create_space(VmId(1), GroupId(0), 4 * PAGE_BYTES)
            .unwrap();
        let (at, content) = (Ppn(1), [7; PAGE_SIZE]);
        let write = |content: &[u8]| {
            let place = GuestAddress(at.address());
            space.access().memory().write_slice(content, place).unwrap();
        };
        write(&content);
        // From here on the page is asked for when it is missing.
        let watch = space.watch(4, 1).unwrap();
        let _ = space.end_watch(watch);
        let mut frames = pmap.frames().allocate(1, GroupId(0)).unwrap();
        frames.bytes_mut().copy_from_slice(&content);
        let frames = frames.publish();
        let frames = &frames;
        let outcome = space.share(&[ShareCandidate { at, frames }], Mechanism::Content);
        assert_eq!(outcome.shared, 1);
        // Its overlay is tracked, as after some quiet passes, and its page is not in the page table.
        space.track_writes(PpnRun::new(at, 1)).unwrap();
        let mut buffer = Buffer::new();
        space.serve_touch(space.address_of(at), &mut buffer);
        assert!(space.with_page(at, |page| *page == content));
    }
}
