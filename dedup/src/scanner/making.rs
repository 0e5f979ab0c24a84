//! New frames with the content of guest pages.
//!
//! The guest may write its pages while they are copied, so what counts is the
//! copy: its hash is checked, and only a frame that holds what was expected
//! may be entered into the index, where its entry then stays true.

use super::books::Mark;
use crate::index::Key;
use crate::page::PageHasher;
use mirrorball_pmap::{
    AddressSpace, NewFrames, PAGE_SIZE, Page, PageState, PinnedFrames, Pmap, PpnRun,
};

/// Pages copied in one go: small enough to stay in the second-level cache
/// between copying, hashing and writing.
const CHUNK: u32 = 32;

/// Frames made from a run of pages, and which of them hold what was expected.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) frames: PinnedFrames,
    pub(super) good: Vec<bool>,
}

/// Copies the pages of `run`, whose contents are thought to be `keys`, into
/// consecutive new frames. `None` if there is no memory for them.
pub(super) fn make(
    pmap: &Pmap,
    hasher: &PageHasher,
    from: &AddressSpace,
    run: PpnRun,
    keys: &[Key],
) -> Option<Made> {
    let new = pmap.frames().allocate(run.pages, from.group()).ok();
    let mut new = new?;
    match fill(&mut new, hasher, from, run, keys) {
        Ok(good) => Some(Made {
            frames: new.publish(),
            good,
        }),
        Err(error) => {
            tracing::warn!(%error, "frames could not be filled");
            None
        }
    }
}

fn fill(
    new: &mut NewFrames,
    hasher: &PageHasher,
    from: &AddressSpace,
    run: PpnRun,
    keys: &[Key],
) -> std::io::Result<Vec<bool>> {
    let mut good = Vec::with_capacity(keys.len());
    let mut buffer: Vec<Page> = vec![[0; PAGE_SIZE]; run.pages.min(CHUNK) as usize];
    let mut offset = 0;
    for (first, keys) in run
        .iter()
        .step_by(CHUNK as usize)
        .zip(keys.chunks(CHUNK as usize))
    {
        let pages = PpnRun::new(first, CHUNK.min(run.end().0 - first.0));
        let states = from.states(pages);
        for (((ppn, state), key), copy) in pages.iter().zip(states).zip(keys).zip(&mut buffer) {
            // Pages that are no longer private are not read: that could make the kernel back them.
            let private = state == PageState::Private;
            if private {
                from.with_page(ppn, |page| copy.copy_from_slice(page));
            }
            good.push(private && Mark::of(hasher.hash(copy)).key(from.group()) == *key);
        }
        let filled = buffer
            .get(..pages.pages as usize)
            .unwrap_or(&buffer)
            .as_flattened();
        new.write(offset, filled)?;
        offset += filled.len();
    }
    Ok(good)
}
