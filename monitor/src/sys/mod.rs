//! The crate's unsafe code: what neither `kvm-ioctls` nor `rustix` offers as a safe call.
//!
//! Nothing here decides anything; each function wraps one system interface and says why the wrap
//! is sound. The rest of the crate holds no unsafe code.

pub(crate) mod clock;
pub(crate) mod faults;
pub(crate) mod kick;
pub(crate) mod memory;
pub(crate) mod schedule;
pub(crate) mod tap;
