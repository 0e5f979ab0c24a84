//! A database-like scan: aggregate over the rows of one large file, several times.
//!
//! The file is `/table.dat` or else the largest of the image, read as rows of eight little-endian
//! numbers. Each vCPU scans its part; the first pass notes a checksum for every chunk, and the
//! later ones must find the same.

use super::{Job, wrong};
use crate::console;
use crate::fs::{self, Entry};
use crate::hash;
use crate::sched;
use crate::shared::{self, BYTES, CHECKSUM, OPERATIONS, VERIFIED_PAGES, usize_of};
use crate::sync::Spin;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use ext4_view::{Ext4, File};
use mirrorball_abi::layout::PAGE_SIZE;

const DISK: usize = 0;
/// Numbers in a row.
const COLUMNS: usize = 8;
const ROW: usize = COLUMNS * 8;
/// Rows are grouped by their second number into this many groups.
const GROUPS: usize = 16;
/// Unit of reading and of checksums.
const CHUNK: usize = 16 * PAGE_SIZE;

/// What a query over some rows gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Aggregate {
    rows: u64,
    sum: u64,
    least: u64,
    greatest: u64,
    groups: [u64; GROUPS],
}

impl Aggregate {
    const EMPTY: Self = Self {
        rows: 0,
        sum: 0,
        least: u64::MAX,
        greatest: 0,
        groups: [0; GROUPS],
    };

    fn add_rows(&mut self, bytes: &[u8]) {
        for row in bytes.chunks_exact(ROW) {
            let mut columns = row
                .as_chunks::<8>()
                .0
                .iter()
                .map(|bytes| u64::from_le_bytes(*bytes));
            let _row_number = columns.next();
            let key = columns.next().unwrap_or(0);
            let value = columns.fold(0, u64::wrapping_add);
            self.rows += 1;
            self.sum = self.sum.wrapping_add(value);
            self.least = self.least.min(value);
            self.greatest = self.greatest.max(value);
            let group = &mut self.groups[usize_of(key % GROUPS as u64)];
            *group = group.wrapping_add(value);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
        for (group, more) in self.groups.iter_mut().zip(other.groups) {
            *group = group.wrapping_add(more);
        }
    }

    fn checksum(&self) -> u64 {
        let mut sum = hash::Sum::new(self.rows);
        [self.sum, self.least, self.greatest]
            .into_iter()
            .chain(self.groups)
            .for_each(|word| sum.word(word));
        sum.value()
    }
}

/// One vCPU's part of the table, from pass to pass.
#[derive(Debug)]
struct Part {
    range: Range<u64>,
    sums: Vec<u64>,
}

#[derive(Debug)]
struct Scan {
    table: Entry,
    parts: Vec<Spin<Part>>,
    total: Spin<Aggregate>,
    failure: Spin<Option<String>>,
}

pub(super) fn run(job: &Job) -> Result<(), String> {
    let passes = job.param(0, 3);
    let table = find(&fs::open(DISK)?)?;
    let size = table.size.min(job.param(1, u64::MAX));
    let vcpus = shared::vcpus();
    let parts = split(size, vcpus as u64)
        .map(|range| {
            Spin::new(Part {
                range,
                sums: Vec::new(),
            })
        })
        .collect();
    let scan = Arc::new(Scan {
        table,
        parts,
        total: Spin::new(Aggregate::EMPTY),
        failure: Spin::new(None),
    });
    let mut first = None;
    for _ in 0..passes {
        *scan.total.lock() = Aggregate::EMPTY;
        let work = scan.clone();
        let complete = sched::on_all_vcpus(vcpus, move |index| {
            if let Err(reason) = work.pass(index) {
                work.failure.lock().get_or_insert(reason);
            }
        });
        if let Some(reason) = scan.failure.lock().take() {
            return Err(reason);
        }
        if !complete {
            return Err("no memory for a thread on each vCPU".into());
        }
        if shared::stop_requested() {
            break;
        }
        let total = *scan.total.lock();
        if *first.get_or_insert(total) != total {
            wrong(format_args!("two passes over the table differ"));
        }
        CHECKSUM.set(total.checksum());
    }
    console::line(format_args!(
        "scan: {} rows, {} bytes",
        OPERATIONS.get(),
        BYTES.get()
    ));
    Ok(())
}

fn find(view: &Ext4) -> Result<Entry, String> {
    let files = fs::files(view)?;
    let named = files.iter().find(|file| fs::path_bytes(file) == fs::TABLE);
    let table = named.or_else(|| files.iter().max_by_key(|file| file.size));
    table
        .cloned()
        .ok_or_else(|| "the image has no files to scan".into())
}

/// Cuts `size` bytes into `parts` ranges of whole chunks; the last takes what is left.
fn split(size: u64, parts: u64) -> impl Iterator<Item = Range<u64>> {
    let share = size.div_ceil(CHUNK as u64).div_ceil(parts) * CHUNK as u64;
    (0..parts).map(move |part| (part * share).min(size)..((part + 1) * share).min(size))
}

impl Scan {
    fn pass(&self, index: usize) -> Result<(), String> {
        let view = fs::open(DISK)?;
        let mut file = view
            .open(&self.table.path)
            .map_err(|error| fs::describe(&error))?;
        // Taken out for the pass, since reading blocks and a lock may not be held then.
        let mut part = Part {
            range: 0..0,
            sums: Vec::new(),
        };
        core::mem::swap(&mut part, &mut *self.parts[index].lock());
        let mut aggregate = Aggregate::EMPTY;
        let result = part.scan(&mut file, &mut aggregate);
        self.total.lock().merge(&aggregate);
        *self.parts[index].lock() = part;
        result
    }
}

impl Part {
    fn scan(&mut self, file: &mut File, aggregate: &mut Aggregate) -> Result<(), String> {
        file.seek_to(self.range.start)
            .map_err(|error| fs::describe(&error))?;
        let mut buffer = vec![0; CHUNK];
        let mut left = usize_of(self.range.end - self.range.start);
        for index in 0.. {
            let want = left.min(CHUNK);
            if want == 0 || shared::stop_requested() {
                break;
            }
            let chunk = &mut buffer[..want];
            read_exact(file, chunk)?;
            self.verify(index, want, hash::bytes(chunk));
            aggregate.add_rows(chunk);
            OPERATIONS.increase((want / ROW) as u64);
            BYTES.increase(want as u64);
            left -= want;
            sched::yield_now();
        }
        Ok(())
    }

