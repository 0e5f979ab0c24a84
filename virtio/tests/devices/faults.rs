//! Overlays that can't be used, and a host that has no more room.

use crate::driver::*;
use mirrorball_pmap::GroupId;
use mirrorball_virtio::{BaseImage, Disk, DiskError, OverlayMode};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

fn try_open(
    machine: &Machine,
    image: &Arc<BaseImage>,
    path: &Path,
    scratch: u64,
) -> Result<Disk, DiskError> {
    let mode = OverlayMode::Persistent(path.to_owned());
    Disk::new(
        Arc::clone(image),
        Arc::clone(&machine.cache),
        GroupId(0),
        mode,
        scratch,
    )
}

/// An overlay with one block written, closed.
fn made(machine: &Machine, image: &Arc<BaseImage>, path: &Path) {
    let disk = machine.disk(image, OverlayMode::Persistent(path.to_owned()), 0);
    disk.write_zeroes(0, PAGE).unwrap();
}

#[test]
fn an_overlay_in_use_is_refused_and_free_again_afterwards() {
    let file = file(&pattern(4096));
    let image = open(file.path());
    let machine = Machine::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("overlay");
    let disk = try_open(&machine, &image, &path, 0).unwrap();
    let fault = try_open(&machine, &image, &path, 0).unwrap_err();
    assert!(matches!(fault, DiskError::OverlayInUse { .. }), "{fault}");
    drop(disk);
    try_open(&machine, &image, &path, 0).unwrap();
}

#[test]
fn an_overlay_of_another_disk_is_refused() {
    let (right, longer) = (file(&pattern(8192)), file(&pattern(8193)));
    let mut other = pattern(8192);
    other[5000] ^= 1;
    let other = file(&other);
    let machine = Machine::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("overlay");
    made(&machine, &open(right.path()), &path);
    for (image, scratch, reason) in [
        (
            &longer,
            0,
            "its base image had 8192 bytes, this one has 8193",
        ),
        (&other, 0, "another content"),
        (
            &right,
            PAGE,
            "a disk of 2 blocks with its scratch space, this one has 3",
        ),
    ] {
        let fault = try_open(&machine, &open(image.path()), &path, scratch)
            .unwrap_err()
            .to_string();
        assert!(
            fault.contains(reason) && fault.contains("overlay"),
            "{fault}"
        );
    }
    try_open(&machine, &open(right.path()), &path, 0).unwrap();
}

#[test]
fn a_damaged_overlay_is_refused() {
    let file = file(&pattern(8192));
    let image = open(file.path());
    let machine = Machine::new();
    let directory = tempfile::tempdir().unwrap();
    type Damage = fn(&std::fs::File);
    let damages: [(&str, Damage, &str); 6] = [
        (
            "magic",
            |file| file.write_all_at(b"X", 0).unwrap(),
            "does not begin like one",
        ),
        (
            "version",
            |file| file.write_all_at(&[9], 8).unwrap(),
            "another version",
        ),
        (
            "field",
            |file| file.write_all_at(&[9], 24).unwrap(),
            "header is damaged",
        ),
        (
            "bitmap",
            |file| file.write_all_at(&[0xff], 4096).unwrap(),
            "bitmap is damaged",
        ),
        (
            "cut",
            |file| file.set_len(8192).unwrap(),
            "size is not what its header says",
        ),
        ("stub", |file| file.set_len(20).unwrap(), "too short"),
    ];
    for (name, damage, reason) in damages {
        let path = directory.path().join(name);
        made(&machine, &image, &path);
        damage(&std::fs::File::options().write(true).open(&path).unwrap());
        let fault = try_open(&machine, &image, &path, 0)
            .unwrap_err()
            .to_string();
        assert!(fault.contains(reason) && fault.contains(name), "{fault}");
    }
    let fault = try_open(&machine, &image, directory.path(), 0)
        .unwrap_err()
        .to_string();
    assert!(fault.contains("Is a directory"), "{fault}");
    let fault = try_open(&machine, &image, "/dev/null".as_ref(), 0)
        .unwrap_err()
        .to_string();
    assert!(fault.contains("not a regular file"), "{fault}");
}

/// The directory that the test's second process works in.
const DIRECTORY: &str = "MIRRORBALL_TEST_DIRECTORY";
/// Scratch space of the test's disks, beyond the limit of the second process.
const ROOMY: u64 = 1 << 30;

/// A limit on file sizes stands for a full disk: both come back from the write. It counts for a
/// whole process, hence a process of its own, with an overlay that was made before.
#[test]
fn no_room_for_writes_is_an_error_status_and_named_in_the_statistics() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return no_room(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    std::fs::write(&image, pattern(4 * 4096)).unwrap();
    let overlay = directory.path().join("overlay");
    try_open(&Machine::new(), &open(&image), &overlay, ROOMY).unwrap();
    let name = "faults::no_room_for_writes_is_an_error_status_and_named_in_the_statistics";
    // 300 MiB in the shell's units of 512 bytes: enough for the frame store.
    let output = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 614400; exec \"$0\" --exact \"$1\"",
        ])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

fn no_room(directory: &Path) {
    let image = open(&directory.join("image"));
    let machine = Machine::new();
    let last = ROOMY / 512;
    let persistent = try_open(&machine, &image, &directory.join("overlay"), ROOMY).unwrap();
    let temporary = machine.disk(&image, OverlayMode::Nonpersistent, ROOMY);
    for (vm, disk) in (0..).zip([persistent, temporary]) {
        let (guest, block) = machine.guest_of(vm, disk);
        guest.write(DATA, &[7; 4096]);
        assert_eq!(guest.request(OUT, last, &[(DATA, 4096)]), (1, 1));
        let stats = block.stats();
        let reason = stats.last_error.unwrap_or_default();
        assert_eq!(stats.errors, 1);
        assert!(
            reason.contains("disk overlay") && reason.contains("File too large"),
            "{reason}"
        );
        // The block is still the image's, and the guest goes on.
        assert_eq!(guest.request(IN, last, &[(DATA, 4096)]), (0, 4097));
        assert_eq!(guest.read(DATA, 4096), [0; 4096]);
        assert_eq!(guest.request(FLUSH, 0, &[]), (0, 1));
        assert_eq!(guest.request(IN, 0, &[(DATA, 4 * 4096)]).0, 0);
        assert!(guest.read(DATA, 4 * 4096) == pattern(4 * 4096));
    }
}
