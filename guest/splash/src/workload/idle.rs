//! Nothing, at no cost: the vCPUs wait in the monitor until told to stop.

use crate::sched;
use crate::shared;
use alloc::string::String;

pub(super) fn run() -> Result<(), String> {
    sched::block_until(shared::stop_requested);
    Ok(())
}
