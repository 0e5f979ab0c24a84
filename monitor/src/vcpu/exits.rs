//! What each exit means: ports of the guest interface, device registers, guest memory, the end.

use std::time::Duration;

use kvm_ioctls::VcpuExit;
use mirrorball_abi::port;
use vm_memory::{Bytes, GuestAddress};

use super::gate::Presence;
use super::{Guest, VcpuContext};
use crate::vm::{StopCause, mailbox};

/// Whether the time of an exit belongs into the histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    Measured,
    /// A kick, or the guest's own waiting.
    Unmeasured,
}

/// What is left to do after [`serve`], free of KVM's borrow of the vCPU.
#[derive(Debug)]
pub(crate) enum Exit {
    Served(Served),
    /// The host denied a page: a fence is up.
    Denied,
    Shutdown,
    InternalError,
    End(StopCause),
}

/// Serves one exit.
pub(crate) fn serve(context: &VcpuContext, presence: &Presence<'_>, exit: VcpuExit<'_>) -> Exit {
    match exit {
        VcpuExit::IoOut(port, data) => match &context.guest {
            Guest::Thin(_) => port_write(context, presence, port, number(data)),
            Guest::Linux(ports) => ports
                .write(port, data)
                .map_or(Exit::Served(Served::Measured), Exit::End),
        },
        VcpuExit::IoIn(port, data) => {
            match &context.guest {
                // There is nothing to read; an empty bus reads as ones.
                Guest::Thin(_) => data.fill(0xff),
                Guest::Linux(ports) => ports.read(port, data),
            }
            Exit::Served(Served::Measured)
        }
        VcpuExit::MmioRead(address, data) => {
            read_memory(context, address, data);
            Exit::Served(Served::Measured)
        }
        VcpuExit::MmioWrite(address, data) => {
            write_memory(context, address, data);
            Exit::Served(Served::Measured)
        }
        VcpuExit::Intr => Exit::Served(Served::Unmeasured),
        VcpuExit::MemoryFault { .. } => Exit::Denied,
        VcpuExit::Shutdown => Exit::Shutdown,
        VcpuExit::InternalError => Exit::InternalError,
        VcpuExit::FailEntry(reason, _) => end(format!("the vCPU's state is refused ({reason:#x})")),
        other => end(format!("an exit that no guest here can cause: {other:?}")),
    }
}

fn end(reason: String) -> Exit {
    Exit::End(StopCause::Kvm { reason })
}

fn port_write(context: &VcpuContext, presence: &Presence<'_>, port: u16, value: u32) -> Exit {
    let control = &context.control;
    match port {
        port::WAIT => {
            let limit = (value != 0).then(|| Duration::from_micros(u64::from(value)));
            presence.wait(limit);
            return Exit::Served(Served::Unmeasured);
        }
        port::WAKE => control.wake(value),
        port::PHASE => control.progress(),
        port::EXIT => return Exit::End(StopCause::Exited(value)),
        port::PANIC => {
            let (message, location) = mailbox::panic_message(&context.space);
            return Exit::End(StopCause::Panicked { message, location });
        }
        // An empty bus swallows writes.
        _ => {}
    }
    Exit::Served(Served::Measured)
}

/// The value of a port write, which the guest may make in any width.
fn number(data: &[u8]) -> u32 {
    let mut bytes = [0; 4];
    for (to, from) in bytes.iter_mut().zip(data) {
        *to = *from;
    }
    u32::from_le_bytes(bytes)
}

/// A device's register, or guest memory: an instruction that KVM emulated met a fence there.
fn read_memory(context: &VcpuContext, address: u64, data: &mut [u8]) {
    if context.bus.read(address, data) {
        return;
    }
    let access = context.space.access();
    if access
        .memory()
        .read_slice(data, GuestAddress(address))
        .is_err()
    {
        data.fill(0xff);
    }
}

/// As [`read_memory`]. A write to where nothing is has no effect, as on an empty bus.
fn write_memory(context: &VcpuContext, address: u64, data: &[u8]) {
    if context.bus.write(address, data) {
        return;
    }
    let access = context.space.access();
    if access
        .memory()
        .write_slice(data, GuestAddress(address))
        .is_err()
    {
        tracing::trace!(address, "guest write to nowhere");
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn port_values_of_any_width() {
        assert_eq!(number(&[]), 0);
        assert_eq!(number(&[0xab]), 0xab);
        assert_eq!(number(&[1, 0, 0, 0x80, 9, 9]), 0x8000_0001);
    }
}
