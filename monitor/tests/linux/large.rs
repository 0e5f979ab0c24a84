//! Large pages below a kernel that runs: fewer faults, the same bytes, and books that the kernel agrees
//! with.

use super::talk::{LONG, able, boot, config, digits, output, until};
use mirrorball_dedup::{Scanner, ScannerConfig};
use mirrorball_monitor::{Machine, StopCause, Vm};
use mirrorball_pmap::{PAGE_BYTES, Pmap};
use std::path::Path;
use std::sync::Arc;

/// Makes files of the guest's memory, and drops some.
const WORK: &str =
    "for f in a b c d; do seq 1 40000 > /tmp/$f; done; rm /tmp/a; sha256sum /tmp/b /tmp/d";

/// A guest that has done its work and is quiet.
fn worked(machine: &Arc<Machine>, folder: &Path, name: &str, large: bool) -> Arc<Vm> {
    let vm = machine.create_vm(&config(name, 1, boot(folder, &[WORK])));
    let vm = vm.unwrap();
    if large {
        vm.space().allow_large_pages().unwrap();
    }
    vm.start().unwrap();
    until(&vm, "mb ready");
    vm.control_write("go");
    let numbers: String = (1..=40_000).map(|number| format!("{number}\n")).collect();
    let sums = output(&until(&vm, "mb done"), 0);
    assert_eq!(sums.lines().count(), 2, "{sums}");
    let right = digits(numbers.as_bytes());
    assert!(sums.lines().all(|line| line.starts_with(&right)), "{sums}");
    vm
}

/// Books and kernel differ by less than 1 %.
fn check_books(pmap: &Pmap) {
    pmap.settle_all();
    let (books, kernel) = (pmap.totals(), pmap.kernel_account().unwrap());
    let gap = (books.used() * PAGE_BYTES).abs_diff(kernel.total());
    assert!(gap * 100 < kernel.total(), "{books:?} {kernel:?}");
}

#[test]
fn large_pages_save_faults_and_are_broken_where_memory_is_shared() {
    let Some((machine, folders)) = able("large pages") else {
        return;
    };
    let vms = [
        worked(&machine, &folders[0], "small", false),
        worked(&machine, &folders[0], "large", true),
        worked(&machine, &folders[0], "large-too", true),
    ];
    vms.iter().for_each(|vm| vm.pause());
    check_books(machine.pmap());
    let faults: Vec<_> = vms.iter().map(|vm| vm.guest_faults()).collect();
    if let [Some(small), Some(large), _] = faults[..] {
        assert!(large < small / 2, "{faults:?}");
    }
    let mut scanner = Scanner::new(machine.pmap().clone(), &ScannerConfig::default());
    for _ in 0..3 {
        scanner.pass();
        check_books(machine.pmap());
    }
    let totals: Vec<_> = vms.iter().map(|vm| vm.space().totals()).collect();
    eprintln!("faults {faults:?}, {totals:?}");
    assert!(totals.iter().all(|one| one.mapped > 1000), "{totals:?}");
    // What large pages took beside what guests use has gone back.
    assert!(totals[1].private < totals[0].private * 3 / 2, "{totals:?}");
    vms.iter().for_each(|vm| vm.resume());
    for vm in &vms {
        vm.control_write("stop");
        assert_eq!(vm.wait_stopped(LONG), Ok(StopCause::PoweredOff));
    }
}
