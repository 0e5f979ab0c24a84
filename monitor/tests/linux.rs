//! Linux guests from their first instruction to power-off.
//!
//! They need a KVM that runs kernels on the processor, and guest images: folders with a `vmlinuz`
//! and an `initramfs`, whose init keeps to the protocol of `docs/linux-guests.md`, named by
//! `MIRRORBALL_LINUX_GUESTS` with colons between them. A test that lacks either says so and is
//! counted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mirrorball_dedup::{Scanner, ScannerConfig, ScannerThread};
use mirrorball_monitor::{
    Boot, DiskConfig, Equipment, InitramfsPart, LinuxBoot, LinuxError, Machine, MachineConfig,
    MonitorError, StopCause, Vm, VmConfig, VmState, linux,
};
use mirrorball_pmap::{GroupId, PmapConfig};
use mirrorball_virtio::OverlayMode;
use sha2::{Digest, Sha256};

/// Longer than anything takes in an emulated host; only a failing test waits that long.
const LONG: Duration = Duration::from_secs(300);

static NOT_RUN: AtomicU32 = AtomicU32::new(0);

/// Says that a test did not run, and how many did not.
fn skip(test: &str, why: &str) {
    let count = NOT_RUN.fetch_add(1, Ordering::Relaxed) + 1;
    eprintln!("not run: {test}: {why} ({count} so far)");
}

fn machine() -> Result<Arc<Machine>, MonitorError> {
    Machine::new(&MachineConfig {
        pmap: PmapConfig {
            frame_capacity: 8 << 30,
            ..PmapConfig::default()
        },
        ..MachineConfig::default()
    })
}

/// A machine that runs Linux guests, and the images there are.
fn able(test: &str) -> Option<(Arc<Machine>, Vec<PathBuf>)> {
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

fn boot(folder: &Path, commands: &[&str]) -> LinuxBoot {
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
            console: false,
        },
        console_log: None,
    }
}

