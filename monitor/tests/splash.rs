//! The embedded thin guest, booted and put to work.
#![allow(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{LONG, config, eventually, machine};
use mirrorball_abi::{OUTCOME_FAILED, OUTCOME_GOOD, Phase, Workload, WorkloadKind};
use mirrorball_monitor::{DiskConfig, Machine, Vm, VmState, WaitError};
use mirrorball_virtio::OverlayMode;

fn workload(kind: WorkloadKind, params: &[u64]) -> Workload {
    let mut workload = Workload {
        kind: kind as u32,
        seed: 7,
        ..Workload::default()
    };
    workload.params[..params.len()].copy_from_slice(params);
    workload
}

fn start(machine: &Machine, vcpus: u32) -> Arc<Vm> {
    let mut config = config("splash", vcpus);
    config.console = true;
    let vm = machine.create_vm(&config).unwrap();
    vm.start().unwrap();
    vm.wait_until(Phase::Ready, 0, LONG).unwrap();
    vm
}

/// Runs a command to its end; what the guest says of it, in numbers and in words.
fn finish(vm: &Vm, workload: &Workload) -> (mirrorball_abi::Status, String) {
    let command = vm.command(workload);
    vm.wait_until(Phase::Done, command, LONG).unwrap();
    let status = vm.status();
    assert_eq!(status.command, command);
    let length = usize::try_from(status.message_length).unwrap();
    let message = String::from_utf8_lossy(&status.message[..length]).into_owned();
    (status, message)
}

/// Runs a command to its end and checks that the guest found nothing wrong.
fn run(vm: &Vm, workload: &Workload) -> mirrorball_abi::Status {
    let (status, message) = finish(vm, workload);
    assert_eq!(
        (status.outcome, status.mismatches),
        (OUTCOME_GOOD, 0),
        "{message}"
    );
    status
}

#[test]
fn it_boots_with_one_and_with_four_vcpus() {
    let Some(machine) = machine("splash boots") else {
        return;
    };
    for vcpus in [1, 4] {
        let vm = start(&machine, vcpus);
        assert_eq!(vm.state(), VmState::Running);
        vm.stop();
    }
}

#[test]
fn commands_run_to_their_end_one_after_the_other() {
    let Some(machine) = machine("splash commands") else {
        return;
    };
    let vm = start(&machine, 2);
    let touched = run(
        &vm,
        &workload(WorkloadKind::Touch, &[64, 5, 10, 50, 10, 10, 20]),
    );
    assert!(touched.operations > 0);
    let tortured = run(&vm, &workload(WorkloadKind::Torture, &[2_000, 256, 0, 50]));
    assert!(
        tortured.verified_pages >= 2_000,
        "{}",
        tortured.verified_pages
    );

    let command = vm.command(&workload(WorkloadKind::Idle, &[]));
    vm.wait_until(Phase::Running, command, LONG).unwrap();
    vm.request_stop();
    vm.wait_until(Phase::Done, command, LONG).unwrap();
    assert_eq!(vm.state(), VmState::Running);
    assert!(!vm.exit_times().is_empty());
}

#[test]
fn a_working_set_larger_than_the_guest_is_refused() {
    let Some(machine) = machine("splash working set") else {
        return;
    };
    let vm = start(&machine, 1);
    // The guest has 8192 pages (32 MiB); the largest number must not wrap into one that fits.
    for pages in [8192, u64::MAX] {
        let touch = workload(WorkloadKind::Touch, &[pages, 5, 10, 50, 10, 10, 20]);
        let (status, message) = finish(&vm, &touch);
        assert_eq!(status.outcome, OUTCOME_FAILED, "{message}");
        assert_eq!((status.operations, status.active_pages), (0, 0));
        let said = format!("a working set of {pages} pages");
        assert!(
            message.contains(&said) && message.contains("does not fit"),
            "{message}"
        );
    }
    // Nearly all of it is fine, whole, and so is what comes after a refusal.
    for pages in [64, 7000] {
        let touch = workload(WorkloadKind::Touch, &[pages, 5, 10, 50, 10, 10, 20]);
        assert_eq!(run(&vm, &touch).active_pages, pages);
    }
}

