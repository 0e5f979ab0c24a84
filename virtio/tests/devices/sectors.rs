//! What each sector of a disk may hold while nothing says which writes a crash has kept.

use crate::driver::PAGE;
use std::collections::BTreeMap;
use std::ops::Range;

/// Blocks of the image, and of the disk: its last window is where the bitmap's second page begins.
pub const IMAGE_BLOCKS: u64 = 48;
pub const BLOCKS: u64 = 32 * 1024 + 64;
pub const SCRATCH: u64 = (BLOCKS - IMAGE_BLOCKS) * PAGE;
/// The blocks that are written to: the image's end and scratch space after it; two bitmap pages.
pub const WINDOWS: [Range<u64>; 2] = [0..64, 32 * 1024 - 32..32 * 1024 + 32];
const SECTOR: usize = 512;

/// One step of a guest; sectors are the disk's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Write(Range<u64>),
    Zero(Range<u64>),
    Discard(Range<u64>),
    Flush,
}

/// A number that looks like any other.
pub fn hash(of: u64) -> u64 {
    let mut value = of.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// The step with this number, the same in every process.
pub fn step(number: u64) -> Step {
    let random = |which: u64, below: u64| hash(number << 8 | which) % below;
    let window = &WINDOWS[usize::try_from(random(0, 2)).unwrap()];
    let (low, high) = (window.start * 8, window.end * 8);
    let start = low + random(1, high - low);
    let end = high.min(start + 1 + random(2, if random(3, 4) == 0 { 256 } else { 24 }));
    match random(4, 10) {
        0..=5 => Step::Write(start..end),
        6 => Step::Zero(start..end),
        7 => Step::Discard(start..end),
        _ => Step::Flush,
    }
}

/// Who wrote a sector last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Image,
    Zeroes,
    Step(u64),
}

/// For each sector, what it may hold: first what it holds for certain if nothing later was kept.
#[derive(Clone)]
pub struct Sectors {
    image: Vec<u8>,
    may: BTreeMap<u64, Vec<Writer>>,
}

fn stamp(number: u64, sector: u64) -> [u8; SECTOR] {
    let mut content = [0; SECTOR];
    for (index, word) in (0..).zip(content.chunks_exact_mut(8)) {
        word.copy_from_slice(&hash(number << 40 ^ sector << 8 ^ index).to_le_bytes());
    }
    content
}

impl Sectors {
    /// All as in the image, zeros after its end.
    pub fn new(image: &[u8]) -> Self {
        let windows = WINDOWS.into_iter();
        let all = windows.flat_map(|window| window.start * 8..window.end * 8);
        Self {
            image: image.to_vec(),
            may: all.map(|sector| (sector, vec![Writer::Image])).collect(),
        }
    }

    /// What the writing step with this number puts into a range of sectors.
    pub fn content(number: u64, sectors: Range<u64>) -> Vec<u8> {
        sectors.flat_map(|sector| stamp(number, sector)).collect()
    }

    /// A step has begun: what it writes may be there from now on.
    pub fn begun(&mut self, number: u64, step: &Step) {
        let (range, writer) = match step {
            Step::Write(sectors) => (sectors.clone(), Writer::Step(number)),
            Step::Zero(sectors) => (sectors.clone(), Writer::Zeroes),
            // Whole blocks only.
            Step::Discard(sectors) => (
                sectors.start.next_multiple_of(8)..sectors.end / 8 * 8,
                Writer::Zeroes,
            ),
            Step::Flush => return,
        };
        for (sector, may) in &mut self.may {
            if range.contains(sector) {
                may.push(writer);
            }
        }
    }

    /// A step is complete: after a flush every sector holds what was written last. True if it was one.
    pub fn ended(&mut self, step: &Step) -> bool {
        if *step != Step::Flush {
            return false;
        }
        for may in self.may.values_mut() {
            may.drain(..may.len() - 1);
        }
        true
    }

    /// Compares sectors from `first` on with what they may hold; they hold what they do from now on.
    ///
    /// # Panics
    /// When one holds anything else.
    pub fn check(&mut self, first: u64, content: &[u8]) {
        for (sector, found) in (first..).zip(content.chunks_exact(SECTOR)) {
            let may = &self.may[&sector];
            let writer = may
                .iter()
                .copied()
                .rfind(|writer| self.holds(*writer, sector) == found);
            let Some(writer) = writer else {
                panic!(
                    "sector {sector} may be of {may:?}, but begins with {:02x?}",
                    &found[..16]
                );
            };
            self.may.insert(sector, vec![writer]);
        }
    }

    fn holds(&self, writer: Writer, sector: u64) -> [u8; SECTOR] {
        let start = usize::try_from(sector).unwrap() * SECTOR;
        match writer {
            Writer::Step(number) => stamp(number, sector),
            Writer::Image => self
                .image
                .get(start..start + SECTOR)
                .map_or([0; SECTOR], |content| content.try_into().unwrap()),
            Writer::Zeroes => [0; SECTOR],
        }
    }
}
