//! I/O ports: 32-bit writes (`out`), each of them one exit to the monitor.

/// Block this vCPU until it is woken (device completion, [`WAKE`], a new command, stop) or until the
/// written number of microseconds has passed (0: no limit). A wake that came before the wait is not
/// lost: it ends the next wait at once.
pub const WAIT: u16 = 0x500;
/// Wake the vCPUs whose bits are set in the written mask.
pub const WAKE: u16 = 0x504;
/// [`crate::Status::phase`] has changed; the monitor may look at once.
pub const PHASE: u16 = 0x508;
/// End this VM in good order; the value is its exit code.
pub const EXIT: u16 = 0x50c;
/// The guest has panicked; [`crate::Status::message`] says why and where.
pub const PANIC: u16 = 0x510;
