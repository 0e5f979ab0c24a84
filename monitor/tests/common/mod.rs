//! Little guests assembled by hand, and machines to run them on.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mirrorball_monitor::{Boot, Machine, MachineConfig, MonitorError, Vm, VmConfig};
use mirrorball_pmap::{GroupId, PmapConfig};

/// Longer than anything takes, even on a busy host; only a failing test waits that long.
pub const LONG: Duration = Duration::from_secs(60);

static NOT_RUN: AtomicU32 = AtomicU32::new(0);

/// A machine, or `None` with a counted line where the host has no KVM for us.
pub fn machine(test: &str) -> Option<Arc<Machine>> {
    machine_with(test, true)
}

/// [`machine`], with disk sharing from the start or not.
pub fn machine_with(test: &str, disk_sharing: bool) -> Option<Arc<Machine>> {
    let pmap = PmapConfig {
        frame_capacity: 4 << 30,
        ..PmapConfig::default()
    };
    match Machine::new(&MachineConfig {
        pmap,
        disk_sharing,
        ..MachineConfig::default()
    }) {
        Ok(machine) => Some(machine),
        Err(
            error @ (MonitorError::KvmMissing(_)
            | MonitorError::KvmPermission(_)
            | MonitorError::NotKvm(_)),
        ) => {
            let count = NOT_RUN.fetch_add(1, Ordering::Relaxed) + 1;
            eprintln!("not run: {test}: {error} ({count} so far)");
            None
        }
        Err(error) => panic!("no machine: {error}"),
    }
}

pub fn config(name: &str, vcpus: u32) -> VmConfig {
    VmConfig {
        name: name.into(),
        group: GroupId(0),
        memory: 32 << 20,
        vcpus,
        disks: Vec::new(),
        networks: Vec::new(),
        console: false,
        balloon: false,
        boot: Boot::Splash,
    }
}

/// Waits for a condition that will come true.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Open files and mappings of this process.
pub fn held() -> (usize, usize) {
    let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let maps = std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count();
    (files, maps)
}

/// Waits until a VM has stopped by itself.
pub fn wait_stopped(vm: &Vm) -> mirrorball_monitor::StopCause {
    let mut cause = None;
    eventually("stopped", || {
        if let mirrorball_monitor::VmState::Stopped(found) = vm.state() {
            cause = Some(found);
        }
        cause.is_some()
    });
    cause.unwrap()
}

/// `mov dword [0x2000], 2; mov edx, PHASE; xor eax, eax; out dx, eax`: phase Ready, told.
pub const READY: &[u8] = &[
    0xc7, 0x04, 0x25, 0x00, 0x20, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0xba, 0x08, 0x05, 0x00, 0x00,
    0x31, 0xc0, 0xef,
];
/// `1: mov edx, WAIT; xor eax, eax; out dx, eax; jmp 1b`.
pub const WAIT: &[u8] = &[0xba, 0x00, 0x05, 0x00, 0x00, 0x31, 0xc0, 0xef, 0xeb, 0xf6];
/// `1: lock inc qword [0x2020]; jmp 1b`: counts in the status page's operations.
pub const SPIN: &[u8] = &[
    0xf0, 0x48, 0xff, 0x04, 0x25, 0x20, 0x20, 0x00, 0x00, 0xeb, 0xf5,
];
/// `mov eax, [0]`.
pub const NULL: &[u8] = &[0x8b, 0x04, 0x25, 0x00, 0x00, 0x00, 0x00];
/// `mov edx, PANIC; xor eax, eax; out dx, eax`.
pub const PANIC: &[u8] = &[0xba, 0x10, 0x05, 0x00, 0x00, 0x31, 0xc0, 0xef];
/// `mov edx, EXIT; mov eax, 7; out dx, eax`.
pub const EXIT: &[u8] = &[
    0xba, 0x0c, 0x05, 0x00, 0x00, 0xb8, 0x07, 0x00, 0x00, 0x00, 0xef,
];

const BASE: u64 = 0x20_0000;

/// An ELF with one function, named `symbol`, made of these pieces of code.
pub fn guest(symbol: &str, code: &[&[u8]]) -> Arc<[u8]> {
    let code = code.concat();
    let names = b"\0.text\0.symtab\0.strtab\0";
    let mut strings = names.to_vec();
    let symbol_name = u32::try_from(strings.len()).unwrap();
    strings.extend_from_slice(symbol.as_bytes());
    strings.push(0);
    let text_at = 0x1000_u64;
    let size = code.len() as u64;
    let symbols_at = (text_at + size).next_multiple_of(8);
    let strings_at = symbols_at + 48;
    let sections_at = (strings_at + strings.len() as u64).next_multiple_of(8);

    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    put(&mut file, 2, &[2, 62]);
    put(&mut file, 4, &[1]);
    put(&mut file, 8, &[BASE, 64, sections_at]);
    put(&mut file, 4, &[0]);
    put(&mut file, 2, &[64, 56, 1, 64, 4, 3]);
    // One program header: load, readable and executable.
    put(&mut file, 4, &[1, 5]);
    put(&mut file, 8, &[text_at, BASE, BASE, size, size, 0x1000]);
    pad(&mut file, text_at);
    file.extend_from_slice(&code);
    pad(&mut file, symbols_at + 24);
    // A global function in section 1.
    put(&mut file, 4, &[symbol_name.into()]);
    put(&mut file, 1, &[0x12, 0]);
    put(&mut file, 2, &[1]);
    put(&mut file, 8, &[BASE, size]);
    file.extend_from_slice(&strings);
    pad(&mut file, sections_at + 64);
    let strings = strings.len() as u64;
    section(&mut file, [1, 1], [6, BASE, text_at, size], [0, 0], [16, 0]);
    section(&mut file, [7, 2], [0, 0, symbols_at, 48], [3, 1], [8, 24]);
    section(
        &mut file,
        [15, 3],
        [0, 0, strings_at, strings],
        [0, 0],
        [1, 0],
    );
    file.into()
}

/// A section header: name and type; flags, address, offset, size; link and info; align and entry.
fn section(file: &mut Vec<u8>, kind: [u64; 2], place: [u64; 4], link: [u64; 2], size: [u64; 2]) {
    put(file, 4, &kind);
    put(file, 8, &place);
    put(file, 4, &link);
    put(file, 8, &size);
}

/// Appends little-endian numbers of a width in bytes.
fn put(file: &mut Vec<u8>, width: usize, numbers: &[u64]) {
    for number in numbers {
        file.extend_from_slice(&number.to_le_bytes()[..width]);
    }
}

fn pad(file: &mut Vec<u8>, length: u64) {
    file.resize(usize::try_from(length).unwrap(), 0);
}
