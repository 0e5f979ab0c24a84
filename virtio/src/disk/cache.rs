//! The machine-wide block cache: which frame holds which block of which image (Disco's global
//! disk cache).
//!
//! The cache keeps nothing alive: it remembers frames weakly, and a frame lives as long as a
//! guest maps it. When several guests miss one block at the same time, one reads it and the
//! others wait for that read.

use super::image::Identity;
use super::resting::{Rest, Resting};
use super::{BLOCK_BYTES, BLOCK_SIZE, BaseImage, DiskError};
use mirrorball_pmap::{GroupId, PinnedFrames, Pmap, WeakFrame};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Blocks that are read at once when frames are made: the second-level cache has room for them.
const CHUNK: usize = 32;

/// All images' block tables.
pub struct BlockCache {
    pmap: Arc<Pmap>,
    resting: Option<Arc<Resting>>,
    tables: Mutex<HashMap<(Identity, GroupId), Weak<BlockTable>>>,
}

impl BlockCache {
    /// An empty cache whose frames are the pmap's. Disks over it map blocks as they are read.
    #[must_use]
    pub fn new(pmap: Arc<Pmap>) -> Self {
        Self {
            pmap,
            resting: None,
            tables: Mutex::new(HashMap::new()),
        }
    }

    /// An empty cache whose disks copy blocks first, and map them when the copies have rested.
    /// Somebody has to call [`Self::map_rested`] for that, or [`Self::run`].
    #[must_use]
    pub fn with_rest(pmap: Arc<Pmap>, rest: Rest) -> Self {
        Self {
            resting: Some(Arc::new(Resting::new(Arc::clone(&pmap), rest))),
            ..Self::new(pmap)
        }
    }

    /// Maps what has rested by `now`.
    pub fn map_rested(&self, now: Instant) {
        if let Some(resting) = &self.resting {
            resting.map(now);
        }
    }

    /// Maps all that disks have copied, rested or not; when this returns nothing waits that did
    /// before.
    pub fn map_all(&self) {
        if let Some(resting) = &self.resting {
            resting.map_all();
        }
    }

    /// Maps what has rested, on and on, until [`Self::close`] is called.
    pub fn run(&self) {
        if let Some(resting) = &self.resting {
            resting.run();
        }
    }

    /// Ends [`Self::run`], now or later; copies that wait stay copies.
    pub fn close(&self) {
        if let Some(resting) = &self.resting {
            resting.close();
        }
    }

    pub(super) fn resting(&self) -> Option<&Arc<Resting>> {
        self.resting.as_ref()
    }

    /// The table of an image in a sharing group, for as long as some disk holds it. An image
    /// that was opened twice and didn't change in between has one.
    pub(super) fn table(&self, image: &BaseImage, group: GroupId) -> Arc<BlockTable> {
        let mut tables = self.tables.lock();
        tables.retain(|_, table| table.strong_count() > 0);
        let key = (image.identity(), group);
        if let Some(table) = tables.get(&key).and_then(Weak::upgrade) {
            return table;
        }
        let table = Arc::new(BlockTable {
            pmap: Arc::clone(&self.pmap),
            group,
            entries: Mutex::new(Entries::new(image.blocks())),
            filled: Condvar::new(),
        });
        tables.insert(key, Arc::downgrade(&table));
        table
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCache")
            .field("tables", &self.tables.lock().len())
            .finish_non_exhaustive()
    }
}

/// What is known of one block.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// No frame.
    Empty,
    /// Somebody is reading it.
    Busy,
    /// A frame that may have been freed since.
    Frame(WeakFrame),
}

/// A dense table, made at the first miss: an image that is only copied from needs none.
#[derive(Debug)]
struct Entries {
    blocks: u64,
    entries: Vec<Entry>,
}

impl Entries {
    fn new(blocks: u64) -> Self {
        Self {
            blocks,
            entries: Vec::new(),
        }
    }

