//! The devices as a guest's driver sees them: rings in a real address space, registers, doorbells.
//!
//! None of these tests needs KVM or privilege.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod balloon;
mod block;
mod console;
mod crash;
mod driver;
mod faults;
mod image;
mod lost;
mod malformed;
mod model;
mod net;
mod pairs;
mod resting;
mod rng;
mod rooms;
mod sectors;
mod segments;
mod sharing;
mod station;
mod transport;
mod vsock;
