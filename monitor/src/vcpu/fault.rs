//! Explaining why KVM would not run a guest any further.

use kvm_ioctls::VcpuFd;

use super::Guest;
use crate::boot::symbol_at;
use crate::vm::StopCause;

/// A thin guest has no interrupt descriptor table, so each exception is a triple fault, which KVM
/// reports as a shutdown; a Linux kernel has lost its tables, or ended itself so on purpose. The registers still tell where it was, except on KVM for AMD, which
/// resets the vCPU first.
pub(crate) fn shutdown(fd: &VcpuFd, guest: &Guest) -> StopCause {
    let rip = fd
        .get_regs()
        .ok()
        .map(|regs| regs.rip)
        .filter(|rip| *rip != RESET_RIP);
    let touched = fd
        .get_sregs()
        .ok()
        .map(|sregs| sregs.cr2)
        .filter(|cr2| *cr2 != 0);
    let reason = match (guest, rip) {
        (Guest::Linux(_), _) => "a triple fault: its kernel lost its way, or reset itself so",
        (Guest::Thin(_), Some(_)) => "an exception that it has no handler for",
        (Guest::Thin(_), None) => "an exception; this host's KVM did not keep the registers",
    };
    StopCause::Fault {
        reason: reason.into(),
        address: touched,
        rip,
        symbol: rip.and_then(|rip| symbol_at(guest.symbols(), rip)),
    }
}

/// Instruction pointer after a processor reset.
const RESET_RIP: u64 = 0xfff0;

/// `KVM_EXIT_INTERNAL_ERROR`: KVM had to emulate an instruction and could not, or worse.
pub(crate) fn internal_error(fd: &VcpuFd, guest: &Guest, suberror: u32) -> StopCause {
    let what = match suberror {
        1 => "an instruction that has to be emulated and can't be",
        2 => "exceptions at the same time",
        3 => "an exception while one was delivered",
        4 => "an exit reason that KVM does not know",
        _ => "an error inside KVM",
    };
    let remedy = match guest {
        Guest::Thin(_) => "",
        Guest::Linux(_) => {
            "; should this go on, run Linux guests on the emulated host, or on a host whose \
             processor has svm or vmx"
        }
    };
    let place = place(fd, guest.symbols());
    StopCause::Kvm {
        reason: format!("{what} (suberror {suberror}){place}{remedy}"),
    }
}

/// KVM refused to run the vCPU with an error number.
pub(crate) fn run_failed(fd: &VcpuFd, elf: &[u8], error: kvm_ioctls::Error) -> StopCause {
    let error = std::io::Error::from_raw_os_error(error.errno());
    StopCause::Kvm {
        reason: format!("{error}{}", place(fd, elf)),
    }
}

/// The guest accesses a page that the host does not let it have, again and again.
pub(crate) fn no_progress(fd: &VcpuFd, elf: &[u8], retries: u32) -> StopCause {
    let place = place(fd, elf);
    StopCause::Kvm {
        reason: format!("a page of the guest stayed inaccessible over {retries} retries{place}"),
    }
}

fn place(fd: &VcpuFd, elf: &[u8]) -> String {
    let Ok(regs) = fd.get_regs() else {
        return String::new();
    };
    let symbol = symbol_at(elf, regs.rip).map_or_else(String::new, |name| format!(" in {name}"));
    format!(" at {:#x}{symbol}", regs.rip)
}
