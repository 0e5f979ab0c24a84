//! A part of the memory under torture, with notes on what every page should hold.

use super::super::{Job, mismatch};
use super::disk::Blocks;
use crate::cache;
use crate::hash::Random;
use crate::memory::{PAGE_WORDS, Region};
use crate::pattern::{self, Content, Mismatch};
use crate::shared::{self, OPERATIONS, VERIFIED_PAGES, usize_of};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use mirrorball_abi::layout::PAGE_SIZE;

const DISK: usize = 0;
/// Most pages that one step works on: like the monitor's runs, more than one and not too many.
const RUN: usize = 16;
/// Most pages that one step verifies. More than it changes, so that pages live long enough between
/// changes to be found and shared.
const VERIFY_RUN: usize = 64;
/// Different common contents that a page can be given in turn.
const TURNS: usize = 4;

/// What a page should hold.
#[derive(Clone, Copy, Debug)]
enum Held {
    Pattern(Content),
    Patched {
        content: Content,
        word: u64,
        value: u64,
    },
    Block(usize),
}

/// Pages, some blocks of scratch disk, and what both should hold.
#[derive(Debug)]
pub struct Partition {
    index: usize,
    seed: u64,
    vm: u32,
    common: u64,
    region: Region,
    notes: Vec<Held>,
    scratch: Range<u64>,
    written: Vec<Option<Content>>,
    version: u64,
}

impl Partition {
    /// Takes `pages` pages and zeroes them.
    pub fn new(
        job: &Job,
        index: usize,
        pages: usize,
        scratch: Option<Range<u64>>,
    ) -> Result<Self, String> {
        let region =
            Region::largest(pages.max(1), 1).ok_or("no memory for the pages to torture")?;
        (0..region.pages()).for_each(|page| pattern::fill(region.page(page), Content::ZERO));
        let scratch = scratch.unwrap_or(0..0);
        Ok(Self {
            index,
            seed: job.seed,
            vm: job.vm,
            common: job.param(3, 50).min(100),
            notes: vec![Held::Pattern(Content::ZERO); region.pages()],
            written: vec![None; usize_of(scratch.end - scratch.start)],
            scratch,
            region,
            version: 0,
        })
    }

    /// Does one random thing to a run of pages, or to the disk.
    pub fn step(&mut self, random: &mut Random, blocks: Option<&Blocks>) {
        let start = random.below(self.notes.len());
        let pages = (1 + random.below(RUN)).min(self.notes.len() - start);
        let run = start..start + pages;
        match random.below(100) {
            0..45 => {
                let pages = (1 + random.below(VERIFY_RUN)).min(self.notes.len() - start);
                self.verify(start..start + pages, blocks);
            }
            45..65 => self.rewrite(run, random),
            65..73 => self.fill(run, |_| Content::ZERO),
            73..85 => self.patch(start, random, blocks),
            choice => {
                let Some(blocks) = blocks else {
                    return self.verify(run, None);
                };
                match choice {
                    85..90 => cached_block(random, blocks),
                    90..95 => self.read_blocks(run, random, blocks),
                    95..97 => self.write_cached(random),
                    97..99 => self.write_from_memory(start, random, blocks),
                    _ => self.read_scratch(start, random, blocks),
                }
            }
        }
        OPERATIONS.increase(1);
    }

    /// Verifies every page.
    pub fn verify_all(&mut self, blocks: Option<&Blocks>) {
        self.verify(0..self.notes.len(), blocks);
    }

    fn check(&self, page: usize, blocks: Option<&Blocks>) -> Result<(), Mismatch> {
        let words = self.region.page(page);
        match (self.notes[page], blocks) {
            (Held::Pattern(content), _) => pattern::check(words, content),
            (
                Held::Patched {
                    content,
                    word,
                    value,
                },
                _,
            ) => pattern::check_patched(words, content, word, value),
            (Held::Block(index), Some(blocks)) => blocks.check(index, words),
            (Held::Block(_), None) => Ok(()),
        }
    }

    fn verify(&mut self, run: Range<usize>, blocks: Option<&Blocks>) {
        VERIFIED_PAGES.increase(run.len() as u64);
        shared::BYTES.increase((run.len() * PAGE_SIZE) as u64);
        for page in run {
            if let Err(wrong) = self.check(page, blocks) {
                let address = self.region.address() + page * PAGE_SIZE;
                mismatch(
                    format_args!("page {address:#x} ({:?})", self.notes[page]),
                    wrong,
                );
                self.fill(page..page + 1, |_| Content::ZERO);
            }
        }
    }

    fn fill(&mut self, run: Range<usize>, content: impl Fn(usize) -> Content) {
        for page in run {
            let content = content(page);
            self.notes[page] = Held::Pattern(content);
            pattern::fill(self.region.page(page), content);
        }
    }

    /// New content: for some runs the same as other guests may write at the same place, so that
    /// whole runs come to be shared.
    fn rewrite(&mut self, run: Range<usize>, random: &mut Random) {
        self.version += 1;
        let (seed, vm, version, index) = (self.seed, self.vm, self.version, self.index as u64);
        if random.chance(self.common) {
            let turn = random.below(TURNS) as u64;
            self.fill(run, |page| {
                Content::common(seed, index << 48 | turn << 40 | page as u64)
            });
        } else {
            self.fill(run, |page| {
                Content::own(seed, vm, index << 48 | version << 24 | page as u64)
            });
        }
    }

