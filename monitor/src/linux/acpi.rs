//! The ACPI tables: processors, interrupts, the serial port, the virtio devices, power-off, reset.
//!
//! The machine has none of ACPI's fixed hardware (ACPI 6.5, section 3.11, "hardware-reduced"): power
//! off and reset are plain ports, and everything else is a device in the DSDT. Linux finds
//! virtio-mmio devices there by the identifier that QEMU registered for them, "LNRO0005".

use acpi_tables::Aml;
use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, Path, ResourceTemplate, Scope,
    ZERO,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use mirrorball_abi::layout::MMIO_STRIDE;

use super::layout::{ACPI, IO_APIC, LOCAL_APIC};
use super::{power, serial};

const OEM: [u8; 6] = *b"MIRROR";
const OEM_TABLE: [u8; 8] = *b"MIRRBALL";
const OEM_REVISION: u32 = 1;
/// Length of a table's header, with which an empty table begins.
const HEADER: u32 = 36;
/// Where tables may start.
const ALIGNMENT: usize = 16;

/// Boot architecture flags of the FADT: no VGA, no PCIe ASPM, no CMOS clock; neither legacy devices
/// nor a keyboard controller are claimed.
const BOOT_ARCHITECTURE: u16 = 1 << 2 | 1 << 4 | 1 << 5;

/// One virtio device: its register window and its interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Guest-physical address.
    pub(crate) address: u32,
    /// Global system interrupt, edge-triggered.
    pub(crate) interrupt: u32,
}

/// All tables as they shall lie from [`ACPI`] on, the root pointer first.
pub(super) fn tables(vcpus: u32, devices: &[Window]) -> Vec<u8> {
    let mut tables = vec![0; Rsdp::len().next_multiple_of(ALIGNMENT)];
    let dsdt = put(&mut tables, dsdt(devices).as_slice());
    let fadt = put(&mut tables, &encode(&fadt(dsdt)));
    let madt = put(&mut tables, &encode(&madt(vcpus)));
    let mut root = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    root.add_entry(fadt);
    root.add_entry(madt);
    let root = put(&mut tables, &encode(&root));
    let pointer = encode(&Rsdp::new(OEM, root));
    tables[..pointer.len()].copy_from_slice(&pointer);
    tables
}

/// Adds a table; the result is its guest-physical address.
fn put(tables: &mut Vec<u8>, table: &[u8]) -> u64 {
    let offset = tables.len();
    tables.extend_from_slice(table);
    tables.resize(tables.len().next_multiple_of(ALIGNMENT), 0);
    ACPI + offset as u64
}

fn encode(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn port(address: u16) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        address.into(),
    )
}

fn fadt(dsdt: u64) -> acpi_tables::fadt::FADT {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::Headless);
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.reset_reg = port(power::RESET);
    fadt.reset_value = power::RESET_VALUE;
    fadt.sleep_control_reg = port(power::SLEEP_CONTROL);
    fadt.sleep_status_reg = port(power::SLEEP_STATUS);
    fadt.finalize()
}

/// A processor's number, its APIC's and KVM's number of the vCPU are the same.
fn madt(vcpus: u32) -> MADT {
    let controller = LocalInterruptController::Address(LOCAL_APIC);
    let mut madt = MADT::new(OEM, OEM_TABLE, OEM_REVISION, controller);
    for index in (0..=u8::MAX).take(vcpus as usize) {
        let enabled = EnabledStatus::Enabled;
        madt.add_structure(ProcessorLocalApic::new(index, index, enabled));
    }
    madt.add_structure(IoApic::new(0, IO_APIC, 0));
    madt
}

fn dsdt(devices: &[Window]) -> Sdt {
    let off = power::SOFT_OFF;
    let sleep = Name::new(
        Path::new("\\_S5_"),
        &Package::new(vec![&off, &off, &ZERO, &ZERO]),
    );
    let mut bytes = encode(&sleep);
    serial_port(&mut bytes);
    for (number, window) in (0_u32..).zip(devices) {
        virtio_device(number, *window, &mut bytes);
    }
    let mut dsdt = Sdt::new(*b"DSDT", HEADER, 2, OEM, OEM_TABLE, OEM_REVISION);
    dsdt.append_slice(&bytes);
    dsdt
}

fn interrupt(number: u32) -> Interrupt {
    let (consumer, edge, active_low, shared) = (true, true, false, false);
    Interrupt::new(consumer, edge, active_low, shared, number)
}

fn serial_port(bytes: &mut Vec<u8>) {
    let ports = IO::new(serial::BASE, serial::BASE, 0, serial::PORTS);
    let line = interrupt(serial::LINE);
    let resources = ResourceTemplate::new(vec![&ports, &line]);
    let identifier = Name::new(Path::new("_HID"), &EISAName::new("PNP0501"));
    let number = Name::new(Path::new("_UID"), &ZERO);
    let resources = Name::new(Path::new("_CRS"), &resources);
    let device = Device::new(Path::new("COM1"), vec![&identifier, &number, &resources]);
    Scope::new(Path::new("\\_SB_"), vec![&device]).to_aml_bytes(bytes);
}

