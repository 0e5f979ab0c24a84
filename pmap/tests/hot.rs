//! Pages that are written all the time are taken and come back, and no write is lost.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use mirrorball_pmap::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileMemory};

const PAGES: u32 = 4;

/// Counts in each page by turns, in a number that is nobody else's, until told to end; `Err` tells
/// what was not there any more.
fn count(memory: &vm_memory::GuestMemoryMmap, writer: u32, end: &AtomicBool) -> Result<(), String> {
    let mut counted = [0; PAGES as usize];
    while !end.load(Ordering::Relaxed) {
        for (page, counted) in (0..).zip(&mut counted) {
            let at = GuestAddress(Ppn(page).address() + 64 * u64::from(writer));
            let place = memory.get_slice(at, 8).unwrap();
            let number = place.get_atomic_ref::<AtomicU64>(0).unwrap();
            for _ in 0..8 {
                let found = number.fetch_add(1, Ordering::Relaxed);
                if found != *counted {
                    end.store(true, Ordering::Relaxed);
                    return Err(format!("page {page}: {found} in place of {counted}"));
                }
                *counted += 1;
            }
        }
    }
    Ok(())
}

/// As guests' status pages are: written without pause, while they are swapped, watched, and told of.
#[test]
fn no_write_is_lost_of_pages_that_are_written_without_pause() {
    let pmap = Pmap::new(&PmapConfig {
        frame_capacity: 1 << 28,
        ..PmapConfig::default()
    })
    .unwrap();
    let file = SwapFile::create(&std::env::temp_dir()).unwrap();
    let limits = SwapLimits::store(64);
    let pager = match Pager::start(&pmap, Box::new(file), limits, |lost| panic!("{lost:?}")) {
        Ok(pager) => pager,
        Err(error) => return eprintln!("not run: {error}"),
    };
    let bytes = u64::from(PAGES) * PAGE_BYTES;
    let space = pmap.create_space(VmId(1), GroupId(0), bytes).unwrap();
    let memory = space.access().memory().clone();
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers = [0, 1].map(|writer| {
            let (memory, end) = (&memory, &end);
            scope.spawn(move || count(memory, writer, end))
        });
        let (mut seed, longer) = (0, std::env::var("MIRRORBALL_STRESS"));
        let wanted = 500 * longer.map_or(1, |times| times.parse().unwrap());
        while pager.counts().read < wanted && !end.load(Ordering::Relaxed) {
            seed += 1;
            let _ = space.take_written();
            if seed % 2 == 0 {
                space.swap_out(PAGES, seed).unwrap();
            } else {
                let watch = space.watch(PAGES, seed).unwrap();
                let _ = space.end_watch(watch);
            }
        }
        end.store(true, Ordering::Relaxed);
        for writer in writers {
            assert_eq!(writer.join().unwrap(), Ok(()));
        }
    });
}
