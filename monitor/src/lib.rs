//! The machine on KVM: VMs and vCPUs and their life, exits, boot, devices' work, the host probe.
//!
//! A [`Machine`] owns one pmap and any number of VMs. Each vCPU is a thread; each VM's devices are
//! served by a few workers that all VMs share. The crate knows nothing of experiments, scanners or
//! policies; whatever saves memory happens in the crates below it, and never needs a vCPU stopped.
//!
//! A guest is hostile: whatever it does ends at most its own VM, with a [`StopCause`] that says why.
//! Unsafe code lives in `sys` alone.

mod boot;
mod devices;
mod error;
mod kvm;
mod latency;
pub mod limits;
pub mod linux;
mod machine;
mod platform;
pub mod probe;
mod sys;
pub mod uplink;
mod vcpu;
mod vm;

pub use boot::BootError;
pub use error::MonitorError;
pub use linux::{Boot, Equipment, InitramfsPart, LinuxBoot, LinuxError};
pub use machine::{ComponentCpu, Machine, MachineConfig};
pub use vm::{DiskConfig, StopCause, Vm, VmConfig, VmNetwork, VmState, WaitError};
