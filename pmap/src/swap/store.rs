//! Where swapped pages are kept.

use crate::{
    sys::bytes_of,
    types::{PAGE_SIZE, Page},
};
use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// A place for pages, by slot number. A trait so that tests can have it fail.
pub trait SwapStore: Send + Sync + fmt::Debug {
    /// Writes whole pages to consecutive slots; `pages` starts at a page's border.
    ///
    /// # Errors
    /// What the file system says. The slots hold nothing that counts then.
    fn write(&self, slot: u32, pages: &[u8]) -> io::Result<()>;

    /// Reads the page of a slot; `page` lies at a page's border.
    ///
    /// # Errors
    /// What the file system says, or `UnexpectedEof` when the file is shorter than what was written.
    fn read(&self, slot: u32, page: &mut Page) -> io::Result<()>;
}

/// A file without a name, past the page cache where the file system can: what is swapped out shall
/// not come to lie in the host's memory again.
#[derive(Debug)]
pub struct SwapFile {
    file: File,
    direct: bool,
}

impl SwapFile {
    /// Makes one on the file system of `folder`; it is gone when this is dropped.
    ///
    /// # Errors
    /// No file can be made there.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let open = |flags| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).mode(0o600);
            options.custom_flags(libc::O_TMPFILE | flags).open(folder)
        };
        match open(libc::O_DIRECT) {
            Ok(file) => Ok(Self { file, direct: true }),
            Err(error) => {
                tracing::info!(%error, "swap goes through the page cache");
                let file = open(0)?;
                Ok(Self {
                    file,
                    direct: false,
                })
            }
        }
    }

    /// Whether pages go past the host's page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.direct
    }
}

fn offset(slot: u32) -> u64 {
    bytes_of(slot) as u64
}

impl SwapStore for SwapFile {
    fn write(&self, slot: u32, pages: &[u8]) -> io::Result<()> {
        debug_assert!(pages.len().is_multiple_of(PAGE_SIZE));
        self.file.write_all_at(pages, offset(slot))
    }

    fn read(&self, slot: u32, page: &mut Page) -> io::Result<()> {
        self.file.read_exact_at(page, offset(slot))
    }
}
