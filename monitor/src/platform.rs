//! What KVM itself contributes to a PC: interrupt controllers, the timer, interrupt lines.
//!
//! Thin guests have none of it; a thousand of them stay cheap.

use std::io;

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, KVM_PIT_SPEAKER_DUMMY, KvmIrqRouting,
    kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_irqchip,
    kvm_pit_config,
};
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::EventFd;

use crate::MonitorError;
use crate::linux::{KVM_IDENTITY_MAP, KVM_TASK_STATE};

/// Pins of the I/O APIC that KVM has.
const PINS: u32 = 24;

/// Makes a VM without vCPUs a PC.
pub(crate) fn furnish(vm: &VmFd) -> Result<(), MonitorError> {
    vm.set_identity_map_address(KVM_IDENTITY_MAP)
        .map_err(MonitorError::kvm("place its identity map"))?;
    vm.set_tss_address(KVM_TASK_STATE)
        .map_err(MonitorError::kvm("place its task state"))?;
    vm.create_irq_chip()
        .map_err(MonitorError::kvm("make the interrupt controllers"))?;
    vm.set_gsi_routing(&routing()?)
        .map_err(MonitorError::kvm("route the interrupts"))?;
    let timer = kvm_pit_config {
        flags: KVM_PIT_SPEAKER_DUMMY,
        ..kvm_pit_config::default()
    };
    vm.create_pit2(timer)
        .map_err(MonitorError::kvm("make the timer"))
}

/// Every interrupt goes to the I/O APIC pin of its number, none to the old controllers: a kernel on
/// hardware-reduced ACPI never sets those up, and what they raised would be taken for exceptions.
fn routing() -> Result<KvmIrqRouting, MonitorError> {
    let entries: Vec<_> = (0..PINS)
        .map(|pin| kvm_irq_routing_entry {
            gsi: pin,
            type_: KVM_IRQ_ROUTING_IRQCHIP,
            u: kvm_irq_routing_entry__bindgen_ty_1 {
                irqchip: kvm_irq_routing_irqchip {
                    irqchip: KVM_IRQCHIP_IOAPIC,
                    pin,
                },
            },
            ..kvm_irq_routing_entry::default()
        })
        .collect();
    KvmIrqRouting::from_entries(&entries)
        .map_err(|error| MonitorError::Config(format!("too many interrupts: {error:?}")))
}

/// Makes writes to an eventfd raise an interrupt, edge-triggered, without the monitor.
pub(crate) fn connect_line(vm: &VmFd, line: &EventFd, interrupt: u32) -> Result<(), MonitorError> {
    vm.register_irqfd(line, interrupt)
        .map_err(|error| MonitorError::Kvm {
            what: "connect an interrupt line",
            source: io::Error::from_raw_os_error(error.errno()),
        })
}
