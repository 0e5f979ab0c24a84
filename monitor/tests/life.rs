//! The life of VMs, with guests that do one thing each.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{
    EXIT, LONG, NULL, PANIC, READY, SPIN, WAIT, config, eventually, guest, held, machine,
};
use mirrorball_abi::Phase;
use mirrorball_monitor::{Machine, MachineConfig, MonitorError, StopCause, VmState, WaitError};

#[test]
fn a_missing_kvm_is_said_clearly() {
    let path = std::path::Path::new("/dev/no-such-kvm");
    let error = Machine::with_kvm(&MachineConfig::default(), path).unwrap_err();
    assert!(matches!(error, MonitorError::KvmMissing(_)));
    assert!(
        error
            .to_string()
            .contains("/dev/no-such-kvm does not exist"),
        "{error}"
    );
}

#[test]
fn a_guest_boots_waits_and_ends_on_request() {
    let Some(machine) = machine("boots, waits, ends") else {
        return;
    };
    let elf = guest("sleeper", &[READY, WAIT]);
    for vcpus in [1, 4] {
        let vm = machine
            .create_vm_from(&config("sleeper", vcpus), &elf)
            .unwrap();
        assert_eq!(vm.state(), VmState::Created);
        vm.start().unwrap();
        vm.wait_until(Phase::Ready, 0, LONG).unwrap();
        assert_eq!(vm.state(), VmState::Running);
        assert_eq!(
            vm.wait_until(Phase::Done, 1, Duration::from_millis(1)),
            Err(WaitError::TimedOut)
        );
        eventually("each vCPU has reported its phase", || {
            vm.exit_times().len() == u64::from(vcpus)
        });
        vm.stop();
        assert_eq!(vm.state(), VmState::Stopped(StopCause::Requested));
        assert!(vm.cpu_seconds() > 0.0);
        machine.remove_vm(vm.id());
    }
    assert!(machine.vms().is_empty());
    assert!(machine.cpu_seconds().vcpu > 0.0);
}

#[test]
fn a_pause_holds_a_spinning_guest_and_a_stop_ends_it() {
    let Some(machine) = machine("pause and stop while spinning") else {
        return;
    };
    let elf = guest("spinner", &[READY, SPIN]);
    let vm = machine.create_vm_from(&config("spinner", 2), &elf).unwrap();
    vm.start().unwrap();
    vm.wait_until(Phase::Ready, 0, LONG).unwrap();
    let spins = || vm.status().operations;
    eventually("spins", || spins() > 1000);

    vm.pause();
    assert_eq!(vm.state(), VmState::Paused);
    let held = spins();
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(spins(), held);

    vm.resume();
    eventually("spins on", || spins() > held);
    vm.stop();
    let last = spins();
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(spins(), last);
    assert!(vm.kick_times().len() >= 2, "{:?}", vm.kick_times());
}

#[test]
fn a_fault_names_its_function_and_ends_its_own_vm_only() {
    let Some(machine) = machine("fault") else {
        return;
    };
    let spinner = machine.create_vm_from(&config("spinner", 1), &guest("spinner", &[READY, SPIN]));
    let spinner = spinner.unwrap();
    spinner.start().unwrap();
    let elf = guest("reads_null", &[READY, NULL]);
    let vm = machine.create_vm_from(&config("faulty", 1), &elf).unwrap();
    vm.start().unwrap();
    let cause = common::wait_stopped(&vm);
    let StopCause::Fault { rip, symbol, .. } = &cause else {
        panic!("{cause}")
    };
    // KVM on AMD resets the vCPU before it tells; then the cause says so.
    if rip.is_some() {
        assert_eq!(symbol.as_deref(), Some("reads_null+0x13"), "{cause}");
    }
    let before = spinner.status().operations;
    eventually("the other goes on", || spinner.status().operations > before);
    assert_eq!(spinner.state(), VmState::Running);
}