    /// Notes the checksum of a chunk of `bytes` bytes when it is new, else compares it.
    fn verify(&mut self, index: usize, bytes: usize, sum: u64) {
        match self.sums.get(index) {
            None => self.sums.push(sum),
            Some(known) => {
                VERIFIED_PAGES.increase(bytes.div_ceil(PAGE_SIZE) as u64);
                if *known != sum {
                    let offset = self.range.start + (index * CHUNK) as u64;
                    wrong(format_args!(
                        "the table differs from the first pass at {offset:#x}"
                    ));
                }
            }
        }
    }
}

fn read_exact(file: &mut File, mut to: &mut [u8]) -> Result<(), String> {
    while !to.is_empty() {
        match file.read_bytes(to).map_err(|error| fs::describe(&error))? {
            0 => return Err(format!("the table ends {} bytes early", to.len())),
            got => to = &mut to[got..],
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_table_once() {
        for size in [0, 1, CHUNK as u64, 10 * CHUNK as u64 + 5] {
            let parts: Vec<_> = split(size, 4).collect();
            assert_eq!(parts.len(), 4);
            assert_eq!(parts[0].start, 0);
            assert_eq!(parts[3].end, size);
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(
                parts
                    .iter()
                    .all(|part| part.start % CHUNK as u64 == 0 || part.start == size)
            );
        }
    }

    #[test]
    fn the_aggregate_does_not_depend_on_the_parts() {
        let bytes: Vec<u8> = (0..ROW * 100)
            .map(|i| u8::try_from(i * 7 % 251).unwrap())
            .collect();
        let mut whole = Aggregate::EMPTY;
        whole.add_rows(&bytes);
        let (left, right) = bytes.split_at(ROW * 37);
        let (mut one, mut two) = (Aggregate::EMPTY, Aggregate::EMPTY);
        one.add_rows(left);
        two.add_rows(right);
        two.merge(&one);
        assert_eq!(two, whole);
        assert_eq!(whole.rows, 100);
        assert_ne!(whole.checksum(), one.checksum());
    }
}
