//! The guest's page tables (four levels, identity-mapped), built once per boot image.
//!
//! The tables are shared frames, so nothing may ever write to them: accessed and dirty bits are
//! preset (a processor or KVM's shadow paging sets only bits that are clear), and the pages of the
//! tables are not mapped in the guest at all. They grow downwards from the image, so that tables
//! and image are one run of frames, however many tables there are.

use mirrorball_abi::layout;

use super::BootError;
use super::elf::Rights;

const ENTRIES: usize = 512;
const PAGE: u64 = layout::PAGE_SIZE as u64;
const LARGE: u64 = 2 << 20;

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE_PAGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const BRANCH: u64 = PRESENT | WRITE | USER | ACCESSED;

type Table = [u64; ENTRIES];

/// Where the root table is: the value of CR3.
pub(crate) const ROOT: u64 = address_of(0);

/// Address of a table by its number.
const fn address_of(table: u64) -> u64 {
    layout::IMAGE_BASE - (table + 1) * PAGE
}

/// Page tables under construction; the first is the root.
#[derive(Debug)]
pub(crate) struct Tables(Vec<Table>);

impl Tables {
    pub(crate) fn new() -> Self {
        Self(vec![[0; ENTRIES]])
    }

    /// Maps one 4 KiB page to itself.
    pub(crate) fn map_page(&mut self, address: u64, rights: Rights) -> Result<(), BootError> {
        let table = self.branch(0, index(address, 3))?;
        let table = self.branch(table, index(address, 2))?;
        let table = self.branch(table, index(address, 1))?;
        self.0[table][index(address, 0)] = address | leaf(rights);
        Ok(())
    }

    /// Maps pages from `start` to `end`, large ones where they fit, writable and not executable.
    pub(crate) fn map_memory(&mut self, start: u64, end: u64) -> Result<(), BootError> {
        let rights = Rights {
            write: true,
            execute: false,
        };
        let mut address = start;
        while address < end {
            if address.is_multiple_of(LARGE) && end - address >= LARGE {
                self.map_large(address, leaf(rights))?;
                address += LARGE;
            } else {
                self.map_page(address, rights)?;
                address += PAGE;
            }
        }
        Ok(())
    }

    /// Maps the large page that holds the device window, uncached.
    pub(crate) fn map_devices(&mut self, address: u64) -> Result<(), BootError> {
        let rights = Rights {
            write: true,
            execute: false,
        };
        self.map_large(
            address / LARGE * LARGE,
            leaf(rights) | CACHE_DISABLE | WRITE_THROUGH,
        )
    }

    fn map_large(&mut self, address: u64, flags: u64) -> Result<(), BootError> {
        let table = self.branch(0, index(address, 3))?;
        let table = self.branch(table, index(address, 2))?;
        self.0[table][index(address, 1)] = address | flags | LARGE_PAGE;
        Ok(())
    }

    /// The table below an entry, made when there is none.
    fn branch(&mut self, table: usize, entry: usize) -> Result<usize, BootError> {
        let value = self.0[table][entry];
        if value & PRESENT != 0 {
            let number = (ROOT - (value & ADDRESS)) / PAGE;
            return usize::try_from(number).map_err(|_| BootError::TooManyTables);
        }
        let made = self.0.len();
        let address = address_of(made as u64);
        if address < layout::PAGE_TABLES {
            return Err(BootError::TooManyTables);
        }
        self.0.push([0; ENTRIES]);
        self.0[table][entry] = address | BRANCH;
        Ok(made)
    }

    /// Number of pages that the tables take.
    pub(crate) fn pages(&self) -> usize {
        self.0.len()
    }

    /// Writes the tables to the memory that ends where the image begins.
    pub(crate) fn copy_to(&self, memory: &mut [u8]) {
        for (table, page) in self
            .0
            .iter()
            .rev()
            .zip(memory.chunks_exact_mut(layout::PAGE_SIZE))
        {
            for (entry, place) in table.iter().zip(page.chunks_exact_mut(8)) {
                place.copy_from_slice(&entry.to_le_bytes());
            }
        }
    }
}

const fn leaf(rights: Rights) -> u64 {
    PRESENT
        | USER
        | ACCESSED
        | DIRTY
        | if rights.write { WRITE } else { 0 }
        | if rights.execute { 0 } else { NO_EXECUTE }
}

/// Index into the table of a level (0: the lowest) for an address.
fn index(address: u64, level: u32) -> usize {
    usize::try_from(address >> (12 + 9 * level) & 0x1ff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the processor would find: address and flags of the leaf entry.
    fn walk(memory: &[u8], address: u64) -> Option<(u64, u64)> {
        let base = layout::IMAGE_BASE - memory.len() as u64;
        let mut table = ROOT;
        for level in (0..4).rev() {
            let at = usize::try_from(table - base).unwrap() + index(address, level) * 8;
            let entry = u64::from_le_bytes(memory[at..at + 8].try_into().unwrap());
            if entry & PRESENT == 0 {
                return None;
            }
            assert_ne!(entry & ACCESSED, 0, "level {level} of {address:#x}");
            if level == 0 || entry & LARGE_PAGE != 0 {
                let size = if level == 0 { PAGE } else { LARGE };
                let page = entry & ADDRESS;
                return Some((page + address % size, entry & !ADDRESS));
            }
            assert_ne!(entry & USER, 0);
            table = entry & ADDRESS;
        }
        None
    }

    #[test]
    fn a_walk_finds_identity_and_rights() {
        let mut tables = Tables::new();
        tables
            .map_page(
                0x20_0000,
                Rights {
                    write: false,
                    execute: true,
                },
            )
            .unwrap();
        tables.map_memory(0x2f_e000, 0x60_1000).unwrap();
        tables.map_devices(layout::MMIO_BASE).unwrap();
        let mut memory = vec![0; tables.pages() * layout::PAGE_SIZE];
        tables.copy_to(&mut memory);

        let (code, flags) = walk(&memory, 0x20_0123).unwrap();
        assert_eq!((code, flags & (WRITE | NO_EXECUTE)), (0x20_0123, 0));
        for address in [0x2f_e000, 0x40_0000, 0x5f_ffff, 0x60_0fff] {
            let (found, flags) = walk(&memory, address).unwrap();
            assert_eq!(found, address);
            assert_eq!(
                flags & (WRITE | NO_EXECUTE | DIRTY),
                WRITE | NO_EXECUTE | DIRTY
            );
        }
        let (device, flags) = walk(&memory, layout::MMIO_BASE + 0x1050).unwrap();
        assert_eq!(device, layout::MMIO_BASE + 0x1050);
        assert_ne!(flags & CACHE_DISABLE, 0);
        for absent in [0, ROOT, 0x20_1000, 0x2f_dfff, 0x60_1000] {
            assert_eq!(walk(&memory, absent), None, "{absent:#x}");
        }
    }

    #[test]
    fn tables_do_not_grow_into_the_image() {
        let mut tables = Tables::new();
        let result =
            (0..300).try_for_each(|large| tables.map_page(large * LARGE, Rights::default()));
        assert!(matches!(result, Err(BootError::TooManyTables)));
    }
}
