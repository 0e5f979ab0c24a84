//! virtio-balloon (virtio 1.2, clause 5.5): memory that the guest gives up, and how it fares.
//!
//! The monitor sets a target ([`Balloon::set_target`]), the guest's driver follows it in its own
//! time: it takes pages from its own allocator and names them. What it names leaves the machine at
//! once, free pages that it reports as well. Nothing it says is trusted: numbers outside its memory
//! are counted and passed over, pages named twice count once, and a page that it writes all the
//! same is its own again in the pmap's books.
//!
//! Free page hints are offered and never asked for. Drivers number their queues without those of
//! features that they did not take, and Linux did so until 6.11 even where the specification fixes
//! the numbers: with all features there, all agree that the reporting queue is number 4.

mod config;
mod pages;
mod statistics;

pub use statistics::GuestStatistics;

use crate::device::{Completed, Device, DeviceError};
use crate::queue::{self, Buffers, Chain};
use crate::transport::Notifier;
use config::Config;
use mirrorball_pmap::{Access, AddressSpace, GiveOutcome, Ppn, PpnRun};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;

/// inflateq, deflateq, statsq, free_page_vq, reporting_vq (clause 5.5.2). Linux reports only where
/// the queue has room for 32.
const QUEUE_SIZES: [u16; 5] = [128; 5];
const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const STATISTICS: usize = 2;
const REPORTING: usize = 4;

/// Most bytes of page numbers in one chain: a gigabyte's pages, where Linux names one megabyte's.
const MAX_NUMBERS: u64 = 1 << 20;

/// What came of the guest's giving, in pages since the VM was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalloonCounts {
    /// Pages put into the balloon.
    pub inflated: u64,
    /// Pages taken out.
    pub deflated: u64,
    /// Free pages reported and dropped.
    pub reported: u64,
    /// Pages that stayed as they were: no mappings left, or a pattern expected in free pages.
    pub refused: u64,
    /// Page numbers outside the guest's memory.
    pub outside: u64,
}

/// One guest's balloon.
#[derive(Debug)]
pub struct Balloon {
    space: Arc<AddressSpace>,
    notifier: OnceLock<Notifier>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    config: Config,
    counts: BalloonCounts,
    statistics: Option<GuestStatistics>,
    /// The statistics' buffer, by the head of its chain: the guest fills it anew when it comes back.
    held: Option<u16>,
    /// New statistics were asked for.
    wanted: bool,
}

impl Balloon {
    /// An empty balloon of the guest that has the memory `space`.
    #[must_use]
    pub fn new(space: &Arc<AddressSpace>) -> Self {
        Self {
            space: Arc::clone(space),
            notifier: OnceLock::new(),
            state: Mutex::default(),
        }
    }

    /// Asks the guest to have `pages` 4 KiB pages in its balloon, more or fewer than now. It
    /// follows as fast and as far as it can; [`Self::actual`] tells.
    pub fn set_target(&self, pages: u32) {
        let pages = pages.min(self.space.pages());
        let before = std::mem::replace(&mut self.state.lock().config.target, pages.into());
        if before.get() != pages
            && let Some(notifier) = self.notifier.get()
        {
            notifier.configuration_changed();
        }
    }

    /// Pages that the guest is asked to have in the balloon.
    #[must_use]
    pub fn target(&self) -> u32 {
        self.state.lock().config.target.get()
    }

    /// Pages that the guest says it has in the balloon. What really left is the pmap's to say:
    /// `ballooned` of [`AddressSpace::totals`].
    #[must_use]
    pub fn actual(&self) -> u32 {
        self.state.lock().config.actual.get()
    }

    /// Asks the guest for new statistics; they come in its own time, if it has the feature.
    pub fn request_statistics(&self) {
        self.state.lock().wanted = true;
        if let Some(notifier) = self.notifier.get() {
            notifier.ring(STATISTICS);
        }
    }

    /// The last statistics that the guest gave.
    #[must_use]
    pub fn statistics(&self) -> Option<GuestStatistics> {
        self.state.lock().statistics
    }

    /// What came of the guest's giving so far.
    #[must_use]
    pub fn counts(&self) -> BalloonCounts {
        self.state.lock().counts
    }

    /// Pages into the balloon, or out of it.
    fn move_pages(
        &self,
        queue: usize,
        chain: &Chain,
        memory: &GuestMemoryMmap,
    ) -> Result<(), DeviceError> {
        let mut numbers = numbers(chain, memory)?;
        let (runs, outside) = pages::from_numbers(&mut numbers, self.space.pages());
        if queue == INFLATE {
            let outcome = self.space.balloon(&runs);
            self.count(outcome, |counts| &mut counts.inflated);
        } else {
            let deflated = self.space.unballoon(&runs);
            self.state.lock().counts.deflated += deflated;
        }
        self.state.lock().counts.outside += outside;
        Ok(())
    }

