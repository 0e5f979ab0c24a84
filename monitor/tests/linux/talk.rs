//! Guests to test with, and the protocol that their init speaks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mirrorball_monitor::{
    Boot, Equipment, InitramfsPart, LinuxBoot, Machine, MachineConfig, MonitorError, Vm, VmConfig,
    linux,
};
use mirrorball_pmap::{GroupId, PmapConfig};
use sha2::{Digest, Sha256};

/// Longer than anything takes in an emulated host; only a failing test waits that long.
pub const LONG: Duration = Duration::from_secs(300);

static NOT_RUN: AtomicU32 = AtomicU32::new(0);

/// Says that a test did not run, and how many did not.
pub fn skip(test: &str, why: &str) {
    let count = NOT_RUN.fetch_add(1, Ordering::Relaxed) + 1;
    eprintln!("not run: {test}: {why} ({count} so far)");
}

pub fn machine() -> Result<Arc<Machine>, MonitorError> {
    Machine::new(&MachineConfig {
        pmap: PmapConfig {
            frame_capacity: 8 << 30,
            ..PmapConfig::default()
        },
        ..MachineConfig::default()
    })
}

/// A machine that runs Linux guests, and the images there are.
pub fn able(test: &str) -> Option<(Arc<Machine>, Vec<PathBuf>)> {
    let machine = match machine() {
        Ok(machine) => machine,
        Err(error) => {
            skip(test, &error.to_string());
            return None;
        }
    };
    if let Err(error) = machine.can_run_linux() {
        skip(test, &error.to_string());
        return None;
    }
    let folders = std::env::var("MIRRORBALL_LINUX_GUESTS").unwrap_or_default();
    let folders: Vec<_> = folders
        .split(':')
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .collect();
    if folders.is_empty() {
        skip(test, "MIRRORBALL_LINUX_GUESTS names no guest image");
        return None;
    }
    Some((machine, folders))
}

pub fn boot(folder: &Path, commands: &[&str]) -> LinuxBoot {
    LinuxBoot {
        kernel: folder.join("vmlinuz"),
        initramfs: vec![
            InitramfsPart::File(folder.join("initramfs")),
            InitramfsPart::Bytes(job(commands)),
        ],
        command_line: format!("{} quiet", linux::COMMAND_LINE),
        devices: Equipment {
            control: true,
            balloon: true,
            rng: true,
            vsock: true,
            console: false,
        },
        console_log: None,
    }
}

pub fn config(name: &str, vcpus: u32, boot: LinuxBoot) -> VmConfig {
    VmConfig {
        name: name.into(),
        group: GroupId(0),
        memory: 192 << 20,
        vcpus,
        disks: Vec::new(),
        networks: Vec::new(),
        console: false,
        balloon: false,
        boot: Boot::Linux(boot),
    }
}

/// A cpio archive with the commands of a job as `/etc/mirrorball/job/0` and so on.
fn job(commands: &[&str]) -> Arc<[u8]> {
    let mut archive = Vec::new();
    for folder in ["etc", "etc/mirrorball", "etc/mirrorball/job"] {
        entry(&mut archive, folder, 0o4_0755, &[]);
    }
    for (number, command) in commands.iter().enumerate() {
        let name = format!("etc/mirrorball/job/{number}");
        entry(&mut archive, &name, 0o10_0644, command.as_bytes());
    }
    entry(&mut archive, "TRAILER!!!", 0, &[]);
    archive.into()
}

/// One entry of the format "newc".
fn entry(archive: &mut Vec<u8>, name: &str, mode: usize, content: &[u8]) {
    let mut numbers = [0; 13];
    (numbers[1], numbers[4], numbers[6]) = (mode, 1, content.len());
    numbers[11] = name.len() + 1;
    archive.extend(b"070701");
    for number in numbers {
        archive.extend(format!("{number:08x}").bytes());
    }
    archive.extend(name.bytes().chain([0]));
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// Lines of the control channel up to one that begins so; fails the test if the guest ends first.
pub fn until(vm: &Vm, beginning: &str) -> Vec<String> {
    let mut lines = Vec::new();
    while !lines
        .iter()
        .any(|line: &String| line.starts_with(beginning))
    {
        match vm.control_wait(LONG) {
            Ok(more) => lines.extend(more),
            Err(error) => panic!(
                "{}: {error} before {beginning}: {lines:?}\n{}",
                vm.name(),
                vm.console_tail()
            ),
        }
    }
    lines
}

/// What a command wrote.
pub fn output(lines: &[String], number: u32) -> String {
    let prefix = format!("mb out {number} ");
    let bytes: Vec<u8> = lines
        .iter()
        .filter_map(|line| line.strip_prefix(&prefix))
        .flat_map(decode)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Base64 as the guest's init writes it.
fn decode(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'=' && *b != b'\r').collect();
    let mut bytes = Vec::new();
    for group in digits.chunks(4) {
        let bits = group
            .iter()
            .fold(0_u32, |bits, digit| bits << 6 | u32::from(value(*digit)));
        let [_, a, b, c] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        bytes.extend(&[a, b, c][..group.len() * 6 / 8]);
    }
    bytes
}

pub fn exit_code(lines: &[String], number: u32) -> Option<&str> {
    let prefix = format!("mb end {number} ");
    let rest = lines.iter().find_map(|line| line.strip_prefix(&prefix))?;
    rest.split(' ').next()
}

/// The SHA-256 of these bytes as `sha256sum` prints it.
pub fn digits(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