    fn slice(&mut self, blocks: Range<u64>) -> &mut [Entry] {
        let at = |block| usize::try_from(block).unwrap_or(usize::MAX);
        if self.entries.is_empty() {
            self.entries.resize(at(self.blocks), Entry::Empty);
        }
        let end = at(blocks.end).min(self.entries.len());
        &mut self.entries[at(blocks.start).min(end)..end]
    }
}

/// The blocks of one image for one sharing group.
pub(super) struct BlockTable {
    pmap: Arc<Pmap>,
    group: GroupId,
    entries: Mutex<Entries>,
    filled: Condvar,
}

/// A read's progress: the frames so far by first block, and the blocks this thread must read.
type Parts = BTreeMap<u64, PinnedFrames>;

impl BlockTable {
    /// Frames of `blocks` consecutive blocks from `first` on, in order and in parts as long as
    /// possible, and the number of reads that took. `None` if the frame store is full.
    ///
    /// Each missing run is read at once, into consecutive frames.
    pub(super) fn frames(
        &self,
        image: &BaseImage,
        first: u64,
        blocks: u64,
    ) -> Result<Option<(Vec<PinnedFrames>, u64)>, DiskError> {
        let wanted = first..(first + blocks).min(image.blocks());
        let mut parts = Parts::new();
        let mut reads = 0;
        loop {
            let (claims, waiting) = self.look_up(wanted.clone(), &mut parts);
            if claims.is_empty() && !waiting {
                return Ok(Some((parts.into_values().collect(), reads)));
            }
            for claim in claims {
                let start = claim.blocks.start;
                let Some(frames) = claim.fill(image)? else {
                    return Ok(None);
                };
                parts.insert(start, frames);
                reads += 1;
            }
        }
    }

    /// Frames of all these blocks, if they are there already.
    pub(super) fn present(&self, blocks: Range<u64>) -> Option<Vec<PinnedFrames>> {
        let mut entries = self.entries.lock();
        if entries.entries.is_empty() {
            return None;
        }
        let mut parts = Vec::new();
        let mut block = blocks.start;
        while block < blocks.end {
            match self.pin(entries.slice(block..blocks.end)) {
                Found::Frames(frames) => {
                    block += u64::from(frames.pages());
                    parts.push(frames);
                }
                Found::Busy | Found::Missing => return None,
            }
        }
        Some(parts)
    }

    /// Pins what is there, claims what is missing; waits for others only if there is nothing
    /// else to do, so that two threads never wait for each other's claims.
    fn look_up(&self, wanted: Range<u64>, parts: &mut Parts) -> (Vec<Claim<'_>>, bool) {
        let mut entries = self.entries.lock();
        let mut missing: Vec<Range<u64>> = Vec::new();
        let mut waiting = false;
        let mut block = wanted.start;
        while block < wanted.end {
            if let Some(have) = parts.get(&block) {
                block += u64::from(have.pages());
                continue;
            }
            let known = parts.range(block..).next().map(|(&known, _)| known);
            match self.pin(entries.slice(block..known.unwrap_or(wanted.end))) {
                Found::Frames(frames) => {
                    let pages = u64::from(frames.pages());
                    parts.insert(block, frames);
                    block += pages;
                    continue;
                }
                Found::Busy => waiting = true,
                Found::Missing => {
                    entries.slice(block..block + 1).fill(Entry::Busy);
                    match missing.last_mut() {
                        Some(run) if run.end == block => run.end += 1,
                        _ => missing.push(block..block + 1),
                    }
                }
            }
            block += 1;
        }
        if waiting && missing.is_empty() {
            self.filled.wait(&mut entries);
        }
        drop(entries);
        let claims = missing
            .into_iter()
            .map(|blocks| Claim {
                table: self,
                blocks,
            })
            .collect();
        (claims, waiting)
    }

