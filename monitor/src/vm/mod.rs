//! One VM: its parts and its life.
//!
//! Created, running, paused and back, stopped; stopped is final. Whoever holds the [`Vm`] decides
//! about its life; its threads hold only what serving exits needs. Ending one VM touches no other.

pub(crate) mod control;
pub(crate) mod mailbox;
mod state;

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use kvm_ioctls::VcpuFd;
use mirrorball_abi::{MAX_DEVICES, MAX_VCPUS, Phase, Status, Workload, layout};
use mirrorball_pmap::{AddressSpace, GroupId, VmId};
use mirrorball_virtio::{BaseImage, BlockDevice, BlockStats, OverlayMode};
use parking_lot::Mutex;

use crate::MonitorError;
use crate::devices::{Devices, Registration};
use crate::sys::memory::GuestVm;
use crate::vcpu::gate::Order;
use crate::vcpu::{self, VcpuContext};
use control::RunControl;
pub use state::{StopCause, VmState, WaitError};

/// What a VM shall be like.
#[derive(Clone, Debug)]
pub struct VmConfig {
    /// For messages.
    pub name: String,
    /// Sharing group (security domain): pages are shared inside it only.
    pub group: GroupId,
    /// Guest-physical memory in bytes, a multiple of the page size.
    pub memory: u64,
    /// Number of vCPUs, from 1 to [`MAX_VCPUS`].
    pub vcpus: u32,
    /// Its disks, in the order in which the guest finds them.
    pub disks: Vec<DiskConfig>,
    /// Whether it has a console.
    pub console: bool,
}

/// One disk of a VM.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// What it holds at first.
    pub image: Arc<BaseImage>,
    /// Where the guest's writes go.
    pub mode: OverlayMode,
    /// Bytes of empty space after the image.
    pub scratch: u64,
}

impl VmConfig {
    /// Says what a thin guest can't be.
    pub(crate) fn check(&self) -> Result<(), MonitorError> {
        let refuse = |reason: String| Err(MonitorError::Config(reason));
        if !(layout::MIN_MEMORY..=layout::MAX_MEMORY).contains(&self.memory) {
            return refuse(format!(
                "{} bytes of memory; from {} to {} are possible",
                self.memory,
                layout::MIN_MEMORY,
                layout::MAX_MEMORY
            ));
        }
        if !self.memory.is_multiple_of(layout::PAGE_SIZE as u64) {
            return refuse(format!(
                "{} bytes of memory are not whole pages",
                self.memory
            ));
        }
        if self.vcpus == 0 || self.vcpus as usize > MAX_VCPUS {
            return refuse(format!(
                "{} vCPUs; from 1 to {MAX_VCPUS} are possible",
                self.vcpus
            ));
        }
        let devices = self.disks.len() + usize::from(self.console);
        if devices > MAX_DEVICES {
            return refuse(format!(
                "{devices} devices; at most {MAX_DEVICES} are possible"
            ));
        }
        Ok(())
    }
}

/// A virtual machine. Stopped when dropped.
pub struct Vm {
    name: String,
    context: Arc<VcpuContext>,
    devices: Devices,
    engine: Mutex<Engine>,
    /// Number of the last command.
    command: Mutex<u64>,
}

/// What runs the VM; empty once it is stopped. Its lock is the VM's life cycle lock.
#[derive(Debug)]
pub(crate) struct Engine {
    /// vCPUs that have not yet started.
    pub(crate) vcpus: Vec<VcpuFd>,
    pub(crate) threads: Vec<JoinHandle<()>>,
    pub(crate) registrations: Vec<Registration>,
    pub(crate) vm: Option<GuestVm>,
}

impl Vm {
    pub(crate) fn assemble(
        name: String,
        context: Arc<VcpuContext>,
        devices: Devices,
        engine: Engine,
    ) -> Arc<Self> {
        let (engine, command) = (Mutex::new(engine), Mutex::new(0));
        Arc::new(Self {
            name,
            context,
            devices,
            engine,
            command,
        })
    }

    fn control(&self) -> &RunControl {
        &self.context.control
    }

