//! Reading a kernel's file: what it is, where it goes, how much memory it needs.
//!
//! The file comes from the user: whatever is wrong with it gives a sentence, never a panic. The
//! result holds the pages as they shall lie in guest memory, so that they can become frames.

use std::io::Cursor;
use std::path::Path;

use linux_loader::loader::KernelLoader;
use linux_loader::loader::bootparam::{XLF_KERNEL_64, setup_header};
use linux_loader::loader::bzimage::BzImage;
use linux_loader::loader::elf::{Elf, PvhBootCapability};
use mirrorball_abi::layout::PAGE_SIZE;
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, elf};
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryMmap};

use super::layout::{COMMAND_LINE_SIZE, HIGH, MAX_MEMORY};
use super::{LinuxError, initramfs};

/// Offset of the setup header in a bzImage and in the zero page.
const SETUP_HEADER: usize = 0x1f1;
/// "HdrS".
const SETUP_MAGIC: u32 = u32::from_le_bytes(*b"HdrS");
/// The first version of the boot protocol that tells of 64-bit kernels (`xloadflags`).
const LEAST_VERSION: u16 = 0x020c;
/// From the load address to the 64-bit entry.
const ENTRY_64: u64 = 0x200;
/// Bytes of command line without the final zero that a PVH kernel takes (COMMAND_LINE_SIZE of x86).
const PVH_COMMAND_LINE: u64 = 2047;

/// Most bytes from an ELF's first to its last: more is no kernel, and would only cost memory.
const LARGEST_ELF: u64 = 256 << 20;

/// How a kernel is entered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    /// The 64-bit boot protocol.
    Linux { header: setup_header, address: u64 },
    /// 32-bit code by Xen's PVH protocol.
    Pvh { address: u64 },
}

/// What is known of a kernel besides its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    pub(super) entry: Entry,
    /// Guest-physical address of the first page of its bytes.
    pub(super) start: u64,
    /// End of the memory that it uses before it looks at the memory map.
    pub(super) end: u64,
    /// Most bytes of command line, without the final zero.
    pub(super) most_command_line: u64,
    /// The highest address at which its initramfs may have its last byte.
    pub(super) highest_initramfs: u64,
}

/// Reads a kernel; with it come its pages from [`Kernel::start`] on.
pub(super) fn read(path: &Path) -> Result<(Kernel, Vec<u8>), LinuxError> {
    let file = std::fs::read(path).map_err(|source| LinuxError::Unreadable {
        what: "the kernel",
        path: path.into(),
        source,
    })?;
    parse(&File { path, bytes: &file })
}

/// A file's bytes, with its name for complaints.
#[derive(Debug)]
struct File<'a> {
    path: &'a Path,
    bytes: &'a [u8],
}

fn parse(file: &File<'_>) -> Result<(Kernel, Vec<u8>), LinuxError> {
    if file.bytes.starts_with(b"\x7fELF") {
        return parse_elf(file);
    }
    match file.header() {
        Some(header) if header.header == SETUP_MAGIC => parse_bzimage(file, header),
        _ => Err(file.something_else()),
    }
}

fn parse_bzimage(file: &File<'_>, header: setup_header) -> Result<(Kernel, Vec<u8>), LinuxError> {
    let version = header.version;
    if version < LEAST_VERSION {
        return Err(file.not_a_kernel(format!(
            "its boot protocol {}.{:02} is too old",
            version >> 8,
            version & 0xff
        )));
    }
    if header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(file.wrong_architecture("32-bit x86"));
    }
    let setup = (u64::from(header.setup_sects.max(1)) + 1) * 512;
    let needed = setup + u64::from(header.syssize) * 16;
    file.is_whole(needed)?;
    let start = match header.relocatable_kernel {
        0 => header.pref_address,
        _ => HIGH,
    };
    let end = header.pref_address.saturating_add(header.init_size.into());
    let bytes = file.bytes.len() as u64 - setup;
    if start < HIGH || end > MAX_MEMORY || start.saturating_add(bytes) > MAX_MEMORY {
        let pref_address = header.pref_address;
        return Err(file.not_a_kernel(format!("it wants to be loaded at {pref_address:#x}")));
    }
    let memory = file.scratch(start, bytes)?;
    let loaded = BzImage::load(
        &memory,
        Some(GuestAddress(start)),
        &mut Cursor::new(file.bytes),
        Some(GuestAddress(HIGH)),
    )
    .map_err(|error| file.not_a_kernel(error.to_string()))?;
    let header = loaded.setup_header.unwrap_or(header);
    let kernel = Kernel {
        entry: Entry::Linux {
            header,
            address: start + ENTRY_64,
        },
        start,
        end: end.max(start + bytes),
        most_command_line: u64::from(header.cmdline_size).min(COMMAND_LINE_SIZE - 1),
        highest_initramfs: header.initrd_addr_max.into(),
    };
    Ok((kernel, pages(&memory, start, bytes)?))
}

