//! The thin guest operating system: a library OS for one address space, one command at a time.
//!
//! It exists so that thousands of guests can be started in a second on any KVM, with memory
//! behaviour that is real: a buffer cache on a real file system competes with anonymous memory,
//! as in Disco's SPLASHOS (Disco, section 5.3). Everything here runs at CPL 3 on identity-mapped
//! memory without interrupts; what waits, waits in a port write.
//!
//! The library holds all logic, so that it can be tested on the host; the binary adds what only
//! exists once in a guest: the entry point, the allocator and the panic handler.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod balloon;
pub mod boot;
mod cache;
mod console;
mod context;
mod disk;
#[cfg(test)]
mod fake;
mod fs;
mod hal;
mod hash;
pub mod heap;
mod ip;
mod lru;
mod lz;
mod memory;
mod net;
mod objects;
mod pages;
mod pattern;
mod port;
mod sched;
pub mod shared;
mod sync;
mod workload;

pub use port::panic_exit;
