//! Why an experiment could not be run to its end, and what that means for the runs that are left.

use mirrorball_debian::DebianError;
use mirrorball_dedup::ksm::KsmUnavailable;
use mirrorball_monitor::uplink::UplinkError;
use mirrorball_monitor::{LinuxError, MonitorError};

use super::resume::ResumeError;
use crate::exit;
use crate::image::ImageError;
use crate::output::OutputError;

/// Why an experiment could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The host lacks something.
    #[error("{finding}\n  {remedy}")]
    Host {
        /// What was found.
        finding: String,
        /// What to do.
        remedy: String,
    },
    /// KVM here can't run the guests that the experiment asks for; an emulated host can.
    #[error(
        "{finding}\n  {remedy}\n  or add `--host emulated`: it runs the same on any machine with QEMU, \
         more slowly"
    )]
    Kvm {
        /// What was found.
        finding: String,
        /// What to do.
        remedy: String,
    },
    /// A cell that the experiment does not have was asked for.
    #[error("there is no cell `{0}`; this experiment has {1}")]
    NoCell(String, String),
    /// The console of a VM that the experiment does not have was asked for.
    #[error("there is no VM `{0}`; this experiment has {1}")]
    NoVm(String, String),
    /// What was begun can't be resumed.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// The monitor can't go on.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// The host can't give what a guest needs.
    #[error("{name} could not be started: {cause}")]
    Guest {
        /// The VM.
        name: String,
        /// Why.
        #[source]
        cause: MonitorError,
    },
    /// KSM can't be used.
    #[error(transparent)]
    Ksm(#[from] KsmUnavailable),
    /// Guest memory can't be given to KSM.
    #[error("guest memory could not be given to KSM: {0}")]
    Mergeable(std::io::Error),
    /// There is no disk image.
    #[error("the image could not be made: {0}")]
    Image(#[from] ImageError),
    /// There is nothing for a Linux guest to boot.
    #[error("what the Linux guests boot could not be made: {0}")]
    Debian(#[from] DebianError),
    /// Linux guests can't boot what they are to boot.
    #[error("guests `{group}`: {cause}")]
    Linux {
        /// The group.
        group: String,
        /// Why.
        #[source]
        cause: LinuxError,
    },
    /// The experiment names an image that was not prepared.
    #[error("there is no image `{0}`")]
    NoImage(String),
    /// A guest names a network that the experiment does not have.
    #[error("there is no network `{0}`")]
    NoNetwork(String),
    /// A capture's file can't be made.
    #[error("a capture could not be begun: {0}")]
    Capture(std::io::Error),
    /// A network can't be connected to the host's.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    /// There is no place for persistent disks or consoles.
    #[error("the folder of the guests' disks or consoles could not be made: {0}")]
    DiskFolder(std::io::Error),
    /// Results can't be written.
    #[error("results could not be written: {0}")]
    Output(#[from] OutputError),
    /// Guests use more machine memory than the experiment allows.
    #[error("guests use {used} bytes of machine memory; `machine.memory` allows {budget}")]
    Budget {
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        budget: u64,
    },
    /// There is no swap for the memory policy.
    #[error(
        "there is no swap for the memory policy: {reason}\n  \
         write `swap: off` in `policy`, or see `mirrorball doctor`"
    )]
    Swap {
        /// What is missing.
        reason: String,
    },
    /// The user wanted an end before there was a run; with the exit code of the signal.
    #[error("stopped before the first run; nothing was written")]
    Stopped(u8),
    /// The figures can't be served as they were to be.
    #[error(transparent)]
    Metrics(#[from] mirrorball_live::LiveError),
    /// There is no thread or signal handler to be had.
    #[error("the system gave no thread: {0}")]
    Thread(std::io::Error),
}

impl RunError {
    /// Whether other runs of the experiment may still go well.
    pub(super) const fn is_of_one_run(&self) -> bool {
        matches!(
            self,
            Self::Budget { .. } | Self::Ksm(_) | Self::Mergeable(_)
        )
    }

    /// The class of failure that it makes of a run.
    pub(super) const fn class(&self) -> &'static str {
        match self {
            // It can be run, only not now: a planned run that was not done is a failure.
            Self::Ksm(KsmUnavailable::InUse(_)) => "in-use",
            Self::Ksm(_) => "not-supported",
            Self::Budget { .. } => "memory",
            _ => "host",
        }
    }

    /// The exit code that it ends the program with.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Stopped(code) => *code,
            Self::NoCell(..) | Self::NoVm(..) => exit::USAGE,
            Self::Debian(error) if error.is_of_the_request() => exit::INVALID,
            Self::Linux { cause, .. } if cause.is_of_the_request() => exit::INVALID,
            Self::Resume(error) => error.exit_code(),
            Self::NoImage(_) | Self::NoNetwork(_) => exit::INTERNAL,
            Self::Monitor(MonitorError::Disk(_))
            | Self::Guest {
                cause: MonitorError::Disk(_),
                ..
            }
            | Self::Budget { .. } => exit::RUN_FAILED,
            _ => exit::HOST,
        }
    }
}
