//! A guest's disk: what is read is true, and what was flushed outlives the monitor.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use mirrorball_monitor::{DiskConfig, Machine, VmConfig};
use mirrorball_virtio::OverlayMode;

use crate::talk::{able, boot, config, digits, exit_code, output, skip, until};

/// Names the folder that the test's second process works in.
const FOLDER: &str = "MIRRORBALL_TEST_FOLDER";
/// What the guest writes and flushes, and how much of it there is, bytes.
const WRITES: &str =
    "seq 1 300000 | head -c 1048576 | dd of=/dev/vda bs=64k iflag=fullblock conv=fsync,notrunc";
const WRITTEN: usize = 1 << 20;

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
    let digits = digits(&bytes);
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

/// A guest whose only disk is the image in `folder` below a persistent overlay there.
fn persistent(machine: &Machine, folder: &Path, guest: &Path, commands: &[&str]) -> VmConfig {
    let mut config = config("writer", 1, boot(guest, commands));
    config.disks.push(DiskConfig {
        image: machine.open_image(&folder.join("base")).unwrap(),
        mode: OverlayMode::Persistent(folder.join("overlay")),
        scratch: 0,
    });
    config
}

#[test]
fn what_a_guest_flushed_outlives_a_kill_of_the_monitor() {
    let Some((machine, guests)) = able("flush and kill") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let base = vec![0x5a; 2 * WRITTEN];
    std::fs::write(folder.path().join("base"), &base).unwrap();
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "disk::writes_until_it_is_killed",
        ])
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(writer.stdout.take().unwrap());
    let flushed = said.lines().any(|line| line.unwrap().contains("flushed"));
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(flushed, "the writer ended early");

    let reads = format!("head -c {WRITTEN} /dev/vda | sha256sum");
    let config = persistent(&machine, folder.path(), &guests[0], &[&reads]);
    let vm = machine.create_vm(&config).unwrap();
    vm.start().unwrap();
    until(&vm, "mb ready");
    vm.control_write("go");
    let lines = until(&vm, "mb done");
    let numbers: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    let expected = digits(&numbers.as_bytes()[..WRITTEN]);
    assert_eq!(output(&lines, 0), format!("{expected}  -\n"));
    assert_eq!(std::fs::read(folder.path().join("base")).unwrap(), base);
}

#[test]
#[ignore = "the process that another test starts and kills"]
fn writes_until_it_is_killed() {
    let Some((machine, guests)) = able("writer") else {
        return;
    };
    let Some(folder) = std::env::var_os(FOLDER) else {
        return skip("writer", "another test starts it");
    };
    // The second command is under way, with writes that nobody flushed, when the kill comes.
    let commands = [
        WRITES,
        "while :; do dd if=/dev/zero of=/dev/vda bs=64k seek=16 count=16; done",
    ];
    let config = persistent(&machine, Path::new(&folder), &guests[0], &commands);
    let vm = machine.create_vm(&config).unwrap();
    vm.start().unwrap();
    until(&vm, "mb ready");
    vm.control_write("go");
    let lines = until(&vm, "mb begin 1");
    assert_eq!(exit_code(&lines, 0), Some("0"), "{}", output(&lines, 0));
    println!("flushed");
    until(&vm, "mb end 1");
}
