//! Switching between stacks: the one place that knows how a suspended thread looks.
//!
//! A switch is an ordinary call of the System V ABI, so only the callee-saved registers are kept.
//! No FPU control words are changed anywhere in the guest.

use core::arch::naked_asm;

/// Registers pushed by [`switch`], before the return address.
const SAVED: usize = 6;

/// Suspends the caller, storing its stack pointer in `*save`, and resumes the context at `to`.
///
/// # Safety
/// `to` must come from [`prepare`] or from an earlier `switch` that has not been resumed since,
/// and its stack must be intact and used by nobody else.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn switch(save: *mut usize, to: usize) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Writes the first context of a new stack whose end is `top` (16-byte aligned) and returns it.
///
/// # Safety
/// At least 128 bytes below `top` must be writable and unused, and `entry` must never return.
pub unsafe fn prepare(top: usize, entry: extern "sysv64" fn() -> !) -> usize {
    // One slot between `top` and the return address keeps the ABI's alignment at entry.
    let context = top - (SAVED + 2) * size_of::<usize>();
    let words: *mut usize = core::ptr::with_exposed_provenance_mut(context);
    // SAFETY: the caller grants the memory from `context` to `top`.
    unsafe {
        for index in 0..SAVED {
            words.add(index).write(0);
        }
        words.add(SAVED).write(entry as usize);
        words.add(SAVED + 1).write(0);
    }
    context
}

/// The current stack pointer, to find the thread that a stack belongs to.
pub fn stack_pointer() -> usize {
    let value: usize;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mov {}, rsp", out(reg) value, options(nomem, nostack, preserves_flags))
    };
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static MAIN: AtomicUsize = AtomicUsize::new(0);
    static OTHER: AtomicUsize = AtomicUsize::new(0);
    static STEPS: AtomicUsize = AtomicUsize::new(0);

    extern "sysv64" fn other() -> ! {
        loop {
            STEPS.fetch_add(1, Ordering::Relaxed);
            // SAFETY: MAIN was stored by the switch that led here.
            unsafe { switch(OTHER.as_ptr(), MAIN.load(Ordering::Relaxed)) };
        }
    }

    #[test]
    fn a_context_runs_on_from_where_it_left() {
        let mut stack = vec![0u128; 4096];
        let top = stack.as_mut_ptr().expose_provenance() + size_of_val(stack.as_slice());
        // SAFETY: the stack is ours and large enough; `other` never returns.
        OTHER.store(unsafe { prepare(top, other) }, Ordering::Relaxed);
        for step in 1..=3 {
            // SAFETY: OTHER holds a suspended context.
            unsafe { switch(MAIN.as_ptr(), OTHER.load(Ordering::Relaxed)) };
            assert_eq!(STEPS.load(Ordering::Relaxed), step);
        }
    }
}
