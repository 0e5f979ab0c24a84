//! The thin guest's binary: what can exist only once, and only in a guest.
//!
//! See the library for everything else. This links against nothing: the entry point, the memory
//! routines that compiled code calls, the allocator and the panic handler are all here.
#![no_std]
#![no_main]

mod runtime;

use core::fmt::Write;
use core::panic::PanicInfo;
use mirrorball_splash::heap::Heap;
use mirrorball_splash::{boot, panic_exit, shared};

#[global_allocator]
static HEAP: Heap = Heap::new();

/// Every vCPU starts here, on its own boot stack.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text._start")]
extern "sysv64" fn _start(vcpu: u64) -> ! {
    boot::start(vcpu)
}

/// The first line is the place, as `file:line:column`; the message follows.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut message = shared::Message::default();
    if let Some(place) = info.location() {
        let _ = writeln!(message, "{place}");
    }
    let _ = write!(message, "{}", info.message());
    message.finish();
    panic_exit()
}
