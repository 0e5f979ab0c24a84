//! One VM: its parts and its life.
//!
//! Created, running, paused and back, stopped; stopped is final. Whoever holds the [`Vm`] decides
//! about its life; its threads hold only what serving exits needs. Ending one VM touches no other.

mod config;
pub(crate) mod control;
pub(crate) mod mailbox;
mod progress;
mod state;

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use kvm_ioctls::VcpuFd;
use mirrorball_abi::{Phase, Status, Workload};
use mirrorball_pmap::{AddressSpace, PpnRun, VmId};
use mirrorball_virtio::{Balloon, BlockDevice, BlockStats, NetDevice};
use parking_lot::Mutex;

use crate::MonitorError;
use crate::boot;
use crate::devices::{Devices, Registration};
use crate::sys::faults::FaultCounter;
use crate::sys::memory::GuestVm;
use crate::vcpu::gate::Order;
use crate::vcpu::{self, Guest, VcpuContext};
pub use config::{DiskConfig, VmConfig, VmNetwork};
use control::RunControl;
use progress::Progress;
pub use state::{StopCause, VmState, WaitError};

/// A virtual machine. Stopped when dropped.
pub struct Vm {
    name: String,
    context: Arc<VcpuContext>,
    devices: Devices,
    engine: Mutex<Engine>,
    /// Number of the last command.
    command: Mutex<u64>,
    /// Taken before `command`.
    progress: Mutex<Progress>,
}

/// What runs the VM; empty once it is stopped. Its lock is the VM's life cycle lock.
#[derive(Debug)]
pub(crate) struct Engine {
    /// vCPUs that have not yet started.
    pub(crate) vcpus: Vec<VcpuFd>,
    pub(crate) threads: Vec<JoinHandle<()>>,
    pub(crate) registrations: Vec<Registration>,
    /// One for each vCPU of a Linux guest, if KVM counts.
    pub(crate) faults: Vec<FaultCounter>,
    pub(crate) vm: Option<GuestVm>,
}

