//! Why a Linux guest can't be started.

use std::io;
use std::path::PathBuf;

use mirrorball_pmap::PmapError;

/// Why a Linux guest can't be started. Each is one sentence that says what would help.
#[derive(Debug, thiserror::Error)]
pub enum LinuxError {
    /// The host's KVM runs no kernels.
    #[error(
        "a Linux guest can't boot on this host's KVM ({0}): use the emulated host, or a host whose \
         processor has svm or vmx"
    )]
    SoftwareKvm(String),
    /// A file can't be read.
    #[error("{what} {} can't be read: {source}", .path.display())]
    Unreadable {
        /// The file's part.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel's file is something else.
    #[error(
        "{} is not a kernel that can be booted: {reason} (a bzImage, or an ELF with a PVH entry, is)",
        .path.display()
    )]
    NotAKernel {
        /// Which file.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// A kernel for other processors.
    #[error("{} is a kernel for {found}; guests are x86-64", .path.display())]
    WrongArchitecture {
        /// Which file.
        path: PathBuf,
        /// What it is for.
        found: String,
    },
    /// A file ends before it should.
    #[error("{what} {} is truncated: {reason}", .path.display())]
    Truncated {
        /// The file's part.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// How much is missing of what.
        reason: String,
    },
    /// An initramfs that the kernel would not unpack.
    #[error("{} is not an initramfs: {reason}", .path.display())]
    NotAnInitramfs {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Kernel and initramfs do not fit.
    #[error(
        "{memory} MiB of memory are too little for {}: at least {least} MiB are needed with this \
         initramfs", .kernel.display()
    )]
    TooLittleMemory {
        /// The kernel.
        kernel: PathBuf,
        /// What the VM has, MiB.
        memory: u64,
        /// The least that works, MiB.
        least: u64,
    },
    /// The kernel would cut the command line off.
    #[error("the command line has {length} bytes; this kernel takes {most}")]
    CommandLine {
        /// Bytes asked for.
        length: usize,
        /// Bytes that the kernel takes.
        most: usize,
    },
    /// The console's log can't be written.
    #[error("the console's log {} can't be written: {source}", .path.display())]
    ConsoleLog {
        /// Which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No frames for kernel or initramfs.
    #[error("kernel and initramfs could not be put into frames: {0}")]
    Frames(#[from] PmapError),
    /// Guest memory refused a write.
    #[error("guest memory could not be filled: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

impl LinuxError {
    /// Whether no host could start such a guest: the remedy is to ask for something else.
    #[must_use]
    pub const fn is_of_the_request(&self) -> bool {
        match self {
            Self::NotAKernel { .. }
            | Self::WrongArchitecture { .. }
            | Self::Truncated { .. }
            | Self::NotAnInitramfs { .. }
            | Self::TooLittleMemory { .. }
            | Self::CommandLine { .. } => true,
            Self::SoftwareKvm(_)
            | Self::Unreadable { .. }
            | Self::ConsoleLog { .. }
            | Self::Frames(_)
            | Self::Memory(_) => false,
        }
    }
}
