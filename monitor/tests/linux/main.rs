//! Linux guests from their first instruction to power-off.
//!
//! They need a KVM that runs kernels on the processor, and guest images: folders with a `vmlinuz`
//! and an `initramfs`, whose init keeps to the protocol of `docs/linux-guests.md`, named by
//! `MIRRORBALL_LINUX_GUESTS` with colons between them. A test that lacks either says so and is
//! counted.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod disk;
mod large;
mod memory;
mod network;
mod socket;
mod talk;

use mirrorball_dedup::{Scanner, ScannerConfig, ScannerThread};
use mirrorball_monitor::{LinuxBoot, LinuxError, MonitorError, StopCause, Vm, VmState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use talk::{LONG, able, boot, config, digits, exit_code, machine, output, skip, until};

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
fn guests_compute_right_while_their_memory_is_shared_as_fast_as_it_can_be() {
    let Some((machine, folders)) = able("sharing under load") else {
        return;
    };
    // The same bytes in files of the guest's memory, made, summed and dropped again and again.
    let work = "for i in 1 2 3; do for f in a b c; do \
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
    // Not from the start: where exits are emulated, a boot in which every page is shared and broken
    // again takes minutes.
    for vm in &vms {
        until(vm, "mb ready");
    }
    let eager = ScannerConfig {
        interval: Duration::ZERO,
        settle: 0,
        nice: 0,
        burden: None,
        // Where there is one core, the guests need some of it.
        cpu_percent: Some(40.0),
        ..ScannerConfig::default()
    };
    let scanner = Scanner::new(machine.pmap().clone(), &eager);
    let scanner = ScannerThread::start(scanner).unwrap();
    let ended = AtomicBool::new(false);
    let outputs: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| tell(&scanner, &vms, &ended));
        let _ends = Ends(&ended);
        vms.iter().for_each(|vm| vm.control_write("go"));
        vms.iter().map(|vm| until(vm, "mb done")).collect()
    });
    let stats = scanner.stop();
    assert!(stats.shared > 1000, "{stats:?}");
    let numbers: String = (1..=40_000).map(|number| format!("{number}\n")).collect();
    let digits = digits(numbers.as_bytes());
    for (vm, lines) in vms.iter().zip(outputs) {
        let sums = output(&lines, 0);
        assert_eq!(sums.lines().count(), 9, "{sums}");
        assert!(sums.lines().all(|line| line.starts_with(&digits)), "{sums}");
        vm.control_write("stop");
        assert_eq!(vm.wait_stopped(LONG), Ok(StopCause::PoweredOff));
    }
}

/// Says every few seconds how far guests and scanner are, for whoever has to find out why it takes long.
fn tell(scanner: &ScannerThread, vms: &[Arc<Vm>], ended: &AtomicBool) {
    let began = Instant::now();
    let mut told = began;
    while !ended.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
        if told.elapsed() < Duration::from_secs(5) {
            continue;
        }
        told = Instant::now();
        let guests: Vec<_> = vms.iter().map(|vm| vm.cpu_seconds()).collect();
        eprintln!(
            "{:.0} s: guests' CPU seconds {guests:.1?}, {:?}",
            began.elapsed().as_secs_f64(),
            scanner.stats()
        );
    }
}

/// Tells that a test is over, however it ends.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
