//! A guest of a few instructions in real mode, to time KVM with.

use std::time::{Duration, Instant};

use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};

use crate::MonitorError;
use crate::sys::memory::{PROBE_PAGES, ProbeVm};

/// A vCPU that begins at the first byte of a page.
#[derive(Debug)]
pub(crate) struct RealMode {
    vcpu: VcpuFd,
    /// Its memory, which must outlive it.
    vm: ProbeVm,
}

impl RealMode {
    /// A guest with this code, which ends with `hlt`.
    pub(crate) fn new(kvm: &Kvm, code: &[u8]) -> Result<Self, MonitorError> {
        let fd = kvm.create_vm().map_err(MonitorError::kvm("create a VM"))?;
        let vm = ProbeVm::new(fd, code).map_err(|source| MonitorError::Kvm {
            what: "take the probe's memory",
            source,
        })?;
        let vcpu = vm
            .fd()
            .create_vcpu(0)
            .map_err(MonitorError::kvm("create a vCPU"))?;
        Ok(Self { vcpu, vm })
    }

    /// Runs the code from its start and answers how long it took.
    pub(crate) fn run_to_halt(&mut self) -> Result<Duration, MonitorError> {
        self.begin()
            .map_err(MonitorError::kvm("set the probe's registers"))?;
        let start = Instant::now();
        loop {
            match self.vcpu.run() {
                Ok(VcpuExit::Hlt) => return Ok(start.elapsed()),
                Ok(VcpuExit::Intr | VcpuExit::IoOut(..)) => {}
                Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {}
                Ok(_) => {
                    let source = std::io::Error::other("the probe ended in an unexpected exit");
                    return Err(MonitorError::Kvm {
                        what: "run a probe guest",
                        source,
                    });
                }
                Err(error) => return Err(MonitorError::kvm("run a probe guest")(error)),
            }
        }
    }

    fn begin(&self) -> Result<(), kvm_ioctls::Error> {
        let mut system = self.vcpu.get_sregs()?;
        system.cs.base = 0;
        system.cs.selector = 0;
        self.vcpu.set_sregs(&system)?;
        self.vcpu.set_regs(&kvm_bindings::kvm_regs {
            rflags: 2,
            ..Default::default()
        })
    }
}

/// What it costs a guest on this host to touch a page of which KVM has no translation, though the
/// process has the page: some microseconds on a processor, a hundred times that where a processor is
/// emulated. The best of a few runs.
///
/// # Errors
/// KVM can't run the probe.
pub(crate) fn fault_time(kvm: &Kvm) -> Result<Duration, MonitorError> {
    const RUNS: u32 = 4;
    /// Pages that are touched: all but the code's.
    const TOUCHED: u32 = PROBE_PAGES as u32 - 1;
    // `mov ax, 0x100`, `1: mov es, ax`, `mov bl, es:[0]`, `add ah, 1`, `cmp ah, PAGES`, `jnz 1b`, `hlt`.
    let code = [
        0xb8,
        0,
        1,
        0x8e,
        0xc0,
        0x26,
        0x8a,
        0x1e,
        0,
        0,
        0x80,
        0xc4,
        1,
        0x80,
        0xfc,
        PROBE_PAGES,
        0x75,
        0xf1,
        0xf4,
    ];
    let mut guest = RealMode::new(kvm, &code)?;
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let forgotten = guest.vm.forget_translations();
        forgotten.map_err(MonitorError::os("protect the probe's memory"))?;
        best = best.min(guest.run_to_halt()?);
    }
    Ok(best / TOUCHED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_fault_takes_some_time_and_not_for_ever() {
        let Ok(kvm) = crate::kvm::open(Path::new(crate::kvm::DEVICE)) else {
            eprintln!("NOT RUN (1): a_fault_takes_some_time_and_not_for_ever needs /dev/kvm");
            return;
        };
        let time = fault_time(&kvm).unwrap();
        let possible = Duration::from_nanos(100)..Duration::from_millis(100);
        assert!(possible.contains(&time), "{time:?}");
    }
}