    /// Its number, unique in the machine's life.
    #[must_use]
    pub fn id(&self) -> VmId {
        self.context.space.vm()
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its memory.
    #[must_use]
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.context.space
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> VmState {
        self.control().state()
    }

    /// Starts the vCPUs of a VM that has just been created; a VM in another state stays as it is.
    ///
    /// # Errors
    /// A thread could not be made; the VM is stopped then.
    pub fn start(&self) -> Result<(), MonitorError> {
        let mut engine = self.engine.lock();
        if !self.control().advance(&VmState::Created, VmState::Running) {
            return Ok(());
        }
        let vcpus = std::mem::take(&mut engine.vcpus);
        for (index, fd) in vcpus.into_iter().enumerate() {
            match vcpu::spawn(self.context.clone(), index, fd) {
                Ok(thread) => engine.threads.push(thread),
                Err(source) => {
                    let error = MonitorError::Os {
                        what: "start a vCPU's thread",
                        source,
                    };
                    self.control().stop(StopCause::Monitor(error.to_string()));
                    engine.end();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Holds a running VM: when this returns, no vCPU is in guest mode until [`Self::resume`].
    /// What its devices have begun they finish.
    pub fn pause(&self) {
        let _life_cycle = self.engine.lock();
        if self.control().advance(&VmState::Running, VmState::Paused) {
            self.control().order(Order::Pause);
            self.control().await_quiet();
        }
    }

    /// Lets a paused VM run on.
    pub fn resume(&self) {
        let _life_cycle = self.engine.lock();
        if self.control().advance(&VmState::Paused, VmState::Running) {
            self.control().order(Order::Run);
        }
    }

    /// Ends the VM whatever it does: when this returns, its threads are gone and no device touches
    /// its memory. A VM that has already stopped keeps its cause.
    pub fn stop(&self) {
        self.control().stop(StopCause::Requested);
        self.engine.lock().end();
    }

    /// Gives the guest its next command and returns the command's number.
    pub fn command(&self, workload: &Workload) -> u64 {
        let mut number = self.command.lock();
        *number += 1;
        if let Err(error) = mailbox::write_command(&self.space().access(), *number, workload) {
            self.control().stop(StopCause::Monitor(error.to_string()));
        }
        self.control().wake_all();
        *number
    }

    /// Asks the guest to end its workload early.
    pub fn request_stop(&self) {
        if let Err(error) = mailbox::write_stop(&self.space().access()) {
            self.control().stop(StopCause::Monitor(error.to_string()));
        }
        self.control().wake_all();
    }

    /// What the guest says of itself. It may say anything.
    #[must_use]
    pub fn status(&self) -> Status {
        mailbox::read_status(self.space())
    }

    /// Waits until the guest has reached a phase of a command (0: before the first), or is past it.
    ///
    /// # Errors
    /// [`WaitError::Stopped`] when the VM stopped before, [`WaitError::TimedOut`] after `timeout`.
    pub fn wait_until(
        &self,
        phase: Phase,
        command: u64,
        timeout: Duration,
    ) -> Result<(), WaitError> {
        let reached = || mailbox::has_reached(self.space(), phase, command);
        self.control().wait_until(timeout, reached)
    }

    pub(crate) fn cpu_time(&self) -> Duration {
        self.control().cpu_time()
    }

    /// CPU time of its vCPUs in seconds, guest mode and exits.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        self.cpu_time().as_secs_f64()
    }

    /// The last output of its console; empty without one.
    #[must_use]
    pub fn console_tail(&self) -> String {
        self.devices
            .console
            .as_ref()
            .map_or_else(String::new, |console| console.tail())
    }

    /// What its disks did, in order.
    #[must_use]
    pub fn block_stats(&self) -> Vec<BlockStats> {
        self.devices
            .blocks
            .iter()
            .map(|block| block.stats())
            .collect()
    }

    /// Its disks.
    #[must_use]
    pub fn blocks(&self) -> &[Arc<BlockDevice>] {
        &self.devices.blocks
    }

    /// How long sharing held its writers, in nanoseconds.
    #[must_use]
    pub fn holds(&self) -> Histogram<u64> {
        self.space().holds()
    }

    /// Time from an exit to the next entry in nanoseconds, the guest's own waiting excluded.
    #[must_use]
    pub fn exit_times(&self) -> Histogram<u64> {
        self.context.exit_latency.snapshot()
    }

    /// Time from a kick until the vCPU was out of the guest, in nanoseconds.
    #[must_use]
    pub fn kick_times(&self) -> Histogram<u64> {
        self.context.kick_latency.snapshot()
    }
}

impl Engine {
    /// Waits for the threads of a VM that was told to stop, and gives up everything else.
    fn end(&mut self) {
        for thread in self.threads.drain(..) {
            // A vCPU thread that panicked has already stopped its VM with that cause.
            let _ = thread.join();
        }
        self.registrations.clear();
        self.vcpus.clear();
        self.vm = None;
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Vm")
            .field("id", &self.id())
            .field("name", &self.name)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_vms_are_refused_with_the_reason() {
        let good = VmConfig {
            name: "a".into(),
            group: GroupId(0),
            memory: 64 << 20,
            vcpus: 1,
            disks: Vec::new(),
            console: true,
        };
        assert!(good.check().is_ok());
        let refused = |change: &dyn Fn(&mut VmConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(refused(&|config| config.memory = 0).contains("memory"));
        assert!(refused(&|config| config.memory = 8 << 30).contains("memory"));
        assert!(refused(&|config| config.memory += 1).contains("whole pages"));
        assert!(refused(&|config| config.vcpus = 0).contains("0 vCPUs"));
        assert!(refused(&|config| config.vcpus = 17).contains("17 vCPUs"));
    }
}
