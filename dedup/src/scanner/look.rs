//! Reading and hashing pages, on as many threads as the scanner may use.
//!
//! This is where a pass spends most of its time, and it needs nothing but the
//! pages: so it is done for a whole slice at once, before the index is asked.

use crate::cpu::{self, Thread};
use crate::page::{Content, PageHasher};
use crate::runs::RunSet;
use mirrorball_pmap::{AddressSpace, PageState, Ppn, PpnRun};
use rayon::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// Pages that are one piece of work for a hashing thread (some 15 us).
const PIECE: u32 = 64;

/// Slices below this size are hashed by the scanning thread itself: waking
/// another would take longer.
const WORTH_THREADS: u64 = 512;

/// Pages of some VMs, to be looked at together.
#[derive(Debug, Default)]
pub(super) struct Slice {
    pub(super) parts: Vec<(Arc<AddressSpace>, RunSet)>,
}

impl Slice {
    pub(super) fn pages(&self) -> u64 {
        self.parts.iter().map(|(_, pages)| pages.pages()).sum()
    }
}

/// What was seen of one VM's pages, in their order.
pub(super) type Seen = Vec<(Ppn, Content)>;

/// The hashing threads.
#[derive(Debug)]
pub(super) struct Lookers {
    pool: Option<rayon::ThreadPool>,
    hasher: PageHasher,
    /// CPU time of the pool at the last reading, and whether it worked since.
    cpu: Duration,
    worked: bool,
    /// How far the pool gives way, and whether it does now.
    nice: u8,
    first: bool,
}

impl Lookers {
    /// With `threads` hashing threads; if the system won't give them, the
    /// scanning thread hashes alone, which is slower but no less right.
    pub(super) fn new(threads: usize, nice: u8, hasher: PageHasher) -> Self {
        let pool = (threads > 1).then(|| {
            let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
            builder
                .thread_name(|n| format!("scan-hash-{n}"))
                .start_handler(move |_| Thread::this().give_way(nice))
                .build()
        });
        let pool = pool.and_then(|built| {
            built
                .inspect_err(|error| tracing::warn!(%error, "no hashing threads"))
                .ok()
        });
        Self {
            pool,
            hasher,
            cpu: Duration::ZERO,
            worked: false,
            nice,
            first: false,
        }
    }

    /// Has the hashing threads go before all others, or give way again. The scanning thread waits for
    /// them: if it goes first and they don't, its pass takes as long as guests leave them.
    pub(super) fn go_first(&mut self, first: bool) {
        let nice = self.nice;
        if let Some(pool) = &self.pool
            && std::mem::replace(&mut self.first, first) != first
        {
            pool.broadcast(move |_| match first {
                true => Thread::this().go_first(),
                false => Thread::this().give_way(nice),
            });
        }
    }

    /// The hashing threads.
    pub(super) fn threads(&self) -> Vec<Thread> {
        let pool = self.pool.as_ref();
        pool.map_or_else(Vec::new, |pool| pool.broadcast(|_| Thread::this()))
    }

    pub(super) fn hasher(&self) -> &PageHasher {
        &self.hasher
    }

    /// Looks at all pages of the slice that are still private; one list per
    /// part of the slice.
    pub(super) fn look(&mut self, slice: &Slice) -> Vec<Seen> {
        let hasher = &self.hasher;
        match &self.pool {
            Some(pool) if slice.pages() >= WORTH_THREADS => {
                self.worked = true;
                pool.install(|| {
                    slice
                        .parts
                        .par_iter()
                        .map(|part| look_in_parallel(hasher, part))
                        .collect()
                })
            }
            _ => slice
                .parts
                .iter()
                .map(|(space, pages)| {
                    pages
                        .runs()
                        .iter()
                        .flat_map(|run| look_at(hasher, space, *run))
                        .collect()
                })
                .collect(),
        }
    }

    /// CPU time the hashing threads have used in all. They are asked only if
    /// they worked since the last time: a pass without work wakes nobody.
    pub(super) fn cpu(&mut self) -> Duration {
        if let (Some(pool), true) = (&self.pool, std::mem::take(&mut self.worked)) {
            self.cpu = pool.broadcast(move |_| cpu::thread()).iter().sum();
        }
        self.cpu
    }
}

fn look_in_parallel(hasher: &PageHasher, (space, pages): &(Arc<AddressSpace>, RunSet)) -> Seen {
    let pieces: Vec<PpnRun> = pages.runs().iter().flat_map(|run| pieces(*run)).collect();
    pieces
        .par_iter()
        .flat_map_iter(|piece| look_at(hasher, space, *piece))
        .collect()
}

fn look_at<'a>(
    hasher: &'a PageHasher,
    space: &'a AddressSpace,
    run: PpnRun,
) -> impl Iterator<Item = (Ppn, Content)> + 'a {
    run.iter()
        .zip(space.states(run))
        .filter(|(_, state)| *state == PageState::Private)
        .map(|(ppn, _)| (ppn, space.with_page(ppn, |page| hasher.look(page))))
}

/// The run cut into pieces of at most [`PIECE`] pages.
fn pieces(run: PpnRun) -> impl Iterator<Item = PpnRun> {
    (0..run.pages)
        .step_by(PIECE as usize)
        .map(move |from| PpnRun::new(run.start.plus(from), (run.pages - from).min(PIECE)))
}
