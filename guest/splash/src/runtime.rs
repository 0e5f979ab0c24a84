//! The routines that compiled Rust code expects from a C library, and nothing more.
//!
//! String instructions are as fast as anything here for the sizes that matter, and can't be
//! turned into calls to themselves by the optimiser.

use core::arch::global_asm;

global_asm!(
    ".section .text.memory, \"ax\"",
    ".global memcpy, memmove, memset, memcmp, bcmp, strlen",
    "memmove:",
    "mov rax, rdi",
    "sub rax, rsi",
    "cmp rax, rdx",
    "jb 2f", // the destination starts inside of the source: copy from the end
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    "2:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "lea rdi, [rdi + rdx - 1]",
    "lea rsi, [rsi + rdx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    "bcmp:",
    "memcmp:",
    "xor eax, eax",
    "xor r8d, r8d",
    "3:",
    "mov rcx, rdx",
    "sub rcx, r8",
    "cmp rcx, 8",
    "jb 4f",
    "mov rcx, [rdi + r8]",
    "cmp rcx, [rsi + r8]",
    "jne 4f",
    "add r8, 8",
    "jmp 3b",
    "4:",
    "cmp r8, rdx",
    "jae 5f",
    "movzx eax, byte ptr [rdi + r8]",
    "movzx ecx, byte ptr [rsi + r8]",
    "inc r8",
    "sub eax, ecx",
    "je 4b",
    "5:",
    "ret",
    "strlen:",
    "xor eax, eax",
    "6:",
    "cmp byte ptr [rdi + rax], 0",
    "je 7f",
    "inc rax",
    "jmp 6b",
    "7:",
    "ret",
);

/// Named by the unwind tables of the prebuilt libraries; a panic here ends the guest instead.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As [`rust_eh_personality`]: called by nothing that can be reached.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    mirrorball_splash::panic_exit()
}
