//! What the monitor writes for the kernel's first instructions: descriptor table, page tables, and
//! the zero page or PVH's start information.

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::loader::elf::start_info::{
    XEN_HVM_MEMMAP_TYPE_RAM, XEN_HVM_MEMMAP_TYPE_RESERVED, XEN_HVM_START_MAGIC_VALUE,
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use mirrorball_abi::layout::PAGE_SIZE;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::kernel::Entry;
use super::layout::{
    ACPI, COMMAND_LINE, GDT, PAGE_TABLE_PAGES, PAGE_TABLES, START_INFO, Stretch, ZERO_PAGE,
    memory_map,
};

/// Number of descriptors.
pub(super) const GDT_ENTRIES: u16 = 5;

/// E820 types: memory, and memory that is taken.
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
/// A boot loader without a number of its own.
const LOADER: u8 = 0xff;

/// Entries of a page table: present and writable, and of a directory also a large page.
const PRESENT: u64 = 0b11;
const LARGE: u64 = PRESENT | 1 << 7;

/// What differs from guest to guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) entry: &'a Entry,
    /// Bytes of memory.
    pub(super) memory: u64,
    /// Address and size of the initramfs.
    pub(super) initramfs: (u64, u64),
    pub(super) command_line: &'a str,
}

/// Writes all of it.
pub(super) fn write(memory: &GuestMemoryMmap, facts: &Facts<'_>) -> Result<(), GuestMemoryError> {
    let mut line = facts.command_line.as_bytes().to_vec();
    line.push(0);
    memory.write_slice(&line, GuestAddress(COMMAND_LINE))?;
    memory.write_slice(&descriptors(facts.entry), GuestAddress(GDT))?;
    match facts.entry {
        Entry::Linux { header, .. } => {
            memory.write_slice(&page_tables(), GuestAddress(PAGE_TABLES))?;
            memory.write_obj(zero_page(facts, *header), GuestAddress(ZERO_PAGE))
        }
        Entry::Pvh { .. } => write_start_info(memory, facts),
    }
}

/// Flat segments for the entry, at the selectors that the boot protocol prescribes.
fn descriptors(entry: &Entry) -> Vec<u8> {
    const CODE_64: u64 = 0x00af_9b00_0000_ffff;
    const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
    const DATA: u64 = 0x00cf_9300_0000_ffff;
    const TASK: u64 = 0x0000_8b00_0000_0067;
    let code = match entry {
        Entry::Linux { .. } => CODE_64,
        Entry::Pvh { .. } => CODE_32,
    };
    let table: [u64; GDT_ENTRIES as usize] = [0, 0, code, DATA, TASK];
    table.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

/// The identity map of the lowest 4 GiB in pages of 2 MiB.
fn page_tables() -> Vec<u8> {
    const ENTRIES: u64 = 512;
    let table = |number: u64| PAGE_TABLES + number * PAGE_SIZE as u64;
    let directories = PAGE_TABLE_PAGES - 2;
    let mut entries = vec![table(1) | PRESENT];
    entries.resize(512, 0);
    entries.extend((0..directories).map(|number| table(2 + number) | PRESENT));
    entries.resize(1024, 0);
    entries.extend((0..directories * ENTRIES).map(|page| page << 21 | LARGE));
    entries
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect()
}

fn zero_page(facts: &Facts<'_>, header: setup_header) -> boot_params {
    let mut page = boot_params {
        hdr: header,
        acpi_rsdp_addr: ACPI,
        ..boot_params::default()
    };
    page.hdr.type_of_loader = LOADER;
    // The address is a constant below 4 GiB.
    page.hdr.cmd_line_ptr = u32::try_from(COMMAND_LINE).unwrap_or(0);
    // Guest memory ends below 4 GiB.
    let (start, bytes) = facts.initramfs;
    page.hdr.ramdisk_image = u32::try_from(start).unwrap_or(0);
    page.hdr.ramdisk_size = u32::try_from(bytes).unwrap_or(0);
    let mut table = page.e820_table;
    for (entry, stretch) in table.iter_mut().zip(memory_map(facts.memory)) {
        *entry = e820(stretch);
        page.e820_entries += 1;
    }
    page.e820_table = table;
    page
}

fn e820(stretch: Stretch) -> boot_e820_entry {
    boot_e820_entry {
        addr: stretch.start,
        size: stretch.bytes,
        r#type: if stretch.usable {
            E820_RAM
        } else {
            E820_RESERVED
        },
    }
}

fn write_start_info(memory: &GuestMemoryMmap, facts: &Facts<'_>) -> Result<(), GuestMemoryError> {
    const MODULES: u64 = START_INFO + size_of::<hvm_start_info>() as u64;
    const ENTRY: u64 = size_of::<hvm_memmap_table_entry>() as u64;
    let (start, bytes) = facts.initramfs;
    let map = memory_map(facts.memory);
    let info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: 1,
        nr_modules: u32::from(bytes > 0),
        modlist_paddr: MODULES,
        cmdline_paddr: COMMAND_LINE,
        rsdp_paddr: ACPI,
        memmap_paddr: ZERO_PAGE,
        memmap_entries: u32::try_from(map.len()).unwrap_or(0),
        ..hvm_start_info::default()
    };
    memory.write_obj(info, GuestAddress(START_INFO))?;
    let module = hvm_modlist_entry {
        paddr: start,
        size: bytes,
        ..hvm_modlist_entry::default()
    };
    memory.write_obj(module, GuestAddress(MODULES))?;
    for (index, stretch) in (0..).zip(map) {
        let entry = hvm_memmap_table_entry {
            addr: stretch.start,
            size: stretch.bytes,
            type_: if stretch.usable {
                XEN_HVM_MEMMAP_TYPE_RAM
            } else {
                XEN_HVM_MEMMAP_TYPE_RESERVED
            },
            reserved: 0,
        };
        memory.write_obj(entry, GuestAddress(ZERO_PAGE + index * ENTRY))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: u64 = 16 << 20;

    fn written(entry: &Entry) -> GuestMemoryMmap {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 16 << 20)]).unwrap();
        let facts = Facts {
            entry,
            memory: MEMORY,
            initramfs: (0xf0_0000, 12345),
            command_line: "console=ttyS0",
        };
        write(&memory, &facts).unwrap();
        memory
    }

    #[test]
    fn the_zero_page_names_everything() {
        let header = setup_header {
            version: 0x020f,
            ..setup_header::default()
        };
        let memory = written(&Entry::Linux { header, address: 0 });
        let page: boot_params = memory.read_obj(GuestAddress(ZERO_PAGE)).unwrap();
        let header = page.hdr;
        let (version, loader) = (header.version, header.type_of_loader);
        assert_eq!((version, loader), (0x020f, LOADER));
        let (image, size) = (header.ramdisk_image, header.ramdisk_size);
        assert_eq!((image, size), (0xf0_0000, 12345));
        let line = header.cmd_line_ptr;
        let mut text = [0; 14];
        memory
            .read_slice(&mut text, GuestAddress(line.into()))
            .unwrap();
        assert_eq!(&text, b"console=ttyS0\0");
        let pointer = page.acpi_rsdp_addr;
        assert_eq!(pointer, ACPI);
        let table = page.e820_table;
        let usable: u64 = table[..usize::from(page.e820_entries)]
            .iter()
            .filter(|entry| { entry.r#type } == E820_RAM)
            .map(|entry| entry.size)
            .sum();
        assert_eq!(usable, MEMORY - (0x10_0000 - 0x9_fc00));
    }

    #[test]
    fn the_page_tables_map_every_address_below_4_gib_to_itself() {
        let header = setup_header::default();
        let memory = written(&Entry::Linux { header, address: 0 });
        let read = |address: u64| memory.read_obj::<u64>(GuestAddress(address)).unwrap();
        let follow = |entry: u64| {
            assert_eq!(entry & PRESENT, PRESENT);
            entry & !0xfff
        };
        for address in [0, HIGHEST_2M, 0x10_0000, 0x7fff_ffff, 0xfee0_0000] {
            let pointers = follow(read(PAGE_TABLES));
            let directory = follow(read(pointers + (address >> 30) * 8));
            let page = read(directory + (address >> 21 & 511) * 8);
            assert_eq!(page & LARGE, LARGE);
            assert_eq!(page & !0x1f_ffff, address & !0x1f_ffff);
        }
    }

    const HIGHEST_2M: u64 = 0xffe0_0000;

    #[test]
    fn the_start_info_names_everything() {
        let memory = written(&Entry::Pvh { address: 0 });
        let info: hvm_start_info = memory.read_obj(GuestAddress(START_INFO)).unwrap();
        assert_eq!((info.magic, info.version), (0x336e_c578, 1));
        assert_eq!((info.nr_modules, info.memmap_entries), (1, 3));
        assert_eq!((info.rsdp_paddr, info.cmdline_paddr), (ACPI, COMMAND_LINE));
        let module: hvm_modlist_entry = memory.read_obj(GuestAddress(info.modlist_paddr)).unwrap();
        assert_eq!((module.paddr, module.size), (0xf0_0000, 12345));
        let last: hvm_memmap_table_entry = memory
            .read_obj(GuestAddress(info.memmap_paddr + 48))
            .unwrap();
        assert_eq!(last.addr + last.size, MEMORY);
    }
}
