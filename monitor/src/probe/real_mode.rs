//! A guest of a few instructions in real mode, to time KVM with.

use std::time::{Duration, Instant};

use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};

use crate::MonitorError;
use crate::sys::memory::ProbeVm;

/// A vCPU that begins at the first byte of a page.
#[derive(Debug)]
pub(crate) struct RealMode {
    vcpu: VcpuFd,
    /// Its memory, which must outlive it.
    _vm: ProbeVm,
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
        Ok(Self { vcpu, _vm: vm })
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

/// What it costs a guest on this host to leave guest mode and to come back: some microseconds on a
/// processor, a hundred times that where a processor is emulated. The best of a few runs.
///
/// # Errors
/// KVM can't run the probe.
pub(crate) fn exit_time(kvm: &Kvm) -> Result<Duration, MonitorError> {
    /// Exits of a run.
    const EXITS: u8 = 64;
    const RUNS: u32 = 4;
    // `mov cl, EXITS`, `1: out 0x80, al`, `dec cl`, `jnz 1b`, `hlt`.
    let code = [0xb1, EXITS, 0xe6, 0x80, 0xfe, 0xc9, 0x75, 0xfa, 0xf4];
    let mut guest = RealMode::new(kvm, &code)?;
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        best = best.min(guest.run_to_halt()?);
    }
    Ok(best / u32::from(EXITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn an_exit_takes_some_time_and_not_for_ever() {
        let Ok(kvm) = crate::kvm::open(Path::new(crate::kvm::DEVICE)) else {
            eprintln!("NOT RUN (1): an_exit_takes_some_time_and_not_for_ever needs /dev/kvm");
            return;
        };
        let time = exit_time(&kvm).unwrap();
        let possible = Duration::from_nanos(100)..Duration::from_millis(100);
        assert!(possible.contains(&time), "{time:?}");
    }
}
