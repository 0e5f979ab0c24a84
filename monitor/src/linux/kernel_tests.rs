//! Kernels and what is none.

use super::*;

/// The head of a bzImage whose protected-mode part has `body` bytes.
fn bzimage(body: usize, change: impl FnOnce(&mut setup_header)) -> Vec<u8> {
    let mut header = setup_header {
        setup_sects: 3,
        syssize: u32::try_from(body / 16).unwrap(),
        header: SETUP_MAGIC,
        version: 0x020f,
        loadflags: 1,
        xloadflags: XLF_KERNEL_64,
        relocatable_kernel: 1,
        code32_start: 0x10_0000,
        pref_address: 0x100_0000,
        init_size: 0x200_0000,
        initrd_addr_max: 0x7fff_ffff,
        cmdline_size: 2047,
        ..setup_header::default()
    };
    change(&mut header);
    let mut file = vec![0; 4 * 512 + body];
    file[SETUP_HEADER..SETUP_HEADER + size_of::<setup_header>()].copy_from_slice(header.as_slice());
    file[4 * 512..].fill(0x90);
    file
}

fn parse_bytes(bytes: &[u8]) -> Result<(Kernel, Vec<u8>), LinuxError> {
    let path = Path::new("vmlinuz");
    parse(&File { path, bytes })
}

fn refusal(bytes: &[u8]) -> String {
    parse_bytes(bytes).unwrap_err().to_string()
}

#[test]
fn a_bzimage_is_loaded_low_and_needs_the_memory_that_it_unpacks_to() {
    let (kernel, pages) = parse_bytes(&bzimage(5000 / 16 * 16, |_| ())).unwrap();
    assert_eq!(kernel.start, HIGH);
    assert_eq!(kernel.end, 0x300_0000);
    assert_eq!(kernel.most_command_line, 2047);
    assert_eq!(kernel.highest_initramfs, 0x7fff_ffff);
    let Entry::Linux { address, .. } = kernel.entry else {
        panic!("{kernel:?}")
    };
    assert_eq!(address, HIGH + 0x200);
    assert_eq!(pages.len(), 2 * PAGE_SIZE);
    assert_eq!((pages[0], pages[4991], pages[4992]), (0x90, 0x90, 0));
}

#[test]
fn a_kernel_that_can_not_be_moved_goes_where_it_wants() {
    let fixed = bzimage(4096, |header| header.relocatable_kernel = 0);
    assert_eq!(parse_bytes(&fixed).unwrap().0.start, 0x100_0000);
}

#[test]
fn truncated_kernels_say_how_much_there_is() {
    let mut file = bzimage(8192, |_| ());
    file.truncate(4 * 512 + 8191);
    let text = refusal(&file);
    assert!(text.contains("vmlinuz is truncated"), "{text}");
    assert!(text.contains("10240") && text.contains("10239"), "{text}");
}

#[test]
fn other_files_are_named() {
    assert!(refusal(b"").contains("empty"));
    assert!(refusal(b"#!/bin/sh").contains("too short"));
    assert!(refusal(&[0; 4096]).contains("neither mark"));
    assert!(refusal(&[b"\x1f\x8b".as_slice(), &[0; 4096]].concat()).contains("compressed"));
    assert!(refusal(&[b"!<arch>\n".as_slice(), &[0; 4096]].concat()).contains("package"));
    assert!(refusal(&[b"070701".as_slice(), &[0; 4096]].concat()).contains("initramfs"));
    assert!(refusal(&[0; 4096]).contains("a bzImage, or an ELF with a PVH entry"));
}

#[test]
fn kernels_for_other_processors_are_refused() {
    let old = bzimage(4096, |header| header.xloadflags = 0);
    assert!(refusal(&old).contains("32-bit x86; guests are x86-64"));
    let mut arm = vec![0; 4096];
    arm[56..60].copy_from_slice(b"ARM\x64");
    assert!(refusal(&arm).contains("arm64"));
    let mut elf = elf_kernel(elf::EM_AARCH64, &[]);
    assert!(refusal(&elf).contains("arm64"));
    elf[4] = 1;
    assert!(refusal(&elf).contains("not 64-bit"));
}

#[test]
fn impossible_headers_are_refused() {
    let old = bzimage(4096, |header| header.version = 0x0206);
    assert!(refusal(&old).contains("boot protocol 2.06 is too old"));
    for (start, size) in [(u64::MAX, 0), (0x100_0000, u32::MAX)] {
        let wild = bzimage(4096, |header| {
            (header.pref_address, header.init_size) = (start, size);
        });
        assert!(refusal(&wild).contains("loaded at"));
    }
}

/// An ELF kernel with one page of code at 16 MiB and these notes.
fn elf_kernel(machine: elf::Machine, notes: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2_u16, machine.0].map(u16::to_le_bytes).concat());
    file.extend(1_u32.to_le_bytes());
    file.extend([0x100_0000_u64, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 2, 64, 0, 0].map(u16::to_le_bytes).concat());
    let mut program = |kind: elf::ProgramType, at: u64, bytes: u64, memory: u64| {
        file.extend([kind.0, 7].map(u32::to_le_bytes).concat());
        let place = [at, 0, 0x100_0000, bytes, memory, 4];
        file.extend(place.map(u64::to_le_bytes).concat());
    };
    program(elf::PT_LOAD, 0x1000, 0x1000, 0x30_0000);
    program(elf::PT_NOTE, 0x800, notes.len() as u64, 0);
    file.resize(0x800, 0);
    file.extend(notes);
    file.resize(0x1000, 0);
    file.resize(0x2000, 0x90);
    file
}

/// A note of Xen's with the 32-bit entry.
fn pvh_note(entry: u32) -> Vec<u8> {
    let words = [4, 4, 18].map(u32::to_le_bytes).concat();
    [words.as_slice(), b"Xen\0", &entry.to_le_bytes()].concat()
}

#[test]
fn an_elf_is_entered_at_its_pvh_note() {
    let file = elf_kernel(elf::EM_X86_64, &pvh_note(0x100_0040));
    let (kernel, pages) = parse_bytes(&file).unwrap();
    let Entry::Pvh { address } = kernel.entry else {
        panic!("{kernel:?}")
    };
    assert_eq!(address, 0x100_0040);
    assert_eq!((kernel.start, kernel.end), (0x100_0000, 0x130_0000));
    assert_eq!(pages, [0x90; PAGE_SIZE]);

    let without = elf_kernel(elf::EM_X86_64, &[]);
    assert!(refusal(&without).contains("without a PVH entry"));
    assert!(refusal(&file[..0x1800]).contains("truncated"));
}

#[test]
fn damaged_kernels_are_refused_or_harmless() {
    let whole = [
        bzimage(4096, |_| ()),
        elf_kernel(elf::EM_X86_64, &pvh_note(0x100_0040)),
    ];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    let (mut refused, mut taken) = (0, 0);
    for round in 0..600 {
        let mut file = whole[round % 2].clone();
        for _ in 0..=next(4) {
            // Where the headers are; the rest is code.
            let at = [next(0x140), SETUP_HEADER + next(0x80), 0x800 + next(16)][next(3)];
            let byte = u8::try_from(next(256)).unwrap();
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        match parse_bytes(&file) {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(
        refused > 50 && taken > 50,
        "{refused} refused, {taken} taken"
    );
}
