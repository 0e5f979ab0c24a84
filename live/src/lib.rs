//! A run in progress, seen from outside.
//!
//! The process that runs an experiment offers a socket ([`Server`]) on which it tells how it goes,
//! as [`Snapshot`]s, and takes a few [`Request`]s. [`Client`] finds that socket, [`view`] shows what
//! comes out of it on a terminal, and [`metrics`] has the same figures for Prometheus.
//!
//! Nothing here knows the monitor: who runs the experiment makes the snapshots and does what is
//! requested.

mod client;
mod error;
pub mod metrics;
mod place;
mod protocol;
mod server;
pub mod view;

pub use client::{Client, Messages};
pub use error::LiveError;
pub use place::{Place, in_progress};
pub use protocol::{Message, Request, Snapshot, Switch, Switches, VmView};
pub use server::{Desk, Server};
