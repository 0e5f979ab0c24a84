//! Is there a KVM, may we use it, and does it run guests on the processor?

use std::path::Path;
use std::time::Duration;

use kvm_ioctls::Kvm;

use super::real_mode::RealMode;
use super::{Check, CheckState, KvmKind, Root};
use crate::MonitorError;
use crate::kvm::open;

const ID: &str = "kvm";

/// Iterations of the probe loop, of two instructions each.
const ITERATIONS: u32 = 20_000;

/// A processor makes them in some 20 us; an emulator of 1.5 million instructions a second takes
/// 27 ms. In between lies much room for a busy host.
const SLOW: Duration = Duration::from_millis(4);

pub(super) fn check(root: &Root, device: &Path) -> (Check, KvmKind) {
    match open(device) {
        Ok(kvm) => {
            let flags = root.read("proc/cpuinfo").unwrap_or_default();
            judge(has_virtualization(&flags), || ring_0_time(&kvm))
        }
        Err(error) => refused(&error),
    }
}

fn refused(error: &MonitorError) -> (Check, KvmKind) {
    let effect = "no guest can be started";
    let (kind, remedy) = match error {
        MonitorError::KvmPermission(_) => (
            KvmKind::NoPermission,
            "run as root, or: sudo usermod -aG kvm $USER and log in again",
        ),
        MonitorError::KvmMissing(_) => (
            KvmKind::None,
            "turn on virtualization in the firmware and load kvm_intel or kvm_amd; inside a VM, \
             ask for nested virtualization",
        ),
        _ => (
            KvmKind::None,
            "see which driver owns the device: ls -l /dev/kvm; dmesg | grep kvm",
        ),
    };
    (
        Check::new(ID, CheckState::Fail, error.to_string(), effect, remedy),
        kind,
    )
}

/// `svm` or `vmx` among the processor's flags.
fn has_virtualization(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_whitespace)
        .any(|flag| flag == "svm" || flag == "vmx")
}

fn judge(
    flagged: bool,
    ring_0: impl FnOnce() -> Result<Duration, MonitorError>,
) -> (Check, KvmKind) {
    if flagged {
        return (
            Check::pass(ID, "hardware KVM (svm or vmx)"),
            KvmKind::Hardware,
        );
    }
    match ring_0() {
        Ok(time) if time < SLOW => {
            let finding =
                format!("KVM runs ring 0 at the processor's speed ({time:.1?} for the probe)");
            (Check::pass(ID, finding), KvmKind::Hardware)
        }
        Ok(time) => {
            let check = Check::new(
                ID,
                CheckState::Warn,
                format!("software KVM: ring 0 is emulated ({time:.1?} for the probe)"),
                "thin guests run natively; Linux guests can't boot here",
                "for Linux guests use a host with svm or vmx, or add `--host emulated`",
            );
            (check, KvmKind::Software)
        }
        Err(error) => {
            let check = Check::new(
                ID,
                CheckState::Fail,
                format!("KVM can't run a probe guest: {error}"),
                "guests may not start",
                "see the kernel's log: dmesg | grep -i kvm",
            );
            (check, KvmKind::None)
        }
    }
}

/// The best of a few runs of a loop in ring 0.
fn ring_0_time(kvm: &Kvm) -> Result<Duration, MonitorError> {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        best = best.min(ring_0_run(kvm)?);
        if best < SLOW {
            break;
        }
    }
    Ok(best)
}

/// Real mode: `mov ecx, ITERATIONS`, `1: dec ecx`, `jnz 1b`, `hlt`.
fn ring_0_run(kvm: &Kvm) -> Result<Duration, MonitorError> {
    let [a, b, c, d] = ITERATIONS.to_le_bytes();
    let code = [0x66, 0xb9, a, b, c, d, 0x66, 0x49, 0x75, 0xfc, 0xf4];
    RealMode::new(kvm, &code)?.run_to_halt()
}

#[cfg(test)]
mod tests {
    use super::super::testing::root;
    use super::*;

    #[test]
    fn no_kvm_at_all() {
        let (_folder, root) = root(&[]);
        let (check, kind) = check(&root, Path::new("/dev/no-such-kvm"));
        assert_eq!((check.state, kind), (CheckState::Fail, KvmKind::None));
        assert!(check.remedy.contains("firmware"));
    }

    #[test]
    fn what_is_no_kvm() {
        let (_folder, root) = root(&[]);
        let (check, kind) = check(&root, Path::new("/dev/null"));
        assert_eq!((check.state, kind), (CheckState::Fail, KvmKind::None));
    }

    #[test]
    fn no_permission() {
        let (check, kind) = refused(&MonitorError::KvmPermission("/dev/kvm".into()));
        assert_eq!(
            (check.state, kind),
            (CheckState::Fail, KvmKind::NoPermission)
        );
        assert!(check.remedy.contains("usermod"));
        let (check, _) = refused(&MonitorError::KvmVersion(11));
        assert!(check.finding.contains("11"));
    }

    #[test]
    fn hardware_by_flag_or_by_speed_and_software_by_slowness() {
        assert!(has_virtualization("flags\t\t: fpu svm sse2\n"));
        assert!(!has_virtualization(
            "model name : svm\nflags : fpu svm_lock\n"
        ));
        let kind = |flagged, time| judge(flagged, move || Ok(time)).1;
        assert_eq!(kind(true, Duration::MAX), KvmKind::Hardware);
        assert_eq!(kind(false, Duration::from_micros(30)), KvmKind::Hardware);
        assert_eq!(kind(false, Duration::from_millis(27)), KvmKind::Software);
        let broken = judge(false, || Err(MonitorError::KvmVersion(1)));
        assert_eq!(
            (broken.0.state, broken.1),
            (CheckState::Fail, KvmKind::None)
        );
    }
}
