//! The thread that brings pages back when they are touched.

use super::{SwapArea, SwapCounts, SwapError, SwapLimits, SwapStore};
use crate::{
    pmap::Pmap,
    space::{AddressSpace, Served},
    sys::{Buffer, Undisturbed},
    types::VmId,
};
use std::{
    fmt, io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

/// How long the thread sleeps at most before it looks whether it shall end, milliseconds.
const LOOK: u32 = 100;

/// A page that can't be brought back.
#[derive(Clone, Debug)]
pub struct Lost {
    /// Whose page.
    pub vm: VmId,
    /// Why.
    pub reason: String,
}

/// Swap of a machine, in use until this is dropped.
///
/// Whoever touches a page that is on swap sleeps in the kernel until this has brought it back. A page
/// that can't be read is not made up: who waits for it goes on waiting, and `lost` is told, on this
/// thread, which must not wait in it. It has the VM's vCPUs leave the guest for good, and then calls
/// [`AddressSpace::abandon`], after which what is left of the VM's devices may see zeros.
pub struct Pager {
    area: Arc<SwapArea>,
    pmap: Arc<Pmap>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Pager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pager")
            .field("area", &self.area)
            .finish_non_exhaustive()
    }
}

impl Pager {
    /// Gives a machine swap in that store, once in its life.
    ///
    /// # Errors
    /// [`SwapError::None`] where writes are not tracked, or the kernel can't move pages (Linux 6.8) or
    /// does not let this process handle its own faults (root, or `CAP_SYS_PTRACE`).
    pub fn start(
        pmap: &Arc<Pmap>,
        store: Box<dyn SwapStore>,
        limits: SwapLimits,
        lost: impl Fn(Lost) + Send + 'static,
    ) -> Result<Self, SwapError> {
        let tracking = pmap.common.tracking.as_ref();
        let tracking = tracking.filter(|tracking| tracking.can_page());
        let tracking = tracking.ok_or(SwapError::None)?;
        let area = SwapArea::new(tracking, store, limits).map_err(SwapError::Move)?;
        let area = Arc::new(area);
        pmap.common
            .swap
            .set(Arc::clone(&area))
            .map_err(|_| SwapError::None)?;
        let end = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            pmap: Arc::downgrade(pmap),
            end: Arc::clone(&end),
            lost,
        };
        let thread = thread::Builder::new()
            .name("pager".to_owned())
            .spawn(move || worker.run())
            .map_err(SwapError::Move)?;
        Ok(Self {
            area,
            pmap: Arc::clone(pmap),
            end,
            thread: Some(thread),
        })
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> SwapCounts {
        self.area.counts()
    }
}

impl Drop for Pager {
    /// Brings every page back that is still on swap, then ends.
    fn drop(&mut self) {
        for space in self.pmap.spaces() {
            space.bring_all_back();
        }
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the pager panicked");
        }
    }
}

struct Worker<L> {
    pmap: Weak<Pmap>,
    end: Arc<AtomicBool>,
    lost: L,
}

impl<L: Fn(Lost)> Worker<L> {
    fn run(&self) {
        // Guests wait for this thread, and it does little.
        let _first = Undisturbed::begin();
        let mut buffer = Buffer::new();
        while !self.end.load(Ordering::Relaxed) {
            let Some(pmap) = self.pmap.upgrade() else {
                return;
            };
            let Some(tracking) = pmap.common.tracking.as_ref() else {
                return;
            };
            match tracking.faults(LOOK) {
                Ok(faults) => {
                    for address in faults {
                        self.serve(&pmap, address, &mut buffer);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "touches of swapped pages can't be read");
                    thread::sleep(std::time::Duration::from_millis(u64::from(LOOK)));
                }
            }
        }
    }

    fn serve(&self, pmap: &Pmap, address: u64, buffer: &mut Buffer) {
        let seen = Instant::now();
        let Some(space) = pmap.space_at(address) else {
            // Its VM has gone; who still looks at its memory looks at nothing.
            pmap.show_zeros(address);
            return;
        };
        match space.serve_touch(address, buffer) {
            Served::Read => space.count_read(seen.elapsed()),
            Served::Shown => {}
            Served::Lost(error) => self.tell(&space, &error),
        }
    }

    fn tell(&self, space: &AddressSpace, error: &io::Error) {
        tracing::error!(%error, vm = ?space.vm(), "a page can't be read from swap");
        (self.lost)(Lost {
            vm: space.vm(),
            reason: format!("a page can't be read back from swap: {error}"),
        });
    }
}