fn config(name: &str, vcpus: u32, boot: LinuxBoot) -> VmConfig {
    VmConfig {
        name: name.into(),
        group: GroupId(0),
        memory: 192 << 20,
        vcpus,
        disks: Vec::new(),
        console: false,
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
fn until(vm: &Vm, beginning: &str) -> Vec<String> {
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
fn output(lines: &[String], number: u32) -> String {
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

fn exit_code(lines: &[String], number: u32) -> Option<&str> {
    let prefix = format!("mb end {number} ");
    let rest = lines.iter().find_map(|line| line.strip_prefix(&prefix))?;
    rest.split(' ').next()
}

#[test]
fn where_kernels_are_emulated_a_linux_guest_is_refused_with_the_remedy() {
    let Ok(machine) = machine() else {
        return skip("refusal", "no KVM");
    };
    let refused = machine.create_vm(&config("linux", 1, LinuxBoot::default()));
    let error = refused.unwrap_err();
    match machine.can_run_linux() {
        Err(LinuxError::SoftwareKvm(_)) => {
            let text = error.to_string();
            assert!(text.contains("the emulated host"), "{text}");
            assert!(text.contains("svm or vmx"), "{text}");
        }
        // On other hosts it is the missing kernel.
        _ => assert!(error.to_string().contains("can't be read"), "{error}"),
    }
    assert!(machine.vms().is_empty());
    assert_eq!(machine.pmap().totals().guest_physical, 0);
}

#[test]
fn both_kernels_at_once_boot_with_any_number_of_vcpus_work_and_power_off() {
    let Some((machine, folders)) = able("boot, work, power off") else {
        return;
    };
    let mut vms = Vec::new();
    for folder in &folders {
        for vcpus in [1, 2, 4] {
            let boot = boot(folder, &["nproc; exit 3", "echo hello; uname -s"]);
            let name = format!("{}-{vcpus}", folder.display());
            let vm = machine.create_vm(&config(&name, vcpus, boot)).unwrap();
            vm.start().unwrap();
            vms.push((vcpus, vm));
        }
    }
    for (vcpus, vm) in vms {
        until(&vm, "mb ready");
        vm.control_write("go");
        let lines = until(&vm, "mb done");
        assert_eq!(output(&lines, 0), format!("{vcpus}\n"), "{lines:?}");
        assert_eq!(exit_code(&lines, 0), Some("3"));
        assert_eq!(output(&lines, 1), "hello\nLinux\n");
        assert_eq!(exit_code(&lines, 1), Some("0"));
        vm.control_write("stop");
        assert_eq!(vm.wait_stopped(LONG), Ok(StopCause::PoweredOff));
        machine.remove_vm(vm.id());
    }
    assert_eq!(machine.pmap().totals().frames, 0, "nothing is held");
}

#[test]
fn guests_share_kernel_and_initramfs_from_the_start() {
    let Some((machine, folders)) = able("shared boot files") else {
        return;
    };
    let make = |name: &str| {
        let boot = boot(&folders[0], &[]);
        machine.create_vm(&config(name, 1, boot)).unwrap()
    };
    let one = make("first");
    machine.pmap().settle_all();
    let alone = machine.pmap().totals();
    let two = make("second");
    machine.pmap().settle_all();
    let both = machine.pmap().totals();
    assert!(alone.mapped > 1000, "{alone:?}");
    assert_eq!((both.frames, both.mapped), (alone.frames, 2 * alone.mapped));
    for vm in [&one, &two] {
        vm.start().unwrap();
    }
    for vm in [&one, &two] {
        until(vm, "mb ready");
        vm.control_write("go");
        until(vm, "mb done");
        vm.control_write("stop");
        assert_eq!(vm.wait_stopped(LONG), Ok(StopCause::PoweredOff));
    }
}

#[test]
fn a_disk_is_read_whole_and_true() {
    let Some((machine, folders)) = able("disk") else {
        return;
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..2_u32 << 20)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
        .collect();
    std::fs::write(file.path(), &bytes).unwrap();
    let digest = Sha256::digest(&bytes);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    for folder in folders {
        let commands = [
            "sha256sum < /dev/vda",
            "echo overlay > /dev/vda; sync; head -c 7 /dev/vda",
        ];
        let mut config = config("reader", 2, boot(&folder, &commands));
        config.disks.push(DiskConfig {
            image: machine.open_image(file.path()).unwrap(),
            mode: OverlayMode::Nonpersistent,
            scratch: 0,
        });
        let vm = machine.create_vm(&config).unwrap();
        vm.start().unwrap();
        until(&vm, "mb ready");
        vm.control_write("go");
        let lines = until(&vm, "mb done");
        assert_eq!(output(&lines, 0), format!("{digits}  -\n"));
        assert_eq!(output(&lines, 1), "overlay");
        assert!(vm.block_stats()[0].reads > 0);
        machine.remove_vm(vm.id());
    }
    assert_eq!(std::fs::read(file.path()).unwrap(), bytes);
}

#[test]
fn a_reboot_a_panic_and_a_hang_end_their_own_guest_only() {
    let Some((machine, folders)) = able("reboot, panic, hang") else {
        return;
    };
    let start = |name: &str, commands: &[&str]| {
        let boot = boot(&folders[0], commands);
        let vm = machine.create_vm(&config(name, 2, boot)).unwrap();
        vm.start().unwrap();
        vm
    };
    let works = start("works", &["sleep 3; echo fine"]);
    let reboots = start("reboots", &["reboot -f"]);
    let panics = start("panics", &["echo c > /proc/sysrq-trigger"]);
    let hangs = start("hangs", &["while :; do :; done"]);
    for vm in [&works, &reboots, &panics, &hangs] {
        until(vm, "mb ready");
        vm.control_write("go");
    }
    assert_eq!(reboots.wait_stopped(LONG), Ok(StopCause::Reset));
    assert_eq!(panics.wait_stopped(LONG), Ok(StopCause::Reset));
    assert!(panics.console_tail().contains("Kernel panic"));
    until(&hangs, "mb begin 0");
    assert_eq!(hangs.state(), VmState::Running);
    hangs.stop();
    assert_eq!(hangs.state(), VmState::Stopped(StopCause::Requested));
    let lines = until(&works, "mb done");
    assert_eq!(output(&lines, 0), "fine\n");
    works.control_write("stop");
    assert_eq!(works.wait_stopped(LONG), Ok(StopCause::PoweredOff));
}

#[test]
fn the_least_memory_named_is_enough_and_less_is_refused() {
    let Some((machine, folders)) = able("least memory") else {
        return;
    };
    for folder in folders {
        let with = |mib: u64| {
            let mut config = config("small", 1, boot(&folder, &["echo up"]));
            config.memory = mib << 20;
            machine.create_vm(&config)
        };
        let refused = with(16).unwrap_err();
        let MonitorError::Linux(LinuxError::TooLittleMemory { least, .. }) = refused else {
            panic!("{refused}")
        };
        eprintln!("{}: least {least} MiB", folder.display());
        assert!(with(least - 1).is_err());
        let vm = with(least).unwrap();
        vm.start().unwrap();
        until(&vm, "mb ready");
        vm.control_write("go");
        assert_eq!(output(&until(&vm, "mb done"), 0), "up\n");
        machine.remove_vm(vm.id());
    }
}

#[test]
fn a_balloon_takes_memory_out_of_the_machine_and_gives_it_back() {
    let Some((machine, folders)) = able("balloon") else {
        return;
    };
    const PAGES: u32 = 10_000;
    let boot = boot(&folders[0], &["while [ ! -e /never ]; do sleep 1; done"]);
    let vm = machine.create_vm(&config("balloon", 1, boot)).unwrap();
    vm.start().unwrap();
    until(&vm, "mb ready");
    vm.control_write("go");
    let balloon = vm.balloon().unwrap();
    for target in [PAGES, 0] {
        balloon.set_target(target);
        let begin = std::time::Instant::now();
        while balloon.actual() != target {
            assert!(begin.elapsed() < LONG, "{balloon:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        vm.space().settle();
        assert_eq!(vm.space().totals().ballooned, u64::from(target));
    }
    vm.stop();
}

#[test]
fn guests_compute_right_while_their_memory_is_shared_as_fast_as_it_can_be() {
    let Some((machine, folders)) = able("sharing under load") else {
        return;
    };
    let eager = ScannerConfig {
        interval: Duration::ZERO,
        settle: 0,
        nice: 0,
        ..ScannerConfig::default()
    };
    let scanner = Scanner::new(machine.pmap().clone(), &eager);
    let scanner = ScannerThread::start(scanner).unwrap();
    // The same bytes in files of the guest's memory, made, summed and dropped again and again.
    let work = "for i in 1 2 3 4 5 6; do for f in a b c; do \
                seq 1 40000 > /tmp/$f; done; sha256sum /tmp/a /tmp/b /tmp/c; rm /tmp/?; done";
    let vms: Vec<_> = (0..3)
        .map(|number| {
            let boot = boot(&folders[0], &[work]);
            let vm = machine.create_vm(&config(&format!("worker{number}"), 2, boot));
            let vm = vm.unwrap();
            vm.start().unwrap();
            vm
        })
        .collect();
    for vm in &vms {
        until(vm, "mb ready");
        vm.control_write("go");
    }
    let numbers: String = (1..=40_000).map(|number| format!("{number}\n")).collect();
    let digest = Sha256::digest(numbers.as_bytes());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    for vm in &vms {
        let lines = until(vm, "mb done");
        let sums = output(&lines, 0);
        assert_eq!(sums.lines().count(), 18, "{sums}");
        assert!(sums.lines().all(|line| line.starts_with(&digits)), "{sums}");
        vm.control_write("stop");
        assert_eq!(vm.wait_stopped(LONG), Ok(StopCause::PoweredOff));
    }
    let stats = scanner.stop();
    assert!(stats.shared > 1000, "{stats:?}");
}