impl Vm {
    pub(crate) fn assemble(
        name: String,
        context: Arc<VcpuContext>,
        devices: Devices,
        engine: Engine,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            context,
            devices,
            engine: Mutex::new(engine),
            command: Mutex::new(0),
            progress: Mutex::default(),
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

    /// As [`Self::pause`], without waiting for the vCPUs to leave the guest: they do so at once, or in
    /// the middle of a wait for a page. True if the VM ran; false as well while somebody else starts,
    /// pauses, resumes or ends it, for whom this does not wait either.
    pub fn pause_soon(&self) -> bool {
        let Some(_life_cycle) = self.engine.try_lock() else {
            return false;
        };
        let ran = self.control().advance(&VmState::Running, VmState::Paused);
        if ran {
            self.control().order(Order::Pause);
        }
        ran
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
        // What others send from now on is for nobody, and what waits keeps their pages.
        for net in &self.devices.nets {
            net.port().set_link(false);
            net.port().clear();
        }
    }

    /// Ends the VM because the monitor can't serve it, with the reason. When this returns, no vCPU
    /// runs the guest any more; its devices may see zeros where a page can't be had.
    pub fn fail(&self, reason: String) {
        self.control().stop(StopCause::Monitor(reason));
        self.control().await_quiet();
        self.space().abandon();
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
        if matches!(self.context.guest, Guest::Thin(_)) {
            let mut progress = self.progress.lock();
            progress.look(self.space(), || *self.command.lock());
        }
        mailbox::read_status(self.space())
    }

    /// How a thin guest's status was found to have gone back, at any [`Self::status`] so far: a page of
    /// its memory does not hold what the guest wrote there, unless the guest did that itself.
    #[must_use]
    pub fn went_back(&self) -> Option<String> {
        self.progress.lock().back().map(str::to_owned)
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

    /// Whether no vCPU runs until something from outside, or a time of its own, lets it go on. A thin
    /// guest that is done changes its memory until then: it says so before it goes to rest.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.control().rests()
    }

    /// Waits until the VM has stopped by itself, and tells why.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] after `timeout`.
    pub fn wait_stopped(&self, timeout: Duration) -> Result<StopCause, WaitError> {
        match self.control().wait_until(timeout, || false) {
            Err(WaitError::Stopped(cause)) => Ok(cause),
            Err(error) => Err(error),
            Ok(()) => unreachable!("a condition that never holds"),
        }
    }

    /// The lines that the guest has written to its control channel since the last call, on whichever
    /// of the two it uses.
    #[must_use = "a line is given once"]
    pub fn control_read(&self) -> Vec<String> {
        let Devices { control, vsock, .. } = &self.devices;
        let printed = control.iter().flat_map(|console| console.take_lines());
        let said = vsock.iter().flat_map(|socket| socket.take_lines());
        printed.chain(said).collect()
    }

    /// Waits for lines on the control channel and takes them.
    ///
    /// # Errors
    /// [`WaitError::Stopped`] when the VM stopped and said nothing more, [`WaitError::TimedOut`]
    /// after `timeout`.
    pub fn control_wait(&self, timeout: Duration) -> Result<Vec<String>, WaitError> {
        let mut lines = Vec::new();
        self.control().wait_until(timeout, || {
            lines = self.control_read();
            !lines.is_empty()
        })?;
        Ok(lines)
    }

    /// Writes a line to the control channel, to the socket if the guest is connected to it, to the
    /// console otherwise; the guest may read it when it likes. A guest that has let 64 KiB lie unread
    /// gets no more, which is logged.
    pub fn control_write(&self, line: &str) {
        let line = format!("{line}\n").into_bytes();
        let Devices { control, vsock, .. } = &self.devices;
        let socket = vsock.as_ref().filter(|socket| socket.connected());
        let sent = match (socket, control) {
            (Some(socket), _) => socket.send(&line).map_err(|error| error.to_string()),
            (None, Some(console)) => console.send(&line).map_err(|error| error.to_string()),
            (None, None) => Ok(()),
        };
        if let Err(error) = sent {
            tracing::warn!(vm = self.name, error, "control channel");
        }
    }

    /// Whether the guest is connected to the control port of its socket device.
    #[must_use]
    pub fn control_connected(&self) -> bool {
        let socket = self.devices.vsock.as_ref();
        socket.is_some_and(|socket| socket.connected())
    }

    /// Its balloon, if it has one.
    #[must_use]
    pub fn balloon(&self) -> Option<&Arc<Balloon>> {
        self.devices.balloon.as_ref()
    }

    pub(crate) fn cpu_time(&self) -> Duration {
        self.control().cpu_time()
    }

    /// CPU time of its vCPUs in seconds, guest mode and exits.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        self.cpu_time().as_secs_f64()
    }

    /// The last output of its console, of a Linux guest on its serial port; empty without one.
    #[must_use]
    pub fn console_tail(&self) -> String {
        if let Guest::Linux(ports) = &self.context.guest {
            return ports.serial().tail();
        }
        self.devices
            .console
            .as_ref()
            .map_or_else(String::new, |console| console.tail())
    }

    /// What was printed there since `seen` bytes had been, as far as it is kept, and the bytes
    /// printed so far: the next call's `seen`.
    #[must_use]
    pub fn console_since(&self, seen: u64) -> (Vec<u8>, u64) {
        if let Guest::Linux(ports) = &self.context.guest {
            return ports.serial().since(seen);
        }
        let console = self.devices.console.as_ref();
        console.map_or((Vec::new(), seen), |console| console.since(seen))
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

    /// Its network devices, in order.
    #[must_use]
    pub fn nets(&self) -> &[Arc<NetDevice>] {
        &self.devices.nets
    }

    /// The pages of a thin guest that it never writes: code, constants and page tables; `None` of other
    /// guests.
    #[must_use]
    pub fn text(&self) -> Option<Vec<PpnRun>> {
        match &self.context.guest {
            Guest::Thin(elf) => boot::text(elf).ok(),
            Guest::Linux(_) => None,
        }
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

    /// Page faults that a Linux guest's vCPUs took at pages that KVM had no translation of, from its
    /// start on; `None` if KVM does not tell, or the VM is stopped.
    #[must_use]
    pub fn guest_faults(&self) -> Option<u64> {
        let engine = self.engine.lock();
        if engine.faults.is_empty() {
            return None;
        }
        engine.faults.iter().map(|one| one.read().ok()).sum()
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
        self.faults.clear();
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