fn parse_elf(file: &File<'_>) -> Result<(Kernel, Vec<u8>), LinuxError> {
    let segments = file.segments()?;
    let start = segments.iter().map(|s| s.0).min().unwrap_or(0);
    let start = start / PAGE_SIZE as u64 * PAGE_SIZE as u64;
    let file_end = segments.iter().map(|s| s.1).max().unwrap_or(0);
    let end = segments.iter().map(|s| s.2).max().unwrap_or(0);
    let fits = start >= HIGH && end <= MAX_MEMORY;
    if !fits || file_end <= start || file_end - start > LARGEST_ELF {
        return Err(file.not_a_kernel(format!("it wants to be loaded at {start:#x}")));
    }
    let memory = file.scratch(start, file_end - start)?;
    let loaded = Elf::load(&memory, None, &mut Cursor::new(file.bytes), None)
        .map_err(|error| file.not_a_kernel(error.to_string()))?;
    let PvhBootCapability::PvhEntryPresent(address) = loaded.pvh_boot_cap else {
        return Err(file.not_a_kernel("an ELF without a PVH entry".into()));
    };
    let kernel = Kernel {
        entry: Entry::Pvh { address: address.0 },
        start,
        end,
        most_command_line: PVH_COMMAND_LINE,
        highest_initramfs: u64::from(u32::MAX),
    };
    Ok((kernel, pages(&memory, start, file_end - start)?))
}

/// The memory's bytes, whole pages of them.
fn pages(memory: &GuestMemoryMmap, start: u64, bytes: u64) -> Result<Vec<u8>, LinuxError> {
    let length = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut pages = vec![0; length.next_multiple_of(PAGE_SIZE)];
    memory.read_slice(&mut pages, GuestAddress(start))?;
    Ok(pages)
}

impl File<'_> {
    fn header(&self) -> Option<setup_header> {
        let mut header = setup_header::default();
        let size = size_of::<setup_header>();
        let bytes = self.bytes.get(SETUP_HEADER..SETUP_HEADER + size)?;
        header.as_mut_slice().copy_from_slice(bytes);
        Some(header)
    }

    /// Loadable segments: address, end of its bytes, end of its memory.
    fn segments(&self) -> Result<Vec<(u64, u64, u64)>, LinuxError> {
        let bad = |error: object::read::Error| self.not_a_kernel(error.to_string());
        if self.bytes.get(4) != Some(&elf::ELFCLASS64.0) || self.bytes.get(5) != Some(&1) {
            return Err(self.wrong_architecture("an ELF that is not 64-bit little-endian"));
        }
        let header = elf::FileHeader64::<LittleEndian>::parse(self.bytes).map_err(bad)?;
        let machine = header.e_machine(LittleEndian);
        if machine != elf::EM_X86_64 {
            return Err(self.wrong_architecture(&machine_name(machine)));
        }
        let mut segments = Vec::new();
        for program in header
            .program_headers(LittleEndian, self.bytes)
            .map_err(bad)?
        {
            if program.p_type(LittleEndian) != elf::PT_LOAD {
                continue;
            }
            let (at, bytes) = program.file_range(LittleEndian);
            self.is_whole(at.saturating_add(bytes))?;
            let start = program.p_paddr(LittleEndian);
            let memory = program.p_memsz(LittleEndian);
            segments.push((
                start,
                start.saturating_add(bytes),
                start.saturating_add(memory.max(bytes)),
            ));
        }
        Ok(segments)
    }

    /// Memory for the loader to fill, from `start` on.
    fn scratch(&self, start: u64, bytes: u64) -> Result<GuestMemoryMmap, LinuxError> {
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        GuestMemoryMmap::from_ranges(&[(GuestAddress(start), size.next_multiple_of(PAGE_SIZE))])
            .map_err(|error| self.not_a_kernel(error.to_string()))
    }

    fn is_whole(&self, needed: u64) -> Result<(), LinuxError> {
        let has = self.bytes.len() as u64;
        if has >= needed {
            return Ok(());
        }
        Err(LinuxError::Truncated {
            what: "the kernel",
            path: self.path.into(),
            reason: format!("its header speaks of {needed} bytes and it has {has}"),
        })
    }

    /// What a file without the marks of a kernel might be.
    fn something_else(&self) -> LinuxError {
        let mark = |at: usize, magic: &[u8]| self.bytes.get(at..at + magic.len()) == Some(magic);
        if mark(56, b"ARM\x64") || mark(4, b"zimg") {
            return self.wrong_architecture("arm64");
        }
        if mark(48, b"RISCV") {
            return self.wrong_architecture("RISC-V");
        }
        let reason = match self.bytes {
            [] => "the file is empty",
            bytes if bytes.len() < SETUP_HEADER + size_of::<setup_header>() => {
                "it is too short for one"
            }
            bytes if initramfs::is_compressed(bytes) => "it is a compressed file",
            bytes if bytes.starts_with(b"!<arch>") => "it is a Debian package: unpack it first",
            bytes if initramfs::is_cpio(bytes) => "it is an initramfs",
            _ => "it has neither mark",
        };
        self.not_a_kernel(reason.into())
    }

    fn not_a_kernel(&self, reason: String) -> LinuxError {
        LinuxError::NotAKernel {
            path: self.path.into(),
            reason,
        }
    }

    fn wrong_architecture(&self, found: &str) -> LinuxError {
        LinuxError::WrongArchitecture {
            path: self.path.into(),
            found: found.into(),
        }
    }
}

fn machine_name(machine: elf::Machine) -> String {
    match machine {
        elf::EM_386 => "32-bit x86".into(),
        elf::EM_AARCH64 => "arm64".into(),
        elf::EM_ARM => "32-bit ARM".into(),
        elf::EM_RISCV => "RISC-V".into(),
        elf::EM_PPC64 => "POWER".into(),
        elf::EM_S390 => "s390x".into(),
        other => format!("ELF machine {}", other.0),
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
