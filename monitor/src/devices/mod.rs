//! A VM's devices on its bus, and the worker threads that serve the devices of all VMs.

mod bus;
mod fitting;
mod mapper;
mod workers;

pub(crate) use bus::Bus;
pub(crate) use fitting::{Devices, Fitted, Given, MOST_PC_DEVICES};
pub(crate) use mapper::Mapper;
pub(crate) use workers::{Registration, Workers};
