//! The control channel as a stream: whole, one guest's process at a time, and not needed.

use mirrorball_monitor::StopCause;

use crate::talk::{LONG, able, boot, config, exit_code, output, until};

/// Succeeds if the control port can be connected to.
const CONNECT: &str = "/bin/connect /bin/sh -c '[ -e /proc/self/fd/3 ]'";

#[test]
fn all_that_a_guest_says_arrives_on_its_stream_and_no_other_process_gets_one() {
    let Some((machine, folders)) = able("stream") else {
        return;
    };
    for folder in folders {
        let commands = ["seq 1 15000 | head -c 65536", CONNECT];
        let vm = machine.create_vm(&config("talks", 1, boot(&folder, &commands)));
        let vm = vm.unwrap();
        vm.start().unwrap();
        until(&vm, "mb ready");
        assert!(vm.control_connected(), "{}", vm.console_tail());
        vm.control_write("go");
        let lines = until(&vm, "mb done");
        let numbers: String = (1..=15_000).map(|number| format!("{number}\n")).collect();
        assert!(output(&lines, 0) == numbers[..65536]);
        assert_eq!(exit_code(&lines, 1), Some("1"), "a second stream");
        vm.control_write("stop");
        assert_eq!(vm.wait_stopped(LONG), Ok(StopCause::PoweredOff));
        assert!(!vm.console_tail().contains("could not be loaded"));
    }
}

#[test]
fn a_guest_without_a_socket_device_talks_on_its_console() {
    let Some((machine, folders)) = able("console instead") else {
        return;
    };
    let mut boot = boot(&folders[0], &[CONNECT]);
    boot.devices.vsock = false;
    let vm = machine.create_vm(&config("types", 1, boot)).unwrap();
    vm.start().unwrap();
    until(&vm, "mb ready");
    assert!(!vm.control_connected());
    vm.control_write("go");
    assert_eq!(exit_code(&until(&vm, "mb done"), 0), Some("1"));
    vm.control_write("stop");
    assert_eq!(vm.wait_stopped(LONG), Ok(StopCause::PoweredOff));
}
