//! A Linux guest before it has a VM: files read, sizes checked, addresses chosen.

use std::path::Path;

use mirrorball_abi::layout::PAGE_SIZE;
use mirrorball_pmap::{Access, GroupId, Pmap, Ppn};
use vm_memory::{Bytes, GuestAddress};

use super::acpi::{self, Window};
use super::initramfs::{self, Sizes};
use super::kernel::{self, Entry, Kernel};
use super::layout::{self, ACPI};
use super::params::{self, Facts};
use super::shelf::{Reader, Shelves};
use super::{InitramfsPart, LinuxBoot, LinuxError};
use crate::boot::Content;

const PAGE: u64 = PAGE_SIZE as u64;
const MIB: u64 = 1 << 20;

/// What a kernel of today needs besides its own image and the initramfs to come up.
const WORKING_MEMORY: u64 = 16 << 20;

/// What an archive that has no file is called.
const OWN: &str = "(made by the monitor)";

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Prepared {
    kernel: Kernel,
    image: Content,
    /// Pieces of the initramfs with their distance from its start.
    pieces: Vec<(u64, Content)>,
    initramfs_start: u64,
    initramfs_bytes: u64,
    command_line: String,
    memory: u64,
}

/// What a guest's memory is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory<'a> {
    pub(crate) pmap: &'a Pmap,
    pub(crate) group: GroupId,
    /// Whether guests map the frames of files, or get copies.
    pub(crate) shared: bool,
    pub(crate) bytes: u64,
}

impl Prepared {
    /// Reads the guest's files and finds everything its place.
    pub(crate) fn new(
        shelves: &Shelves,
        memory: Memory<'_>,
        boot: &LinuxBoot,
    ) -> Result<Self, LinuxError> {
        let reader = Reader {
            pmap: memory.pmap,
            group: memory.group,
            shared: memory.shared,
        };
        let (kernel, image) = shelves.kernel(reader, &boot.kernel)?;
        check_command_line(&boot.command_line, &kernel)?;
        let mut pieces = Vec::new();
        let mut sizes = Sizes::default();
        for part in &boot.initramfs {
            let (part_sizes, content) = read_part(shelves, reader, part)?;
            pieces.push((append(&mut sizes, part_sizes), content));
        }
        let start = place(&kernel, &sizes, memory.bytes, &boot.kernel)?;
        Ok(Self {
            kernel,
            image,
            pieces,
            initramfs_start: start,
            initramfs_bytes: sizes.packed,
            command_line: boot.command_line.clone(),
            memory: memory.bytes,
        })
    }

    /// How the kernel is entered.
    pub(super) fn entry(&self) -> &Entry {
        &self.kernel.entry
    }

    /// Puts everything into a new guest's memory.
    pub(crate) fn load(
        &self,
        access: &Access<'_>,
        vcpus: u32,
        devices: &[Window],
    ) -> Result<(), LinuxError> {
        self.image.load(ppn(self.kernel.start), access)?;
        for (offset, content) in &self.pieces {
            content.load(ppn(self.initramfs_start + offset), access)?;
        }
        let memory = access.memory();
        memory.write_slice(&acpi::tables(vcpus, devices), GuestAddress(ACPI))?;
        params::write(
            memory,
            &Facts {
                entry: &self.kernel.entry,
                memory: self.memory,
                initramfs: (self.initramfs_start, self.initramfs_bytes),
                command_line: &self.command_line,
            },
        )?;
        Ok(())
    }
}

/// Whether a guest with so many bytes of memory can come up with what `boot` names. The files are read,
/// and nothing is made of them.
///
/// # Errors
/// What is wrong with a file, or how much memory is the least.
pub fn check(boot: &LinuxBoot, memory: u64) -> Result<(), LinuxError> {
    let (kernel, _) = kernel::read(&boot.kernel)?;
    check_command_line(&boot.command_line, &kernel)?;
    let mut sizes = Sizes::default();
    for part in &boot.initramfs {
        let part = match part {
            InitramfsPart::File(path) => initramfs::read(path)?.0,
            InitramfsPart::Bytes(bytes) => initramfs::check(Path::new(OWN), bytes)?,
        };
        append(&mut sizes, part);
    }
    place(&kernel, &sizes, memory, &boot.kernel)?;
    Ok(())
}

/// Adds an archive; answers how far it is from the first one's start. Linux skips zeros between
/// archives; a new page lets guests share each by itself.
fn append(sizes: &mut Sizes, part: Sizes) -> u64 {
    let offset = sizes.packed.next_multiple_of(PAGE);
    sizes.packed = offset + part.packed;
    sizes.unpacked += part.unpacked;
    offset
}

fn read_part(
    shelves: &Shelves,
    reader: Reader<'_>,
    part: &InitramfsPart,
) -> Result<(Sizes, Content), LinuxError> {
    match part {
        InitramfsPart::File(path) => shelves.archive(reader, path),
        InitramfsPart::Bytes(bytes) => {
            let sizes = initramfs::check(Path::new(OWN), bytes)?;
            Ok((sizes, Content::Copied(bytes.to_vec().into())))
        }
    }
}

fn check_command_line(line: &str, kernel: &Kernel) -> Result<(), LinuxError> {
    let most = usize::try_from(kernel.most_command_line).unwrap_or(usize::MAX);
    if line.len() > most {
        return Err(LinuxError::CommandLine {
            length: line.len(),
            most,
        });
    }
    Ok(())
}

/// Where the initramfs starts; refuses a memory that is too small for the guest to come up.
fn place(kernel: &Kernel, sizes: &Sizes, memory: u64, path: &Path) -> Result<u64, LinuxError> {
    let packed = sizes.packed.next_multiple_of(PAGE);
    let needed = kernel.end + packed + sizes.unpacked + WORKING_MEMORY;
    let start = layout::initramfs_start(memory, kernel.highest_initramfs, packed, kernel.end);
    match start {
        Some(start) if memory >= needed => Ok(start),
        _ => Err(LinuxError::TooLittleMemory {
            kernel: path.into(),
            memory: memory / MIB,
            least: needed.div_ceil(MIB),
        }),
    }
}

/// Guest-physical addresses lie below 4 GiB, so page numbers always fit.
fn ppn(address: u64) -> Ppn {
    Ppn(u32::try_from(address / PAGE).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Kernel = Kernel {
        entry: Entry::Pvh {
            address: 0x100_0000,
        },
        start: 0x100_0000,
        end: 64 << 20,
        most_command_line: 10,
        highest_initramfs: 0x7fff_ffff,
    };

    #[test]
    fn too_little_memory_names_the_least_that_is_accepted() {
        let sizes = Sizes {
            packed: 3 << 20,
            unpacked: (5 << 20) + 1,
        };
        let at = |mib: u64| place(&KERNEL, &sizes, mib << 20, Path::new("vmlinuz"));
        for memory in [0, 16, 64, 88] {
            let error = at(memory).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("vmlinuz"), "{text}");
            assert!(text.contains("at least 89 MiB"), "{text}");
        }
        assert_eq!(at(89).unwrap(), (89 - 3) << 20);
        assert_eq!(
            at(3072).unwrap(),
            (2048 - 3) << 20,
            "not above the kernel's limit"
        );
    }

    #[test]
    fn a_command_line_that_would_be_cut_off_is_refused() {
        assert!(check_command_line("0123456789", &KERNEL).is_ok());
        let error = check_command_line("0123456789a", &KERNEL).unwrap_err();
        assert!(error.to_string().contains("11 bytes; this kernel takes 10"));
    }
}
