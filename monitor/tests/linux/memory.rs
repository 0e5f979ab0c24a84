//! A guest's memory: what leaves the machine with the balloon and with free pages, and comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mirrorball_monitor::Vm;

use crate::talk::{LONG, able, boot, config, until};

/// A command that waits for its guest's end.
const WAITS: &str = "while [ ! -e /never ]; do sleep 1; done";

/// Waits until this holds; fails the test if it never does.
fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LONG, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Pages that are free by the guest's own account (`MemFree`), asked for now.
fn free(vm: &Arc<Vm>) -> u64 {
    let balloon = vm.balloon().unwrap();
    let before = Instant::now();
    balloon.request_statistics();
    let mut free = None;
    wait("the guest's statistics", || {
        let told = balloon.statistics().filter(|told| told.at > before);
        free = told.and_then(|told| told.free);
        free.is_some()
    });
    free.unwrap() / 4096
}

#[test]
fn a_balloon_takes_memory_out_of_the_machine_and_gives_it_back() {
    const PAGES: u32 = 10_000;
    let Some((machine, folders)) = able("balloon") else {
        return;
    };
    for folder in folders {
        let vm = machine.create_vm(&config("balloon", 1, boot(&folder, &[WAITS])));
        let vm = vm.unwrap();
        vm.start().unwrap();
        until(&vm, "mb ready");
        vm.control_write("go");
        until(&vm, "mb begin 0");
        let balloon = vm.balloon().unwrap();
        let at_first = free(&vm);
        for target in [PAGES, 0] {
            balloon.set_target(target);
            wait("the balloon's target", || balloon.actual() == target);
            vm.space().settle();
            assert_eq!(vm.space().totals().ballooned, u64::from(target));
            // What else the guest does in between moves a few hundred pages.
            let expected = at_first - u64::from(target);
            // Pages that it is just reporting are not free to its own eyes.
            wait("the guest's own account", || {
                free(&vm).abs_diff(expected) < 1000
            });
        }
        vm.stop();
    }
}

#[test]
fn memory_that_a_guest_frees_leaves_the_machine() {
    const PAGES: u64 = 12_000;
    let Some((machine, folders)) = able("free pages") else {
        return;
    };
    for folder in folders {
        let fills = format!(
            "yes mirrorball | head -c {} > /tmp/f; rm /tmp/f",
            PAGES * 4096
        );
        let vm = machine.create_vm(&config("frees", 1, boot(&folder, &[&fills, WAITS])));
        let vm = vm.unwrap();
        vm.start().unwrap();
        until(&vm, "mb ready");
        vm.control_write("go");
        until(&vm, "mb begin 1");
        let reported = || vm.balloon().unwrap().counts().reported;
        // The guest reports blocks of 2 MiB only, some of which are not wholly free.
        wait("free pages reported", || reported() > PAGES / 4 * 3);
        vm.space().settle();
        let totals = vm.space().totals();
        assert!(
            totals.touched < totals.guest_physical - PAGES / 2,
            "{totals:?}"
        );
        vm.stop();
    }
}
