//! What a VM can be, and why it stopped.

use std::fmt;

/// Where a VM is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmState {
    /// Made, its vCPUs have not run yet.
    Created,
    /// Its vCPUs run.
    Running,
    /// Its vCPUs are held outside guest mode.
    Paused,
    /// Its vCPUs will not run again.
    Stopped(StopCause),
}

/// Why a VM stopped. `Display` gives one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The monitor's user asked for it.
    Requested,
    /// The guest ended itself with this exit code.
    Exited(u32),
    /// The guest powered itself off (ACPI).
    PoweredOff,
    /// The guest asked for a reset: it rebooted, or its kernel panicked and was told to.
    Reset,
    /// The guest reported a panic.
    Panicked {
        /// What the guest says went wrong.
        message: String,
        /// Source position, empty when the guest gave none.
        location: String,
    },
    /// The guest did what its processor can't go on from.
    Fault {
        /// What happened.
        reason: String,
        /// The address that was touched last when it is known (CR2).
        address: Option<u64>,
        /// Instruction pointer; `None` when the host's KVM did not keep it.
        rip: Option<u64>,
        /// Function around `rip`, with the offset in it.
        symbol: Option<String>,
    },
    /// The guest broke a device's rules.
    Device(String),
    /// KVM can't run the guest any further.
    Kvm {
        /// KVM's words, explained.
        reason: String,
    },
    /// A fault of the monitor itself; the VM is ended rather than run on.
    Monitor(String),
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => f.write_str("stopped on request"),
            Self::Exited(0) => f.write_str("the guest ended in good order"),
            Self::Exited(code) => write!(f, "the guest ended with exit code {code}"),
            Self::PoweredOff => f.write_str("the guest powered itself off"),
            Self::Reset => f.write_str("the guest asked for a reset"),
            Self::Panicked { message, location } if location.is_empty() => {
                write!(f, "the guest panicked: {message}")
            }
            Self::Panicked { message, location } => {
                write!(f, "the guest panicked at {location}: {message}")
            }
            Self::Fault {
                reason,
                address,
                rip,
                symbol,
            } => {
                write!(f, "the guest faulted: {reason}")?;
                if let Some(address) = address {
                    write!(f, ", address {address:#x}")?;
                }
                if let Some(rip) = rip {
                    write!(f, ", at {rip:#x}")?;
                }
                symbol
                    .as_ref()
                    .map_or(Ok(()), |symbol| write!(f, " in {symbol}"))
            }
            Self::Device(reason) => write!(f, "a device refused to go on: {reason}"),
            Self::Kvm { reason } => write!(f, "KVM could not go on: {reason}"),
            Self::Monitor(reason) => write!(f, "the monitor failed this VM: {reason}"),
        }
    }
}

/// Why a wait ended without the phase that was waited for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The VM stopped first.
    #[error("the VM stopped while it was waited for: {0}")]
    Stopped(StopCause),
    /// The time was over first.
    #[error("the guest did not get there in time")]
    TimedOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_one_sentence() {
        let fault = StopCause::Fault {
            reason: "a page fault".into(),
            address: Some(0),
            rip: Some(0x20_1000),
            symbol: Some("splash::boot+0x10".into()),
        };
        assert_eq!(
            fault.to_string(),
            "the guest faulted: a page fault, address 0x0, at 0x201000 in splash::boot+0x10"
        );
        let panic = |location: &str| StopCause::Panicked {
            message: "out of memory".into(),
            location: location.into(),
        };
        assert_eq!(panic("").to_string(), "the guest panicked: out of memory");
        assert_eq!(
            panic("a.rs:1").to_string(),
            "the guest panicked at a.rs:1: out of memory"
        );
        assert_eq!(
            StopCause::Exited(3).to_string(),
            "the guest ended with exit code 3"
        );
    }
}