fn virtio_device(number: u32, window: Window, bytes: &mut Vec<u8>) {
    let writable = true;
    // The stride is a constant far below 4 GiB.
    let size = u32::try_from(MMIO_STRIDE).unwrap_or(u32::MAX);
    let registers = Memory32Fixed::new(writable, window.address, size);
    let line = interrupt(window.interrupt);
    let resources = ResourceTemplate::new(vec![&registers, &line]);
    let identifier = Name::new(Path::new("_HID"), &"LNRO0005");
    let unique = Name::new(Path::new("_UID"), &number);
    // Device accesses to memory are coherent with the processors' caches.
    let coherent = Name::new(Path::new("_CCA"), &1_u8);
    let resources = Name::new(Path::new("_CRS"), &resources);
    let device = Device::new(
        Path::new(&format!("V{:03}", number % 1000)),
        vec![&identifier, &unique, &coherent, &resources],
    );
    Scope::new(Path::new("\\_SB_"), vec![&device]).to_aml_bytes(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::layout::ACPI_SIZE;

    const DEVICES: [Window; 3] = [
        Window {
            address: 0xd000_0000,
            interrupt: 5,
        },
        Window {
            address: 0xd000_1000,
            interrupt: 6,
        },
        Window {
            address: 0xd000_2000,
            interrupt: 20,
        },
    ];

    fn number(bytes: &[u8]) -> u64 {
        bytes
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u64::from(*byte))
    }

    /// The table at a guest-physical address, with a sound header and checksum.
    fn table<'a>(tables: &'a [u8], address: u64, signature: &[u8]) -> &'a [u8] {
        assert_eq!(address % ALIGNMENT as u64, 0);
        let rest = &tables[usize::try_from(address - ACPI).unwrap()..];
        let length = usize::try_from(number(&rest[4..8])).unwrap();
        let table = &rest[..length];
        assert_eq!(&table[..4], signature);
        assert_eq!(sum(table), 0, "{signature:?}");
        table
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn contains(table: &[u8], bytes: &[u8]) -> bool {
        table.windows(bytes.len()).any(|window| window == bytes)
    }

    #[test]
    fn every_table_is_reached_from_the_root_and_sums_to_zero() {
        for vcpus in [1, 8] {
            let tables = tables(vcpus, &DEVICES);
            assert!(tables.len() as u64 <= ACPI_SIZE);
            assert_eq!(&tables[..8], b"RSD PTR ");
            assert_eq!((sum(&tables[..20]), sum(&tables[..36])), (0, 0));
            let root = table(&tables, number(&tables[24..32]), b"XSDT");
            let entries: Vec<u64> = root[36..].chunks(8).map(number).collect();
            let fadt = table(&tables, entries[0], b"FACP");
            let madt = table(&tables, entries[1], b"APIC");
            table(&tables, number(&fadt[140..148]), b"DSDT");
            assert_eq!(madt.len(), 44 + 8 * vcpus as usize + 12);
            assert_eq!(number(&madt[36..40]), u64::from(LOCAL_APIC));
            for index in 0..u8::try_from(vcpus).unwrap() {
                let entry = &madt[44 + 8 * usize::from(index)..][..8];
                assert_eq!(entry, [0, 8, index, index, 1, 0, 0, 0]);
            }
        }
    }

    #[test]
    fn power_off_and_reset_are_ports() {
        let fadt = encode(&fadt(ACPI + 64));
        let flags = number(&fadt[112..116]);
        assert_eq!(flags & (1 << 20 | 1 << 10), 1 << 20 | 1 << 10);
        let register = |at: usize| (fadt[at], number(&fadt[at + 4..at + 12]));
        assert_eq!(register(116), (1, power::RESET.into()));
        assert_eq!(fadt[128], power::RESET_VALUE);
        assert_eq!(register(244), (1, power::SLEEP_CONTROL.into()));
        assert_eq!(register(256), (1, power::SLEEP_STATUS.into()));
        assert_eq!(
            number(&fadt[109..111]) & 0b11,
            0,
            "neither legacy devices nor a keyboard"
        );
    }

    #[test]
    fn each_device_is_described_with_its_window_and_interrupt() {
        let dsdt = dsdt(&DEVICES);
        let table = dsdt.as_slice();
        assert_eq!(table.windows(8).filter(|w| w == b"LNRO0005").count(), 3);
        for (name, window) in ["V000", "V001", "V002"].iter().zip(&DEVICES) {
            assert!(contains(table, name.as_bytes()));
            let [a, b, c, d] = window.address.to_le_bytes();
            assert!(contains(table, &[0x86, 9, 0, 1, a, b, c, d, 0, 0x10, 0, 0]));
            let line = u8::try_from(window.interrupt).unwrap();
            assert!(contains(table, &[0x89, 6, 0, 0b11, 1, line, 0, 0, 0]));
        }
        assert!(contains(table, b"COM1") && contains(table, b"_S5_"));
        assert!(contains(table, &[0x89, 6, 0, 0b11, 1, 4, 0, 0, 0]));
    }
}