    /// Free pages. A guest that expects a pattern in them must find it there (clause 5.5.6.7): then
    /// they stay.
    fn drop_reported(&self, buffers: &Buffers) {
        let runs = pages::from_buffers(buffers);
        let outcome = if self.state.lock().config.poison.get() == 0 {
            self.space.discard(&runs)
        } else {
            GiveOutcome {
                refused: runs.iter().map(|run| u64::from(run.pages)).sum(),
                ..GiveOutcome::default()
            }
        };
        self.count(outcome, |counts| &mut counts.reported);
    }

    fn count(&self, outcome: GiveOutcome, kind: fn(&mut BalloonCounts) -> &mut u64) {
        let counts = &mut self.state.lock().counts;
        *kind(counts) += outcome.given;
        counts.refused += outcome.refused;
    }

    /// Takes the statistics in; the buffer stays here until new ones are wanted.
    fn take_statistics(
        &self,
        ring: &mut Queue,
        memory: &GuestMemoryMmap,
    ) -> Result<Completed, DeviceError> {
        let mut completed = queue::visit(
            ring,
            memory,
            || true,
            |ring, chain| {
                let mut bytes = [0; statistics::MAX_BYTES];
                let read = chain
                    .readable
                    .read(memory, &mut bytes)
                    .map_err(virtio_queue::Error::GuestMemory)?;
                let mut state = self.state.lock();
                state.statistics = Some(GuestStatistics::parse(&bytes[..read], Instant::now()));
                // Drivers have one buffer here; of several, the last is kept.
                let earlier = state.held.replace(chain.head);
                give_back(earlier, ring, memory)
            },
        )?;
        let mut state = self.state.lock();
        if state.wanted && state.held.is_some() {
            state.wanted = false;
            completed.used += give_back(state.held.take(), ring, memory)?;
        }
        Ok(completed)
    }
}

impl Device for Balloon {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_BALLOON
    }

    fn features(&self) -> u64 {
        Config::FEATURES
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn attach(&self, notifier: Notifier) {
        // A second transport before one device would be the monitor's mistake; the first counts.
        let _ = self.notifier.set(notifier);
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.state.lock().config.read(offset, data);
    }

    fn write_config(&self, offset: u64, data: &[u8]) {
        self.state.lock().config.write(offset, data);
    }

    fn process(
        &self,
        queue: usize,
        ring: &mut Queue,
        access: &Access<'_>,
    ) -> Result<Completed, DeviceError> {
        let memory = access.memory();
        match queue {
            STATISTICS => self.take_statistics(ring, memory),
            INFLATE | DEFLATE => queue::drain(ring, memory, |chain| {
                self.move_pages(queue, &chain, memory)?;
                Ok(0)
            }),
            REPORTING => queue::drain(ring, memory, |chain| {
                self.drop_reported(&chain.writable);
                Ok(0)
            }),
            // Hints come only when asked for; whatever comes goes back.
            _ => queue::drain(ring, memory, |_| Ok(0)),
        }
    }

    /// The driver has forgotten its balloon: its pages are the guest's again.
    fn reset(&self) {
        let mut state = self.state.lock();
        state.config.reset();
        (state.held, state.wanted, state.statistics) = (None, false, None);
        drop(state);
        let whole = PpnRun::new(Ppn(0), self.space.pages());
        self.space.unballoon(&[whole]);
    }
}

/// The page numbers in a chain, 32 bits each.
fn numbers(chain: &Chain, memory: &GuestMemoryMmap) -> Result<Vec<u32>, DeviceError> {
    let head = chain.head;
    let bad = |reason| DeviceError::Request { head, reason };
    let bytes = chain.readable.bytes();
    if bytes > MAX_NUMBERS {
        return Err(bad("more than 1 MiB of page numbers in one chain"));
    }
    let mut data = vec![0; usize::try_from(bytes).unwrap_or(0)];
    chain
        .readable
        .read(memory, &mut data)
        .map_err(virtio_queue::Error::GuestMemory)?;
    let (numbers, rest) = data.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(bad("page numbers that are not whole"));
    }
    Ok(numbers.iter().map(|raw| u32::from_le_bytes(*raw)).collect())
}

/// Gives a chain back to the guest, if there is one; answers how many.
fn give_back(
    head: Option<u16>,
    ring: &mut Queue,
    memory: &GuestMemoryMmap,
) -> Result<u32, DeviceError> {
    let Some(head) = head else { return Ok(0) };
    ring.add_used(memory, head, 0)?;
    Ok(1)
}
