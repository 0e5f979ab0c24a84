//! Port writes and the time stamp counter: the guest's only ways out and its only clock.

use core::arch::asm;
use mirrorball_abi::port;

/// Writes `value` to an I/O port of the monitor. Allowed at CPL 3 by the I/O bitmap of
/// the task state segment (`layout::TASK_STATE`).
fn out(port: u16, value: u32) {
    // SAFETY: the monitor's ports change no memory the compiler knows of beyond what other vCPUs
    // or devices may change anyway; the asm is a compiler barrier since it does not say `nomem`.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags));
    }
}

/// Blocks this vCPU until it is woken or `microseconds` have passed (0: no limit).
pub fn wait(microseconds: u32) {
    out(port::WAIT, microseconds);
}

/// Wakes the vCPUs in `mask`.
pub fn wake(mask: u32) {
    out(port::WAKE, mask);
}

/// Tells the monitor that the phase in the status page has changed.
pub fn phase_changed() {
    out(port::PHASE, 0);
}

/// Ends this VM after a panic whose message is in the status page.
pub fn panic_exit() -> ! {
    out(port::PANIC, 0);
    loop {
        wait(0);
    }
}

/// The time stamp counter.
pub fn ticks() -> u64 {
    // SAFETY: RDTSC has no effect on memory and is allowed at CPL 3 (CR4.TSD is clear).
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The time stamp counter, read after everything before is done and before anything after starts.
pub fn ticks_in_order() -> u64 {
    use core::arch::x86_64::{_mm_lfence, _mm_mfence};
    // SAFETY: fences change no memory; SSE2 is part of x86-64.
    unsafe {
        _mm_mfence();
        _mm_lfence();
    }
    let now = ticks();
    // SAFETY: as above.
    unsafe { _mm_lfence() };
    now
}
