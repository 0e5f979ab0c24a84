//! Where the sources of a make come from: the guest's own disk, or a file server.

use super::super::files::{Mount, RemoteFile};
use crate::fs::{self, Entry};
use crate::hash;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use ext4_view::{Ext4, File};

/// The parameter's value for the disk.
pub(super) const ON_DISK: u64 = 1;
/// The parameter's value for a file server.
const ON_NETWORK: u64 = 2;

/// Where all of them are.
#[derive(Debug)]
pub(super) enum Sources {
    Disk(usize),
    Network(Box<Mount>),
}

/// One source file.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Disk(Entry),
    Network(RemoteFile),
}

/// What one thread needs to read them.
#[derive(Debug)]
pub(super) enum View<'a> {
    Disk(Ext4),
    Network(&'a Mount),
}

/// A source file that is read from its beginning to its end.
pub(super) enum Reader<'a> {
    Disk(Box<File>, &'a Entry),
    Network(&'a Mount, &'a RemoteFile, u64),
}

impl Sources {
    /// Finds the sources for so many threads: all files but the table of another workload.
    pub(super) fn find(
        place: u64,
        disk: usize,
        threads: usize,
    ) -> Result<(Self, Vec<Source>), String> {
        if place == ON_NETWORK {
            let (mount, mut files) = Mount::new(threads)?;
            files.retain(|file| file.name != hash::bytes(fs::TABLE));
            let files = files.into_iter().map(Source::Network);
            return Ok((Self::Network(Box::new(mount)), files.collect()));
        }
        let mut files = fs::files(&fs::open(disk)?)?;
        files.retain(|file| fs::path_bytes(file) != fs::TABLE);
        let files = files.into_iter().map(Source::Disk);
        Ok((Self::Disk(disk), files.collect()))
    }

    /// A view for one thread.
    pub(super) fn view(&self) -> Result<View<'_>, String> {
        Ok(match self {
            Self::Disk(disk) => View::Disk(fs::open(*disk)?),
            Self::Network(mount) => View::Network(mount),
        })
    }

    /// Nothing more is read.
    pub(super) fn leave(&self) -> Result<(), String> {
        match self {
            Self::Disk(_) => Ok(()),
            Self::Network(mount) => mount.leave(),
        }
    }
}

impl Source {
    /// Checksum of its path: equal wherever it is.
    pub(super) fn name(&self) -> u64 {
        match self {
            Self::Disk(entry) => hash::bytes(fs::path_bytes(entry)),
            Self::Network(file) => file.name,
        }
    }

    /// Bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Disk(entry) => entry.size,
            Self::Network(file) => file.size,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(entry) => write!(f, "{}", entry.path.display()),
            Self::Network(file) => write!(f, "the server's file {:#x}", file.name),
        }
    }
}

impl<'a> Reader<'a> {
    /// Begins to read a file.
    pub(super) fn open(source: &'a Source, view: &View<'a>) -> Result<Self, String> {
        match (source, view) {
            (Source::Disk(entry), View::Disk(view)) => {
                let file = view.open(&entry.path);
                let file = file.map_err(|error| failed(entry, &error))?;
                Ok(Self::Disk(Box::new(file), entry))
            }
            (Source::Network(file), View::Network(mount)) => Ok(Self::Network(mount, file, 0)),
            _ => Err("a source that is elsewhere".into()),
        }
    }

    /// Fills `to` with what comes next; less at the file's end, or when the guest is asked to stop.
    pub(super) fn read(&mut self, to: &mut [u8]) -> Result<usize, String> {
        match self {
            Self::Disk(file, entry) => {
                let mut length = 0;
                while length < to.len() {
                    let more = file.read_bytes(&mut to[length..]);
                    match more.map_err(|error| failed(entry, &error))? {
                        0 => break,
                        more => length += more,
                    }
                }
                Ok(length)
            }
            Self::Network(mount, file, at) => {
                let length = mount.read(file, *at, to)?;
                *at += length as u64;
                Ok(length)
            }
        }
    }
}

fn failed(entry: &Entry, error: &ext4_view::Ext4Error) -> String {
    format!("{}: {}", entry.path.display(), fs::describe(error))
}
