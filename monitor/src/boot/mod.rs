//! The thin guest's loader: one boot image per memory size and number of vCPUs, made once.
//!
//! Page tables, text, rodata and data go into frames of the frame store and every guest maps those
//! frames: a thousand guests share their kernel from the first instruction, and data is
//! copy-on-write. Disco (section 4.2) got the same from its copy-on-write disk, so a machine whose
//! disks don't share copies the image into each guest instead: a baseline without sharing must not
//! save anything. Untouched memory is zero, so zero-initialised pages need neither. What is a
//! guest's own (the control page) is written when it is made.

mod elf;
mod tables;

use std::collections::HashMap;
use std::sync::Arc;

use mirrorball_abi::layout;
use mirrorball_pmap::{Access, GroupId, Mechanism, PinnedFrames, Pmap, PmapError, Ppn, PpnRun};
use parking_lot::Mutex;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

pub(crate) use elf::symbol_at;
use elf::{Elf, Rights};
pub(crate) use tables::ROOT as ROOT_TABLE;
use tables::Tables;

const PAGE: u64 = layout::PAGE_SIZE as u64;

/// Why a guest could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The ELF image can't be used.
    #[error("the guest's image is not usable: {0}")]
    BadImage(String),
    /// The image asks for a page that is both writable and executable.
    #[error("the guest's image has writable code in page {0:#x}")]
    WritableCode(u64),
    /// The image and the boot stacks do not fit into the VM's memory.
    #[error("the guest needs {needed} bytes to boot and has {memory}")]
    TooSmall {
        /// Bytes up to the end of the boot stacks.
        needed: u64,
        /// Bytes of guest-physical memory.
        memory: u64,
    },
    /// The page tables would run into the image.
    #[error("the guest's page tables do not fit below its image")]
    TooManyTables,
    /// No frames for the image.
    #[error("the boot image could not be put into frames: {0}")]
    Frames(#[from] PmapError),
    /// Guest memory refused a write.
    #[error("guest memory could not be filled: {0}")]
    Memory(#[from] GuestMemoryError),
}

/// A boot image, kept as long as the machine.
#[derive(Debug)]
pub(crate) struct BootImage {
    start: Ppn,
    content: Content,
    entry: u64,
    stacks: u64,
    free_start: u64,
}

/// Where the bytes are that a guest starts with.
#[derive(Debug)]
pub(crate) enum Content {
    /// In frames that every guest maps.
    Shared(PinnedFrames),
    /// In the monitor's own memory; every guest gets a copy.
    Copied(Box<[u8]>),
}

impl Content {
    /// Puts whole pages of bytes where all guests of a group can map them, or keeps them to be
    /// copied when guests do not share.
    pub(crate) fn publish(
        pmap: &Pmap,
        bytes: Vec<u8>,
        group: GroupId,
        shared: bool,
    ) -> Result<Self, PmapError> {
        if !shared {
            return Ok(Self::Copied(bytes.into()));
        }
        let pages = ppn(bytes.len() as u64).0;
        let mut frames = pmap.frames().allocate(pages, group)?;
        frames.bytes_mut().copy_from_slice(&bytes);
        Ok(Self::Shared(frames.publish()))
    }

    /// Puts the bytes into a new guest's memory: by mapping, or by copying where the machine
    /// does not share or mapping is refused.
    pub(crate) fn load(&self, start: Ppn, access: &Access<'_>) -> Result<(), GuestMemoryError> {
        let bytes = match self {
            Self::Copied(bytes) => bytes,
            Self::Shared(frames) => {
                match access.map_frames(start, frames, Mechanism::Disk) {
                    Ok(()) => return Ok(()),
                    Err(refused) => tracing::debug!(%refused, "boot image is copied"),
                }
                frames.bytes()
            }
        };
        access
            .memory()
            .write_slice(bytes, GuestAddress(start.address()))
    }
}

impl BootImage {
    /// Lays out and publishes the image of a guest.
    fn build(pmap: &Pmap, bytes: &[u8], key: Key) -> Result<Self, BootError> {
        let elf = Elf::parse(bytes)?;
        let stacks = elf.pages().end;
        let free_start = stacks + u64::from(key.vcpus) * (layout::STACK_SIZE + PAGE);
        if free_start >= key.memory {
            return Err(BootError::TooSmall {
                needed: free_start,
                memory: key.memory,
            });
        }
        let tables = build_tables(&elf, key, stacks, free_start)?;
        let file = elf.file_pages();
        let start = ppn(layout::IMAGE_BASE - tables.pages() as u64 * PAGE);
        let pages = (ppn(file.end).0 - start.0) as usize;

        let mut bytes = vec![0; pages * layout::PAGE_SIZE];
        let (first, second) = bytes.split_at_mut(tables.pages() * layout::PAGE_SIZE);
        tables.copy_to(first);
        elf.copy_to(second);
        Ok(Self {
            start,
            content: Content::publish(pmap, bytes, key.group, key.shared)?,
            entry: elf.entry(),
            stacks,
            free_start,
        })
    }

    /// Puts the image into a new guest's memory.
    pub(crate) fn load(&self, access: &Access<'_>) -> Result<(), BootError> {
        Ok(self.content.load(self.start, access)?)
    }

    /// Where every vCPU starts.
    pub(crate) const fn entry(&self) -> u64 {
        self.entry
    }

    /// The stack pointer that a vCPU starts with: as just after a call (RSP mod 16 is 8).
    pub(crate) fn stack_pointer(&self, vcpu: u32) -> u64 {
        self.stacks + (u64::from(vcpu) + 1) * (PAGE + layout::STACK_SIZE) - 8
    }

    /// First byte of the guest's own memory.
    pub(crate) const fn free_start(&self) -> u64 {
        self.free_start
    }
}

/// What a thin guest with this image never writes: code, constants and page tables, ascending.
///
/// # Errors
/// The image can't be used.
pub(crate) fn text(elf: &[u8]) -> Result<Vec<PpnRun>, BootError> {
    let tables = ppn(layout::PAGE_TABLES);
    let mut runs = vec![PpnRun::new(tables, ppn(layout::IMAGE_BASE).0 - tables.0)];
    for (page, rights) in Elf::parse(elf)?.rights()? {
        let at = ppn(page);
        match runs.last_mut() {
            _ if rights.write => {}
            Some(last) if last.end() == at => last.pages += 1,
            _ => runs.push(PpnRun::new(at, 1)),
        }
    }
    Ok(runs)
}

fn build_tables(elf: &Elf<'_>, key: Key, stacks: u64, free: u64) -> Result<Tables, BootError> {
    let data = Rights {
        write: true,
        execute: false,
    };
    let mut tables = Tables::new();
    tables.map_page(layout::CONTROL, Rights::default())?;
    tables.map_memory(layout::STATUS, layout::STATUS + layout::STATUS_SIZE as u64)?;
    for (page, rights) in elf.rights()? {
        tables.map_page(page, rights)?;
    }
    for vcpu in 0..u64::from(key.vcpus) {
        let guard = stacks + vcpu * (PAGE + layout::STACK_SIZE);
        for offset in (PAGE..=layout::STACK_SIZE).step_by(layout::PAGE_SIZE) {
            tables.map_page(guard + offset, data)?;
        }
    }
    tables.map_memory(free, key.memory)?;
    tables.map_devices(layout::MMIO_BASE)?;
    Ok(tables)
}

/// Guest-physical addresses of a thin guest lie below 4 GiB, so page numbers always fit.
fn ppn(address: u64) -> Ppn {
    Ppn(u32::try_from(address / PAGE).unwrap_or(u32::MAX))
}

/// What a boot image depends on, besides the ELF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Frames are shared inside one group only.
    pub(crate) group: GroupId,
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) vcpus: u32,
    /// Whether guests map the image's frames, or get copies.
    pub(crate) shared: bool,
}

/// The boot images of a machine.
#[derive(Debug, Default)]
pub(crate) struct BootImages(Mutex<HashMap<(Key, usize), Kept>>);

/// An image, with its ELF kept so that the ELF's address goes on naming it.
#[derive(Debug)]
struct Kept {
    image: Arc<BootImage>,
    _elf: Arc<[u8]>,
}

impl BootImages {
    /// The image for a guest, built when it is the first of its kind.
    pub(crate) fn get(
        &self,
        pmap: &Pmap,
        elf: &Arc<[u8]>,
        key: Key,
    ) -> Result<Arc<BootImage>, BootError> {
        let key_and_elf = (key, elf.as_ptr().addr());
        let mut images = self.0.lock();
        if let Some(kept) = images.get(&key_and_elf) {
            return Ok(kept.image.clone());
        }
        let image = Arc::new(BootImage::build(pmap, elf, key)?);
        images.insert(
            key_and_elf,
            Kept {
                image: image.clone(),
                _elf: elf.clone(),
            },
        );
        Ok(image)
    }
}