    /// Pins the longest run of consecutive live frames at the start of `entries`.
    fn pin(&self, entries: &[Entry]) -> Found {
        if matches!(entries.first(), Some(Entry::Busy)) {
            return Found::Busy;
        }
        let mut run: Vec<WeakFrame> = Vec::new();
        for entry in entries {
            match (entry, run.last()) {
                (Entry::Frame(weak), None) => run.push(*weak),
                (Entry::Frame(weak), Some(last)) if weak.mpn() == last.mpn().plus(1) => {
                    run.push(*weak);
                }
                _ => break,
            }
        }
        let pinned = self.pmap.frames().pin_run(&run);
        pinned.map_or(Found::Missing, Found::Frames)
    }
}

impl fmt::Debug for BlockTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockTable")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// What a look-up of one block found.
enum Found {
    Frames(PinnedFrames),
    Busy,
    Missing,
}

/// Blocks that this thread is reading; given back on every path, or the others would wait for ever.
struct Claim<'a> {
    table: &'a BlockTable,
    blocks: Range<u64>,
}

impl Claim<'_> {
    fn fill(self, image: &BaseImage) -> Result<Option<PinnedFrames>, DiskError> {
        let pages = u32::try_from(self.blocks.end - self.blocks.start).unwrap_or(u32::MAX);
        let Ok(mut frames) = self.table.pmap.frames().allocate(pages, self.table.group) else {
            return Ok(None);
        };
        // Through a buffer: to touch new frames would cost a fault and a page of zeros each.
        let mut buffer = vec![0; BLOCK_SIZE * CHUNK.min(pages as usize)];
        let bytes = pages as usize * BLOCK_SIZE;
        for offset in (0..bytes).step_by(buffer.len()) {
            let length = buffer.len().min(bytes - offset);
            let part = &mut buffer[..length];
            image.read(self.blocks.start * BLOCK_BYTES + offset as u64, part)?;
            if let Err(error) = frames.write(offset, part) {
                tracing::warn!(%error, "frames could not be filled");
                return Ok(None);
            }
        }
        let frames = frames.publish();
        let weak = frames.weak_all();
        let mut entries = self.table.entries.lock();
        for (entry, weak) in entries.slice(self.blocks.clone()).iter_mut().zip(weak) {
            *entry = Entry::Frame(weak);
        }
        Ok(Some(frames))
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut entries = self.table.entries.lock();
        for entry in entries.slice(self.blocks.clone()) {
            if matches!(entry, Entry::Busy) {
                *entry = Entry::Empty;
            }
        }
        self.table.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirrorball_pmap::PmapConfig;
    use std::io::Write;
    use std::time::Duration;

    /// Two readers' runs may get neighbouring frames. A block that was waited for must not bring
    /// those of its neighbours along that are known already.
    #[test]
    fn frames_cover_each_block_once_when_anothers_run_joins_ours() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..5_u8).flat_map(|block| [block; 4096]).collect();
        file.write_all(&content).unwrap();
        let image = BaseImage::open(file.path()).unwrap();
        // Room for these five frames alone, so that the second run can only lie before the first.
        let config = PmapConfig {
            frame_capacity: 5 * BLOCK_BYTES,
            ..PmapConfig::default()
        };
        let pmap = Pmap::new(&config).unwrap();
        let table = BlockCache::new(Arc::clone(&pmap)).table(&image, GroupId(0));

        let placeholder = pmap.frames().allocate(2, GroupId(0)).unwrap();
        let (claims, _) = table.look_up(0..2, &mut Parts::new());
        let (parts, first) = std::thread::scope(|scope| {
            let other = scope.spawn(|| table.frames(&image, 0, 5).unwrap().unwrap());
            while matches!(
                table.entries.lock().slice(4..5)[0],
                Entry::Empty | Entry::Busy
            ) {
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(placeholder);
            let claim = claims.into_iter().next().unwrap();
            let first = claim.fill(&image).unwrap().unwrap();
            (other.join().unwrap().0, first)
        });
        assert_eq!(
            first.start().plus(2),
            parts[1].start(),
            "the runs are neighbours"
        );
        let seen: Vec<u8> = parts
            .iter()
            .flat_map(|part| part.bytes().to_vec())
            .collect();
        assert!(seen == content);
    }
}
