//! A vCPU's state at its first instruction: 64-bit code at CPL 3, paging on, no descriptor tables.
//!
//! Nothing of the guest ever runs in ring 0, so it runs natively also where KVM has no hardware to
//! lean on. Ports are opened to it twice: by an I/O privilege level of 3, which a KVM without
//! hardware forgets, and by the I/O bitmap of a task state segment, which an SVM that QEMU emulates
//! does not find (it knows none of the 64-bit type).

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;
use mirrorball_abi::layout;

use crate::boot::ROOT_TABLE;

/// PE, MP, ET, NE, WP, AM, PG.
const CR0: u64 = 0x8005_0033;
/// PAE, OSFXSR, OSXMMEXCPT.
const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
/// SCE, LME, LMA, NXE.
const EFER: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11;
/// The bit that is always one, and I/O privilege level 3.
const RFLAGS: u64 = 2 | 3 << 12;
/// Type of a 64-bit task state segment in use.
const BUSY_TASK: u8 = 11;
/// Offset of the last byte of the task state segment.
const TASK_STATE_LIMIT: u32 = 0x7ff;
const _: () = assert!(TASK_STATE_LIMIT as usize + 1 == layout::TASK_STATE_SIZE);

/// What differs from vCPU to vCPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) index: u32,
    pub(crate) entry: u64,
    pub(crate) stack_pointer: u64,
}

/// Sets all registers for the guest's entry.
pub(crate) fn set_registers(fd: &VcpuFd, start: Start) -> Result<(), kvm_ioctls::Error> {
    let mut system = fd.get_sregs()?;
    enter_user_mode(&mut system);
    fd.set_sregs(&system)?;
    fd.set_regs(&kvm_regs {
        rip: start.entry,
        rsp: start.stack_pointer,
        rdi: u64::from(start.index),
        rflags: RFLAGS,
        ..kvm_regs::default()
    })
}

fn enter_user_mode(system: &mut kvm_sregs) {
    let data = kvm_segment {
        limit: u32::MAX,
        selector: 0x2b,
        type_: 3,
        present: 1,
        dpl: 3,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    system.cs = kvm_segment {
        selector: 0x33,
        type_: 11,
        db: 0,
        l: 1,
        ..data
    };
    (system.ds, system.es, system.fs) = (data, data, data);
    (system.gs, system.ss) = (data, data);
    system.tr = kvm_segment {
        base: layout::TASK_STATE,
        limit: TASK_STATE_LIMIT,
        type_: BUSY_TASK,
        present: 1,
        ..kvm_segment::default()
    };
    system.idt.limit = 0;
    system.gdt.limit = 0;
    system.cr0 = CR0;
    system.cr3 = ROOT_TABLE;
    system.cr4 = CR4;
    system.efer = EFER;
}
