//! One thread per vCPU: enter the guest, serve the exit, look for orders, again.
//!
//! The thread holds what an exit needs (gates, devices, memory), never the VM itself, so a VM ends
//! when its owner ends it.

mod exits;
mod fault;
pub(crate) mod gate;
mod setup;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use kvm_bindings::kvm_regs;
use kvm_ioctls::VcpuFd;
use mirrorball_pmap::AddressSpace;

use crate::devices::Bus;
use crate::latency::Latency;
use crate::linux::Ports;
use crate::sys::kick::KickableVcpu;
use crate::vm::StopCause;
use crate::vm::control::RunControl;
use exits::{Exit, Served};
use gate::Presence;
pub(crate) use setup::{Start, set_registers};

/// The thread calls a few functions deep and keeps nothing large.
const STACK: usize = 256 << 10;

/// Retries of one instruction whose page the host denies, before the VM is stopped.
const MOST_RETRIES: u32 = 2_000;

/// What all vCPUs of a VM share.
#[derive(Debug)]
pub(crate) struct VcpuContext {
    pub(crate) control: Arc<RunControl>,
    pub(crate) bus: Bus,
    pub(crate) space: Arc<AddressSpace>,
    pub(crate) guest: Guest,
    /// Time from an exit to the next entry.
    pub(crate) exit_latency: Latency,
    /// Time from a kick to its arrival.
    pub(crate) kick_latency: Latency,
}

/// What kind of guest the vCPUs run.
#[derive(Debug)]
pub(crate) enum Guest {
    /// A thin guest, with its ELF for the names of its functions.
    Thin(Arc<[u8]>),
    /// A Linux kernel on a PC's ports.
    Linux(Ports),
}

impl Guest {
    /// The ELF in which functions can be looked up; empty when there is none.
    fn symbols(&self) -> &[u8] {
        match self {
            Self::Thin(elf) => elf,
            Self::Linux(_) => &[],
        }
    }
}

/// Starts the thread of a vCPU.
pub(crate) fn spawn(
    context: Arc<VcpuContext>,
    index: usize,
    fd: VcpuFd,
) -> io::Result<JoinHandle<()>> {
    let name = format!("vm{}-vcpu{index}", context.space.vm());
    thread::Builder::new()
        .name(name)
        .stack_size(STACK)
        .spawn(move || {
            let failsafe = Failsafe(&context.control);
            run(&context, index, fd);
            drop(failsafe);
        })
}

/// Ends the VM should its vCPU's thread panic: never half a guest.
#[derive(Debug)]
struct Failsafe<'a>(&'a RunControl);

impl Drop for Failsafe<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0
                .stop(StopCause::Monitor("a vCPU thread panicked".into()));
        }
    }
}

fn run(context: &VcpuContext, index: usize, fd: VcpuFd) {
    let Some(gate) = context.control.gates().get(index) else {
        return;
    };
    let mut vcpu = KickableVcpu::new(fd);
    let presence = gate.enter();
    let mut stuck = Stuck::default();
    loop {
        // A kick between these two lines makes the next KVM_RUN return at once: none is lost.
        vcpu.clear_kick();
        if !presence.checkpoint(|latency| context.kick_latency.record(latency)) {
            return;
        }
        if let Err(cause) = step(context, &mut vcpu, &presence, &mut stuck) {
            context.control.stop(cause);
            return;
        }
    }
}

/// Runs the guest up to its next exit and serves that.
fn step(
    context: &VcpuContext,
    vcpu: &mut KickableVcpu,
    presence: &Presence<'_>,
    stuck: &mut Stuck,
) -> Result<(), StopCause> {
    let inside = context.space.enter_guest();
    let result = vcpu.fd().run();
    drop(inside);
    let began = Instant::now();
    let exit = match result {
        Ok(exit) => exits::serve(context, presence, exit),
        Err(error) => match error.errno() {
            libc::EINTR | libc::EAGAIN => Exit::Served(Served::Unmeasured),
            libc::EFAULT => Exit::Denied,
            _ => return Err(fault::run_failed(vcpu.fd(), context.guest.symbols(), error)),
        },
    };
    match exit {
        Exit::Served(served) => {
            if served == Served::Measured {
                context.exit_latency.record(began.elapsed());
            }
            Ok(())
        }
        Exit::Denied => {
            context.space.wait_for_fence();
            let retries = stuck.again(vcpu.fd());
            if retries > MOST_RETRIES {
                let symbols = context.guest.symbols();
                return Err(fault::no_progress(vcpu.fd(), symbols, retries));
            }
            context.exit_latency.record(began.elapsed());
            Ok(())
        }
        Exit::Shutdown => Err(fault::shutdown(vcpu.fd(), &context.guest)),
        Exit::InternalError => {
            let suberror = vcpu.internal_error();
            Err(fault::internal_error(vcpu.fd(), &context.guest, suberror))
        }
        Exit::End(cause) => Err(cause),
    }
}

/// Counts how often the same instruction was denied its page with nothing done in between.
#[derive(Debug, Default)]
struct Stuck {
    registers: kvm_regs,
    retries: u32,
}

impl Stuck {
    /// One more denial. Equal registers mean that the guest has not got on: even a repeated string
    /// instruction changes them.
    fn again(&mut self, fd: &VcpuFd) -> u32 {
        let registers = fd.get_regs().unwrap_or_default();
        if registers == self.registers {
            self.retries += 1;
            // A fence that opens and closes again at once would else use up the retries in no time.
            thread::sleep(std::time::Duration::from_micros(u64::from(
                self.retries.min(500),
            )));
        } else {
            *self = Self {
                registers,
                retries: 0,
            };
        }
        self.retries
    }
}