/// A disk image with some sources, or `None` with a line that says why not.
fn disk(test: &str, folder: &Path) -> Option<PathBuf> {
    let path = folder.join("disk.img");
    let made = std::process::Command::new("mkfs.ext4")
        .args([
            "-q",
            "-F",
            "-b",
            "4096",
            "-d",
            concat!(env!("CARGO_MANIFEST_DIR"), "/src"),
        ])
        .arg(&path)
        .arg("16M")
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("not run: {test}: no mkfs.ext4 (package e2fsprogs)");
        return None;
    }
    Some(path)
}

#[test]
fn a_guest_whose_memory_is_all_wanted_still_reads_its_disk() {
    let test = "splash in a balloon";
    let Some(machine) = machine(test) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = disk(test, folder.path()) else {
        return;
    };
    let mut config = config("poor", 2);
    config.balloon = true;
    config.disks = vec![DiskConfig {
        image: machine.open_image(&path).unwrap(),
        mode: OverlayMode::Nonpersistent,
        scratch: 8 << 20,
    }];
    let vm = machine.create_vm(&config).unwrap();
    vm.start().unwrap();
    vm.wait_until(Phase::Ready, 0, LONG).unwrap();
    // Once with an empty cache, once with one that can be emptied while blocks are in use.
    for pages in [2_000, 20_000] {
        let balloon = vm.balloon().unwrap();
        balloon.set_target(vm.space().pages());
        eventually("most of it is given", || balloon.actual() > 4096);
        let tortured = run(&vm, &workload(WorkloadKind::Torture, &[pages, 96, 256, 30]));
        assert!(tortured.verified_pages >= pages);
        assert!(balloon.actual() > 2048, "it keeps what it can");
    }
}

#[test]
fn a_guest_reads_a_disk_that_another_has_read() {
    let test = "splash with a disk";
    let Some(machine) = machine(test) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = disk(test, folder.path()) else {
        return;
    };
    let image = machine.open_image(&path).unwrap();
    let start = || {
        let mut config = config("reader", 1);
        config.memory = 64 << 20;
        let (image, mode) = (image.clone(), OverlayMode::Nonpersistent);
        config.disks = vec![DiskConfig {
            image,
            mode,
            scratch: 16 << 20,
        }];
        let vm = machine.create_vm(&config).unwrap();
        vm.start().unwrap();
        vm.wait_until(Phase::Ready, 0, LONG).unwrap();
        vm
    };
    let pmake = workload(WorkloadKind::Pmake, &[1, 1, 20]);
    let first = start();
    let one = run(&first, &pmake);
    machine.map_copied_blocks();
    let second = start();
    let two = run(&second, &pmake);
    assert_eq!(one.checksum, two.checksum);
    assert!(one.blocks_read > 0);
    machine.map_copied_blocks();
    let (one, two) = (&first.block_stats()[0], &second.block_stats()[0]);
    assert!(one.image_reads > 0);
    assert_eq!(
        two.image_reads, 0,
        "every block that the second reads is already there"
    );
    assert!(two.mapped_pages > 0);
    machine.verify_images().unwrap();
    assert!(machine.cpu_seconds().device > 0.0);
}

#[test]
fn a_hostile_guest_hurts_nobody_else() {
    let Some(machine) = machine("splash hostile") else {
        return;
    };
    let (hostile, honest) = (start(&machine, 1), start(&machine, 1));
    let attack = hostile.command(&workload(WorkloadKind::Hostile, &[200]));
    let tortured = run(
        &honest,
        &workload(WorkloadKind::Torture, &[2_000, 256, 0, 50]),
    );
    assert!(tortured.verified_pages >= 2_000);
    match hostile.wait_until(Phase::Done, attack, LONG) {
        Ok(()) => {}
        Err(WaitError::Stopped(cause)) => assert!(!cause.to_string().is_empty()),
        Err(error) => panic!("{error}"),
    }
    run(
        &honest,
        &workload(WorkloadKind::Torture, &[2_000, 256, 0, 50]),
    );
}
