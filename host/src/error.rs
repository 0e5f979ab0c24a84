//! Why there was no emulated host, or none any more.

use std::io;
use std::path::{Path, PathBuf};

use mirrorball_debian::DebianError;

use crate::qemu::{PACKAGE, PROGRAM};

/// Why a command could not be run on an emulated host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// QEMU is not installed.
    #[error(
        "the emulated host needs QEMU: {PROGRAM} was not found\n  \
         install the package `{PACKAGE}` (Debian: apt-get install {PACKAGE})"
    )]
    NoQemu,
    /// The machine asked for makes no sense, or this one can't hold it.
    #[error("{0}")]
    Machine(String),
    /// The kernel of the emulated host can't be had.
    #[error("the emulated host's kernel: {0}")]
    Debian(#[from] DebianError),
    /// A path can't be carried in, or results can't be carried out of it.
    #[error("{path}: {reason}", path = .path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system refuses something.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it was refused.
        error: io::Error,
    },
    /// QEMU refused to start the machine.
    #[error("QEMU could not start the emulated host ({status}){}", indented(.said))]
    Refused {
        /// How it ended.
        status: String,
        /// What it said.
        said: String,
    },
    /// The machine did not get as far as the command.
    #[error("the emulated host did not come up: {reason}{}", last_lines(.console))]
    Boot {
        /// What happened.
        reason: String,
        /// The last lines of its console.
        console: String,
    },
    /// The machine ended under the command.
    #[error("the emulated host died while the command ran: {reason}{}", last_lines(.console))]
    Died {
        /// What happened.
        reason: String,
        /// The last lines of its console.
        console: String,
    },
    /// The clock that counts instructions hardly goes on.
    #[error(
        "the emulated host stands still: its clock, which counts instructions, has not gone on by a second \
         for minutes\n  QEMU gives a guest an interrupt twice now and then, and the guest waits for itself: \
         try again"
    )]
    StandsStill,
    /// The command itself could not be started there.
    #[error("the command could not be started on the emulated host (code {0}); see above")]
    Command(u8),
    /// A signal ended it before the command could end by itself; with its number.
    #[error("stopped: the emulated host was taken down at once")]
    Stopped(i32),
}

impl HostError {
    /// For `map_err`: the system refuses `what`.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what, error }
    }

    pub(crate) fn path(path: &Path, reason: impl ToString) -> Self {
        Self::Path {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

fn last_lines(tail: &str) -> String {
    if tail.is_empty() {
        "\n  its console is empty".to_owned()
    } else {
        format!("\n  the last lines of its console:{}", indented(tail))
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("\n    {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_install_and_what_the_console_said_are_told() {
        assert!(
            HostError::NoQemu
                .to_string()
                .contains("apt-get install qemu-system-x86")
        );
        let boot = |console: &str| HostError::Boot {
            reason: "no word within 120 s".into(),
            console: console.into(),
        };
        let text = boot("one\ntwo").to_string();
        assert!(text.ends_with("console:\n    one\n    two"), "{text}");
        assert!(boot("").to_string().ends_with("console is empty"));
    }
}