#[test]
fn panics_and_exits_are_reported() {
    let Some(machine) = machine("panic and exit") else {
        return;
    };
    let stops = |name: &str, code: &[u8]| {
        let vm = machine
            .create_vm_from(&config(name, 1), &guest(name, &[code]))
            .unwrap();
        vm.start().unwrap();
        // It crashes at boot, so whoever waits for it to be ready is told why it never will be.
        match vm.wait_until(Phase::Ready, 0, LONG) {
            Err(WaitError::Stopped(cause)) => cause,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(stops("panics", PANIC), StopCause::Panicked { .. }));
    assert!(matches!(stops("faults", NULL), StopCause::Fault { .. }));
    assert_eq!(stops("exits", EXIT), StopCause::Exited(7));
}

#[test]
fn a_guest_writes_on_while_its_pages_are_fenced() {
    let Some(machine) = machine("fences") else {
        return;
    };
    let vm = machine.create_vm_from(&config("spinner", 1), &guest("spinner", &[READY, SPIN]));
    let vm = vm.unwrap();
    vm.start().unwrap();
    vm.wait_until(Phase::Ready, 0, LONG).unwrap();
    // The page changes all the time, so it is never zero, but each try raises the fence.
    // One exit reported the phase; another is one that met a fence, waited for it and ran again.
    eventually("a fence is met", || {
        let page = mirrorball_pmap::PpnRun::new(mirrorball_pmap::Ppn(2), 1);
        let outcome = vm.space().release_zero(&[page]);
        assert_eq!(outcome.released, 0);
        vm.exit_times().len() > 10
    });
    let before = vm.status().operations;
    eventually("spins on", || vm.status().operations > before);
    assert_eq!(vm.state(), VmState::Running);
}

#[test]
fn instructions_that_a_guest_may_not_use_end_at_most_their_vm() {
    let Some(machine) = machine("wild instructions") else {
        return;
    };
    let wild: [(&str, &[u8]); 12] = [
        ("syscall", &[0x0f, 0x05]),
        ("sysenter", &[0x0f, 0x34]),
        ("int 0x80", &[0xcd, 0x80]),
        ("int3", &[0xcc]),
        ("hlt", &[0xf4]),
        ("cli", &[0xfa]),
        ("ud2", &[0x0f, 0x0b]),
        ("vmcall", &[0x0f, 0x01, 0xc1]),
        ("wrmsr", &[0x0f, 0x30]),
        // mov rax, 0x8000_0000_0000_0000; jmp rax
        (
            "jump out of the address space",
            &[0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0xe0],
        ),
        // mov eax, 0xd01ffffc; mov [rax], eax; mov rax, [rax]: device window without a device
        (
            "empty device window",
            &[0xb8, 0xf8, 0xff, 0x1f, 0xd0, 0x89, 0x00, 0x48, 0x8b, 0x00],
        ),
        // mov esi, 0x200000; mov ecx, 9; mov edx, 0x700; rep outsb; in eax, dx
        (
            "string output to no port",
            &[
                0xbe, 0, 0, 0x20, 0, 0xb9, 9, 0, 0, 0, 0xba, 0, 7, 0, 0, 0xf3, 0x6e, 0xed,
            ],
        ),
    ];
    for (name, code) in wild {
        let vm = machine
            .create_vm_from(&config(name, 1), &guest("wild", &[code, EXIT]))
            .unwrap();
        vm.start().unwrap();
        eprintln!("{name}: {}", common::wait_stopped(&vm));
        machine.remove_vm(vm.id());
    }
    let vm = machine
        .create_vm_from(&config("exits", 1), &guest("exits", &[EXIT]))
        .unwrap();
    vm.start().unwrap();
    assert_eq!(common::wait_stopped(&vm), StopCause::Exited(7));
}

#[test]
fn guests_share_their_boot_frames() {
    let Some(machine) = machine("boot frames") else {
        return;
    };
    let elf = guest("sleeper", &[READY, WAIT]);
    let start = || {
        let vm = machine.create_vm_from(&config("sleeper", 1), &elf).unwrap();
        vm.start().unwrap();
        vm.wait_until(Phase::Ready, 0, LONG).unwrap();
        machine.pmap().settle_all();
        machine.pmap().totals()
    };
    let (one, two) = (start(), start());
    assert!(one.mapped > 1);
    assert_eq!(two.mapped, 2 * one.mapped);
    assert_eq!(
        two.frames, one.frames,
        "the second guest needs no frames of its own"
    );
    assert_eq!(
        two.reclaimed, one.mapped,
        "all that the second maps is saved"
    );
}

#[test]
fn a_machine_without_sharing_saves_nothing_from_the_boot_image_on() {
    let Some(machine) = common::machine_with("boot copies", false) else {
        return;
    };
    let elf = guest("sleeper", &[READY, WAIT]);
    for name in ["first", "second"] {
        let vm = machine.create_vm_from(&config(name, 1), &elf).unwrap();
        vm.start().unwrap();
        vm.wait_until(Phase::Ready, 0, LONG).unwrap();
    }
    machine.pmap().settle_all();
    let totals = machine.pmap().totals();
    assert_eq!((totals.mapped, totals.frames, totals.reclaimed), (0, 0, 0));
    assert!(
        totals.private > 4,
        "each guest has its own image and tables"
    );

    machine.set_disk_sharing(true);
    let vm = machine.create_vm_from(&config("third", 1), &elf).unwrap();
    assert!(
        vm.space().totals().mapped > 1,
        "a guest made after sharing was turned on shares its image"
    );
}

#[test]
fn two_hundred_vms_leave_nothing_behind() {
    // Another test's threads and machines would be counted too, so this runs in its own process.
    const CHILD: &str = "MIRRORBALL_LEAK_TEST";
    if std::env::var_os(CHILD).is_none() {
        let name = "two_hundred_vms_leave_nothing_behind";
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let Some(machine) = machine("leaks") else {
        return;
    };
    let elf = guest("sleeper", &[READY, WAIT]);
    let round = |count: u32| {
        let vms: Vec<Arc<_>> = (0..count)
            .map(|_| {
                let mut config = config("sleeper", 1);
                config.console = true;
                let vm = machine.create_vm_from(&config, &elf).unwrap();
                vm.start().unwrap();
                vm
            })
            .collect();
        for vm in vms {
            vm.wait_until(Phase::Ready, 0, LONG).unwrap();
            machine.remove_vm(vm.id());
        }
    };
    // The first round fills caches: thread stacks, the allocator's arenas, the boot image.
    round(50);
    let (files, maps) = held();
    (0..4).for_each(|_| round(50));
    let (files_after, maps_after) = held();
    assert_eq!(files_after, files);
    assert!(
        maps_after <= maps + 8,
        "{maps} mappings became {maps_after}"
    );
    assert_eq!(
        std::fs::read_dir("/proc/self/task").unwrap().count(),
        2 + 2 + 1,
        "the test's threads, the device workers and the disk mapper: no vCPU threads"
    );
}

#[test]
fn vms_come_and_go_from_several_threads_at_once() {
    let Some(machine) = machine("several threads") else {
        return;
    };
    machine.reserve_vms(5).unwrap();
    let elf = guest("sleeper", &[READY, WAIT]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..8 {
                    let vm = machine.create_vm_from(&config("sleeper", 1), &elf).unwrap();
                    vm.start().unwrap();
                    vm.wait_until(Phase::Ready, 0, LONG).unwrap();
                    vm.pause();
                    machine.remove_vm(vm.id());
                    assert_eq!(vm.state(), VmState::Stopped(StopCause::Requested));
                }
            });
        }
    });
    assert!(machine.vms().is_empty());
    let totals = machine.pmap().totals();
    assert_eq!((totals.guest_physical, totals.mapped), (0, 0));
}
