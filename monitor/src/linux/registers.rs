//! The boot processor's state at the kernel's first instruction, and what all vCPUs start with.
//!
//! A bzImage is entered in long mode (boot.rst, "64-bit BOOT PROTOCOL"), a PVH kernel in 32-bit
//! protected mode without paging. The other vCPUs wait in KVM for the kernel to start them.

use kvm_bindings::{Msrs, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;

use super::kernel::Entry;
use super::layout::{GDT, PAGE_TABLES, START_INFO, ZERO_PAGE};
use super::params::GDT_ENTRIES;
use crate::MonitorError;

/// PE, ET.
const CR0_PROTECTED: u64 = 1 | 1 << 4;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
/// LME, LMA.
const EFER_LONG: u64 = 1 << 8 | 1 << 10;
/// The bit that is always one.
const RFLAGS: u64 = 2;
/// x87 and SSE control as after a reset.
const FPU_CONTROL: u16 = 0x37f;
const SSE_CONTROL: u32 = 0x1f80;

/// `MSR_IA32_MISC_ENABLE` with fast string operations.
const MISC_ENABLE: (u32, u64) = (0x1a0, 1);
/// `MSR_MTRRdefType`: ranges on, all memory write-back. Without it Linux doubts the caches.
const MEMORY_TYPE: (u32, u64) = (0x2ff, 1 << 11 | 6);

/// Sets the registers of all vCPUs of a guest.
pub(crate) fn set_registers(vcpus: &[VcpuFd], entry: &super::Prepared) -> Result<(), MonitorError> {
    let failed = || MonitorError::kvm("set a vCPU's registers");
    for fd in vcpus {
        set_model_specific(fd)?;
    }
    let Some(first) = vcpus.first() else {
        return Ok(());
    };
    let fpu = kvm_fpu {
        fcw: FPU_CONTROL,
        mxcsr: SSE_CONTROL,
        ..kvm_fpu::default()
    };
    first.set_fpu(&fpu).map_err(failed())?;
    let mut system = first.get_sregs().map_err(failed())?;
    let general = enter(&mut system, entry.entry());
    first.set_sregs(&system).map_err(failed())?;
    first.set_regs(&general).map_err(failed())
}

fn set_model_specific(fd: &VcpuFd) -> Result<(), MonitorError> {
    for (index, data) in [MISC_ENABLE, MEMORY_TYPE] {
        let entry = kvm_msr_entry {
            index,
            data,
            ..kvm_msr_entry::default()
        };
        let Ok(list) = Msrs::from_entries(&[entry]) else {
            continue;
        };
        let set = fd
            .set_msrs(&list)
            .map_err(MonitorError::kvm("set a vCPU's model-specific registers"))?;
        if set == 0 {
            // Linux copes with either as KVM presets it.
            tracing::debug!(index, "KVM does not take this register");
        }
    }
    Ok(())
}

/// Sets the system registers for an entry; the result are the general ones.
fn enter(system: &mut kvm_sregs, entry: &Entry) -> kvm_regs {
    let data = kvm_segment {
        limit: u32::MAX,
        selector: 0x18,
        type_: 3,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    let code = kvm_segment {
        selector: 0x10,
        type_: 11,
        ..data
    };
    (system.ds, system.es, system.fs) = (data, data, data);
    (system.gs, system.ss) = (data, data);
    system.tr = kvm_segment {
        limit: 0x67,
        selector: 0x20,
        type_: 11,
        present: 1,
        ..kvm_segment::default()
    };
    system.gdt.base = GDT;
    system.gdt.limit = GDT_ENTRIES * 8 - 1;
    system.idt.limit = 0;
    match entry {
        Entry::Linux { address, .. } => {
            system.cs = kvm_segment {
                db: 0,
                l: 1,
                ..code
            };
            system.cr0 = CR0_PROTECTED | CR0_PAGING;
            system.cr3 = PAGE_TABLES;
            system.cr4 = CR4_PAE;
            system.efer = EFER_LONG;
            kvm_regs {
                rip: *address,
                rsi: ZERO_PAGE,
                rflags: RFLAGS,
                ..kvm_regs::default()
            }
        }
        Entry::Pvh { address } => {
            system.cs = code;
            (system.cr0, system.cr4, system.efer) = (CR0_PROTECTED, 0, 0);
            kvm_regs {
                rip: *address,
                rbx: START_INFO,
                rflags: RFLAGS,
                ..kvm_regs::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linux_loader::loader::bootparam::setup_header;

    #[test]
    fn a_bzimage_starts_in_long_mode_with_the_zero_page() {
        let mut system = kvm_sregs::default();
        let entry = Entry::Linux {
            header: setup_header::default(),
            address: 0x10_0200,
        };
        let general = enter(&mut system, &entry);
        assert_eq!((general.rip, general.rsi), (0x10_0200, ZERO_PAGE));
        assert_eq!(general.rflags & 1 << 9, 0, "interrupts are off");
        assert_eq!(
            (system.cs.l, system.cs.db, system.cs.selector),
            (1, 0, 0x10)
        );
        assert_eq!(system.efer, 0x500);
        assert_eq!(system.cr0 >> 31, 1);
        assert_eq!((system.cr3, system.cr4), (PAGE_TABLES, 0x20));
    }

    #[test]
    fn a_pvh_kernel_starts_in_protected_mode_with_the_start_info() {
        let mut system = kvm_sregs::default();
        let general = enter(
            &mut system,
            &Entry::Pvh {
                address: 0x100_0000,
            },
        );
        assert_eq!((general.rip, general.rbx), (0x100_0000, START_INFO));
        assert_eq!((system.cs.l, system.cs.db), (0, 1));
        assert_eq!((system.cr0, system.efer), (0x11, 0));
    }
}
