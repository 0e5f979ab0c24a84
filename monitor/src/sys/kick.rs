//! Getting a vCPU out of guest mode: a real-time signal and `kvm_run.immediate_exit`.
//!
//! The signal alone is not enough: it may arrive after the thread has looked for orders and before
//! it is in `KVM_RUN`. The handler therefore sets `immediate_exit` of the thread's own `kvm_run`,
//! and the coming `KVM_RUN` returns at once with `EINTR` (KVM API documentation, section 5).

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

thread_local! {
    /// `immediate_exit` of the vCPU that this thread runs; null when it runs none.
    static IMMEDIATE_EXIT: Cell<*const AtomicU8> = const { Cell::new(ptr::null()) };
}

extern "C" fn on_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let flag = IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: not null only while the `KickableVcpu` that set it is alive on this thread, and
        // that one keeps the mapping of `kvm_run` alive. A byte store is async-signal-safe.
        unsafe { (*flag).store(1, Ordering::Relaxed) };
    }
}

fn signal_number() -> libc::c_int {
    SIGRTMIN() + 3
}

/// Installs the kick signal's handler, once for the process.
pub(crate) fn install_handler() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    INSTALLED
        .get_or_init(|| register_signal_handler(signal_number(), on_kick).map_err(|e| e.errno()))
        .map_err(io::Error::from_raw_os_error)
}

/// A vCPU bound to the calling thread, which kicks can reach from now on.
#[derive(Debug)]
pub(crate) struct KickableVcpu {
    fd: VcpuFd,
    /// The thread-local pointer belongs to this thread, so must this value.
    not_send: PhantomData<*const ()>,
}

impl KickableVcpu {
    pub(crate) fn new(mut fd: VcpuFd) -> Self {
        let flag = (&raw mut fd.get_kvm_run().immediate_exit)
            .cast_const()
            .cast::<AtomicU8>();
        IMMEDIATE_EXIT.set(flag);
        Self {
            fd,
            not_send: PhantomData,
        }
    }

    pub(crate) fn fd(&mut self) -> &mut VcpuFd {
        &mut self.fd
    }

    /// Forgets earlier kicks. To be followed by a look at the orders, never the other way round.
    pub(crate) fn clear_kick(&mut self) {
        self.fd.set_kvm_immediate_exit(0);
    }

    /// The kernel's reason of `KVM_EXIT_INTERNAL_ERROR`.
    pub(crate) fn internal_error(&mut self) -> u32 {
        // SAFETY: every bit pattern is a valid `u32`, whatever member of the union was written last.
        unsafe { self.fd.get_kvm_run().__bindgen_anon_1.internal.suberror }
    }
}

impl Drop for KickableVcpu {
    fn drop(&mut self) {
        IMMEDIATE_EXIT.set(ptr::null());
    }
}

/// A thread of this process that can be kicked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KickTarget(libc::pid_t);

impl KickTarget {
    /// The calling thread.
    pub(crate) fn current() -> Self {
        Self(rustix::thread::gettid().as_raw_nonzero().get())
    }

    /// Sends the kick signal; a thread that has ended is no error.
    pub(crate) fn kick(self) {
        let process = rustix::process::getpid().as_raw_nonzero().get();
        // SAFETY: tgkill takes plain numbers and only reaches threads of this process; the handler
        // of the signal was installed before any vCPU thread started.
        unsafe { libc::tgkill(process, self.0, signal_number()) };
    }
}
