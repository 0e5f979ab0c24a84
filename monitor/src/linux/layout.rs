//! Guest-physical addresses of a Linux guest at its first instruction.
//!
//! Everything below 1 MiB is written for each guest; from 1 MiB on lies what guests share: the
//! kernel as it is in its file, and the initramfs at the top of memory. The device windows, the I/O
//! APIC and KVM's own pages lie above the largest memory, so one region of memory is enough.

use mirrorball_abi::layout;

const PAGE: u64 = layout::PAGE_SIZE as u64;

/// The descriptor table of the first instructions.
pub(crate) const GDT: u64 = 0x500;
/// PVH's start information, its module list behind it.
pub(crate) const START_INFO: u64 = 0x6000;
/// The boot protocol's zero page, or PVH's memory map.
pub(crate) const ZERO_PAGE: u64 = 0x7000;
/// Identity map of the lowest 4 GiB: root, one table of pointers, four directories.
pub(crate) const PAGE_TABLES: u64 = 0x9000;
/// Pages at [`PAGE_TABLES`].
pub(crate) const PAGE_TABLE_PAGES: u64 = 6;
/// The command line, ended by a zero byte.
pub(crate) const COMMAND_LINE: u64 = 0x2_0000;
/// Bytes at [`COMMAND_LINE`].
pub(crate) const COMMAND_LINE_SIZE: u64 = 0x1000;
/// End of the low memory that a PC leaves to its operating system.
pub(crate) const LOW_END: u64 = 0x9_fc00;
/// The ACPI tables, the root pointer first, where a PC's firmware would be.
pub(crate) const ACPI: u64 = 0xe_0000;
/// Bytes at [`ACPI`].
pub(crate) const ACPI_SIZE: u64 = 0x2_0000;
/// Start of high memory: the kernel.
pub(crate) const HIGH: u64 = ACPI + ACPI_SIZE;

/// Most memory of a Linux guest, bytes: it ends below the device windows.
pub(crate) const MAX_MEMORY: u64 = layout::MAX_MEMORY;
/// The I/O APIC, as KVM has it.
pub(crate) const IO_APIC: u32 = 0xfec0_0000;
/// The local APICs.
pub(crate) const LOCAL_APIC: u32 = 0xfee0_0000;
/// A page and a task state segment that KVM for Intel processors wants for itself.
pub(crate) const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages, see [`KVM_IDENTITY_MAP`].
pub(crate) const KVM_TASK_STATE: usize = 0xfffb_d000;

/// A stretch of guest-physical memory as the guest is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) start: u64,
    pub(crate) bytes: u64,
    pub(crate) usable: bool,
}

/// The memory map of a guest with `memory` bytes, without gaps up to the end of memory.
pub(crate) fn memory_map(memory: u64) -> [Stretch; 3] {
    let stretch = |start, end: u64, usable| Stretch {
        start,
        bytes: end - start,
        usable,
    };
    [
        stretch(0, LOW_END, true),
        stretch(LOW_END, HIGH, false),
        stretch(HIGH, memory, true),
    ]
}

/// Where an initramfs of `bytes` bytes starts: as high as it may, in whole pages. `None` when it
/// would run into the kernel, which ends at `kernel_end`.
pub(crate) fn initramfs_start(
    memory: u64,
    highest: u64,
    bytes: u64,
    kernel_end: u64,
) -> Option<u64> {
    let end = memory.min(highest.saturating_add(1));
    let start = end.checked_sub(bytes)? / PAGE * PAGE;
    (start >= kernel_end).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_all_is_in_memory_that_the_guest_may_find_used() {
        let parts = [
            (GDT, 64),
            (START_INFO, PAGE),
            (ZERO_PAGE, PAGE),
            (PAGE_TABLES, PAGE_TABLE_PAGES * PAGE),
            (COMMAND_LINE, COMMAND_LINE_SIZE),
            (ACPI, ACPI_SIZE),
            (HIGH, PAGE),
        ];
        for pair in parts.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
        }
        let low = parts[4];
        assert!(low.0 + low.1 <= LOW_END);
        assert_eq!(HIGH, 1 << 20);
        let devices = layout::MMIO_BASE..layout::MMIO_BASE + 32 * layout::MMIO_STRIDE;
        let above = [
            (HIGH, MAX_MEMORY - HIGH),
            (devices.start, devices.end - devices.start),
            (u64::from(IO_APIC), PAGE),
            (u64::from(LOCAL_APIC), PAGE),
            (KVM_IDENTITY_MAP, PAGE),
            (KVM_TASK_STATE as u64, 3 * PAGE),
        ];
        for pair in above.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
        }
    }

    #[test]
    fn the_memory_map_covers_memory_once() {
        for memory in [64 << 20, 128 << 20, MAX_MEMORY] {
            let map = memory_map(memory);
            assert_eq!(map[0].start, 0);
            for pair in map.windows(2) {
                assert_eq!(pair[0].start + pair[0].bytes, pair[1].start);
            }
            assert_eq!(map[2].start + map[2].bytes, memory);
            let firmware = map
                .iter()
                .find(|s| s.start <= ACPI && ACPI < s.start + s.bytes);
            assert!(!firmware.unwrap().usable);
        }
    }

    #[test]
    fn the_initramfs_lies_at_the_top_and_never_in_the_kernel() {
        let (memory, kernel) = (128 << 20, 70 << 20);
        let start = |bytes, highest| initramfs_start(memory, highest, bytes, kernel);
        assert_eq!(start(5000, u64::MAX), Some(memory - 2 * PAGE));
        assert_eq!(start(PAGE, 0x5ff_ffff), Some(0x5ff_f000));
        assert_eq!(start(58 << 20, u64::MAX), Some(kernel));
        assert_eq!(start((58 << 20) + 1, u64::MAX), None);
        assert_eq!(start(u64::MAX, u64::MAX), None);
    }
}
