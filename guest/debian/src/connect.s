# connect PROGRAM ARGUMENTS...
#
# Connects to the control port of the host (AF_VSOCK) and becomes PROGRAM, which finds the stream as
# its descriptor 3; or finds none, where there is no socket device or nobody listens. The shell can
# do everything else that `init` needs, but not this. See docs/linux-guests.md, "The protocol".

        .intel_syntax noprefix

        .set    SYS_CLOSE, 3
        .set    SYS_SOCKET, 41
        .set    SYS_CONNECT, 42
        .set    SYS_EXECVE, 59
        .set    SYS_EXIT, 60
        .set    AF_VSOCK, 40
        .set    SOCK_STREAM, 1
        .set    HOST, 2
        .set    CONTROL_PORT, 1024

        .globl  _start
_start:
        mov     edi, AF_VSOCK
        mov     esi, SOCK_STREAM
        xor     edx, edx
        mov     eax, SYS_SOCKET
        syscall
        test    eax, eax
        js      become

        mov     ebx, eax
        mov     edi, eax
        lea     rsi, [rip + address]
        mov     edx, address_end - address
        mov     eax, SYS_CONNECT
        syscall
        test    eax, eax
        jz      become

        mov     edi, ebx
        mov     eax, SYS_CLOSE
        syscall

become: # The stack holds argc, argv with a null, and the environment.
        mov     rcx, [rsp]
        lea     rsi, [rsp + 16]
        lea     rdx, [rsp + 8 * rcx + 16]
        mov     rdi, [rsi]
        mov     eax, SYS_EXECVE
        syscall

        mov     edi, 127
        mov     eax, SYS_EXIT
        syscall

# struct sockaddr_vm (linux/vm_sockets.h)
address:
        .short  AF_VSOCK, 0
        .long   CONTROL_PORT, HOST, 0
address_end:
