//! What keeps a run from being watched.

use std::io;
use std::path::PathBuf;

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// No process of this user runs an experiment.
    #[error("no experiment is in progress; start one with: mirrorball run FILE")]
    NothingRuns,
    /// No process of this number does.
    #[error("process {wanted} runs no experiment; {running} does")]
    NotThat {
        /// The number that was asked for.
        wanted: u32,
        /// Numbers of those that do, joined by commas.
        running: String,
    },
    /// A socket or its folder can't be used.
    #[error("{path}: {error}")]
    Socket {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The folder for sockets is not this user's alone.
    #[error("{0} belongs to somebody else, or others may write to it; remove it")]
    Foreign(PathBuf),
    /// The run said something that is no message: it is of another version.
    #[error("the run speaks another version of the protocol: {0}")]
    Protocol(#[from] serde_json::Error),
    /// The address for metrics can't be listened on.
    #[error("metrics can't be served on {address}: {error}")]
    Metrics {
        /// The address as it was given.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The terminal can't be used.
    #[error("the terminal can't be used: {0}")]
    Terminal(io::Error),
}
