//! The emulated host: one command, run as on a machine whose KVM is a hardware one.
//!
//! QEMU emulates a processor with AMD SVM and nested paging in software; an ordinary Debian kernel
//! on it has a `/dev/kvm` that runs unmodified guests, on any machine and without privilege. This
//! machine's files are there as they are, under a layer that forgets what is written; only the
//! folders for results are written through. What the command prints comes out byte for byte, and
//! its exit code is ours.
//!
//! Nothing here knows what the command is: the program and its arguments are the caller's.

mod channels;
mod clock;
mod error;
mod initramfs;
mod interrupts;
mod job;
mod machine;
mod qemu;
mod relay;
mod session;
mod shares;
mod sys;

use std::path::{Path, PathBuf};

pub use error::HostError;
pub use interrupts::Interrupts;
pub use job::Job;
pub use machine::{LEAST_MEMORY, MOST_CORES, Machine};
pub use qemu::{PACKAGE, PROGRAM};
pub use relay::{Size, Stream, Streams};
pub use shares::check_visible;

/// An emulated machine, and what to run on it.
#[derive(Clone, Debug)]
pub struct EmulatedHost {
    /// The machine.
    pub machine: Machine,
    /// The command.
    pub job: Job,
    /// Where the packages of its kernel are kept.
    pub cache: PathBuf,
}

/// Starts the machine, runs the command on it and takes the machine down; the command's exit code.
///
/// Signals that `interrupts` has seen are passed on once, so that the command can end in good order;
/// the second ends the machine at once. QEMU does not outlive the calling *thread*, however that
/// ends. `progress` gets lines for people about the machine itself.
///
/// # Errors
/// The machine can't be had here, does not come up, dies under the command or stands still.
pub fn run(
    host: &EmulatedHost,
    streams: Streams,
    interrupts: &Interrupts,
    progress: &dyn Fn(&str),
) -> Result<u8, HostError> {
    host.machine.check()?;
    let program = qemu::find()?;
    let shares = shares::prepare(&host.job.writable)?;
    let setting = job::Setting::new(&host.machine, &streams);
    let system = match initramfs::build(&host.cache, progress) {
        // Ctrl-C reaches the downloading program too: that it failed is no news then.
        Err(error) => return Err(interrupts.take().map_or(error, HostError::Stopped)),
        Ok(system) => system,
    };
    if let Some(signal) = interrupts.take() {
        return Err(HostError::Stopped(signal));
    }
    let initramfs = sys::memory_file(&[
        &system.archive,
        &job::archive(&host.job, &setting, &shares)?,
    ])?;
    let sockets = channels::Sockets::new()?;
    let arguments = qemu::arguments(
        &host.machine,
        &qemu::Wiring {
            kernel: &system.kernel,
            initramfs: initramfs.path(),
            sockets: sockets.folder(),
            streams: streams.terminals(),
            shares: &shares,
        },
    );
    progress(&format!("emulated host: starting ({})", host.machine));
    let child = sys::spawn(&program, &arguments)?;
    let session = session::Session::connect(child, sockets, streams, &setting.mark)?;
    session.run(&host.machine, interrupts, progress)
}

/// Whether this process runs on an emulated host already.
#[must_use]
pub fn inside() -> bool {
    std::env::var_os(job::KIND).is_some_and(|kind| kind == job::EMULATED)
}

/// A path as one value of one of QEMU's comma-separated options.
fn option_value(path: &Path) -> std::ffi::OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = path.as_os_str().as_bytes();
    let doubled = bytes.iter().flat_map(|byte| match byte {
        b',' => vec![b',', b','],
        other => vec![*other],
    });
    std::ffi::OsString::from_vec(doubled.collect())
}