    /// Overwrites one word of a page, which breaks it if it is shared, and verifies all of it.
    fn patch(&mut self, page: usize, random: &mut Random, blocks: Option<&Blocks>) {
        let content = match self.notes[page] {
            Held::Pattern(content) | Held::Patched { content, .. } => content,
            Held::Block(_) => return self.verify(page..page + 1, blocks),
        };
        if let Held::Patched { word, .. } = self.notes[page] {
            self.region.page(page)[usize_of(word)].store(content.word(word), Ordering::Relaxed);
        }
        let (word, value) = (random.below(PAGE_WORDS), random.next());
        self.region.page(page)[word].store(value, Ordering::Relaxed);
        self.notes[page] = Held::Patched {
            content,
            word: word as u64,
            value,
        };
        self.verify(page..page + 1, blocks);
    }

    /// Lets the disk write blocks of the image over a run of pages.
    fn read_blocks(&mut self, run: Range<usize>, random: &mut Random, blocks: &Blocks) {
        let first = random.below(blocks.len());
        let pages = run.len().min(blocks.run(first));
        let address = self.region.address() + run.start * PAGE_SIZE;
        // SAFETY: the pages belong to this partition, which only this thread works on.
        if let Err(error) = unsafe { blocks.disk().read(blocks.block(first), address, pages) } {
            return failed(&error.to_string());
        }
        for offset in 0..pages {
            self.notes[run.start + offset] = Held::Block(first + offset);
        }
        self.verify(run.start..run.start + pages, Some(blocks));
    }

    fn write_cached(&mut self, random: &mut Random) {
        if self.written.is_empty() {
            return;
        }
        self.version += 1;
        let at = random.below(self.written.len());
        let content = Content::own(
            self.seed,
            self.vm,
            (self.index as u64) << 48 | 1 << 47 | self.version,
        );
        let mut bytes = Vec::with_capacity(PAGE_SIZE);
        (0..PAGE_WORDS as u64)
            .for_each(|word| bytes.extend_from_slice(&content.word(word).to_le_bytes()));
        match cache::write(DISK, self.scratch.start + at as u64, &bytes) {
            Ok(()) => self.written[at] = Some(content),
            Err(error) => failed(&error.to_string()),
        }
    }

    /// Lets the disk read a page that may be shared.
    fn write_from_memory(&mut self, page: usize, random: &mut Random, blocks: &Blocks) {
        let (Held::Pattern(content), false) = (self.notes[page], self.written.is_empty()) else {
            return;
        };
        let at = random.below(self.written.len());
        let block = self.scratch.start + at as u64;
        let address = self.region.address() + page * PAGE_SIZE;
        cache::discard(DISK, block..block + 1);
        // SAFETY: the page belongs to this partition, which only this thread works on.
        match unsafe { blocks.disk().write(block, address, 1) } {
            Ok(()) => self.written[at] = Some(content),
            Err(error) => failed(&error.to_string()),
        }
    }

    /// Reads back a scratch block, through the cache or over a page.
    fn read_scratch(&mut self, page: usize, random: &mut Random, blocks: &Blocks) {
        let at = random.below(self.written.len());
        let Some(content) = self.written.get(at).copied().flatten() else {
            return;
        };
        let block = self.scratch.start + at as u64;
        if random.chance(50) {
            let address = self.region.address() + page * PAGE_SIZE;
            // SAFETY: the page belongs to this partition, which only this thread works on.
            match unsafe { blocks.disk().read(block, address, 1) } {
                Ok(()) => self.notes[page] = Held::Pattern(content),
                Err(error) => return failed(&error.to_string()),
            }
            return self.verify(page..page + 1, Some(blocks));
        }
        if random.chance(50) {
            cache::discard(DISK, block..block + 1);
        }
        match cache::with_block(DISK, block, |words| pattern::check(words, content)) {
            Ok(Ok(())) => {}
            Ok(Err(wrong)) => mismatch(format_args!("scratch block {block}"), wrong),
            Err(error) => failed(&error.to_string()),
        }
        VERIFIED_PAGES.increase(1);
    }
}

/// Reads a block of the image through the cache, sometimes anew from the disk.
fn cached_block(random: &mut Random, blocks: &Blocks) {
    let index = random.below(blocks.len());
    let block = blocks.block(index);
    if random.chance(50) {
        cache::discard(DISK, block..block + 1);
    }
    match cache::with_block(DISK, block, |words| blocks.check(index, words)) {
        Ok(Ok(())) => {}
        Ok(Err(wrong)) => mismatch(format_args!("disk block {block}, checksum"), wrong),
        Err(error) => failed(&error.to_string()),
    }
    VERIFIED_PAGES.increase(1);
}

/// A disk that fails counts as a wrong page: the block could not be what it should.
fn failed(reason: &str) {
    mismatch(
        format_args!("{reason}"),
        Mismatch {
            offset: 0,
            expected: 0,
            got: 0,
        },
    );
}
