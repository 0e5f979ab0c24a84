//! A log of objects on the part of a disk behind the file system.
//!
//! `pmake` writes its results here: append only, each object in whole blocks behind a header with
//! its checksum; at the end the log goes on from the beginning and the oldest objects are lost.
//! The index is in memory only, since objects live no longer than a command.

use crate::cache;
use crate::disk::disk;
use crate::fs;
use crate::hash;
use crate::sync::Spin;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use mirrorball_abi::layout::PAGE_SIZE;

const MAGIC: u64 = u64::from_le_bytes(*b"MBOBJECT");
const HEADER: usize = 32;

/// The part of a disk behind its file system; `None` when there is none.
///
/// # Errors
/// When the disk can't be read or holds no ext4.
pub fn scratch(disk_index: usize) -> Result<Option<Range<u64>>, String> {
    let start = fs::size_in_blocks(disk_index)?;
    let end = disk(disk_index)
        .map_err(|error| error.to_string())?
        .blocks();
    Ok((start < end).then_some(start..end))
}

/// Where an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    block: u64,
    blocks: u64,
    /// Objects before this one in all laps; tells objects apart and when one was overwritten.
    position: u64,
}

/// Where the next object goes: pure arithmetic, tested apart from any disk.
#[derive(Debug)]
struct Log {
    area: Range<u64>,
    /// Blocks handed out in all, laps included.
    next: u64,
}

impl Log {
    fn place(&mut self, blocks: u64) -> Option<Object> {
        let size = self.area.end - self.area.start;
        if blocks == 0 || blocks > size {
            return None;
        }
        let offset = self.next % size;
        // An object lies in one piece: the rest of a lap that is too short is skipped.
        let skip = if offset + blocks > size {
            size - offset
        } else {
            0
        };
        let position = self.next + skip;
        self.next = position + blocks;
        Some(Object {
            block: self.area.start + position % size,
            blocks,
            position,
        })
    }

    fn is_kept(&self, object: &Object) -> bool {
        self.next - object.position <= self.area.end - self.area.start
    }
}

/// A log of objects on one disk.
#[derive(Debug)]
pub struct ObjectLog {
    disk: usize,
    log: Spin<Log>,
}

impl ObjectLog {
    /// An empty log over `area` (blocks) of a disk.
    pub fn new(disk: usize, area: Range<u64>) -> Self {
        Self {
            disk,
            log: Spin::new(Log { area, next: 0 }),
        }
    }

    /// Appends an object; `None` when it is larger than the whole log.
    ///
    /// # Errors
    /// When the disk can't be written.
    pub fn append(&self, data: &[u8]) -> Result<Option<Object>, String> {
        let blocks = (HEADER + data.len()).div_ceil(PAGE_SIZE);
        let Some(object) = self.log.lock().place(blocks as u64) else {
            return Ok(None);
        };
        let mut buffer = vec![0; blocks * PAGE_SIZE];
        let header = [MAGIC, object.position, data.len() as u64, hash::bytes(data)];
        for (to, word) in buffer.chunks_exact_mut(8).zip(header) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        buffer[HEADER..HEADER + data.len()].copy_from_slice(data);
        cache::write(self.disk, object.block, &buffer).map_err(|error| error.to_string())?;
        Ok(Some(object))
    }

    /// Reads an object back from the disk and checks it; `None` when it was overwritten since.
    ///
    /// # Errors
    /// When the disk can't be read, or what it gives is not the object.
    pub fn read(&self, object: &Object) -> Result<Option<Vec<u8>>, String> {
        cache::discard(self.disk, object.block..object.block + object.blocks);
        let mut buffer = vec![0; crate::shared::usize_of(object.blocks) * PAGE_SIZE];
        cache::read(self.disk, object.block * PAGE_SIZE as u64, &mut buffer)
            .map_err(|error| error.to_string())?;
        if !self.log.lock().is_kept(object) {
            return Ok(None);
        }
        let data = unpack(&buffer, object.position)
            .ok_or_else(|| format!("object at block {} is not what was written", object.block))?;
        Ok(Some(data.to_vec()))
    }
}

fn unpack(buffer: &[u8], position: u64) -> Option<&[u8]> {
    let (header, data) = buffer.split_at_checked(HEADER)?;
    let mut words = header
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes));
    if words.next()? != MAGIC || words.next()? != position {
        return None;
    }
    let data = data.get(..usize::try_from(words.next()?).ok()?)?;
    (words.next()? == hash::bytes(data)).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_lie_in_one_piece_and_the_oldest_are_lost() {
        let mut log = Log {
            area: 100..110,
            next: 0,
        };
        let first = log.place(4).unwrap();
        let second = log.place(4).unwrap();
        assert_eq!((first.block, second.block), (100, 104));
        assert!(log.is_kept(&first));
        let third = log.place(3).unwrap();
        assert_eq!(third.block, 100, "2 blocks are left in this lap, too few");
        assert!(!log.is_kept(&first), "overwritten by the third");
        assert!(log.is_kept(&second) && log.is_kept(&third));
        assert_eq!(log.place(11), None);
        assert_eq!(log.place(0), None);
        assert!(log.place(10).is_some());
        assert!(!log.is_kept(&second));
    }
}
