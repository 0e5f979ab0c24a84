//! A VM's devices on its bus, and the worker threads that serve the devices of all VMs.

mod bus;
mod workers;

pub(crate) use bus::{Bus, Devices, Fitted};
pub(crate) use workers::{Registration, Workers};
