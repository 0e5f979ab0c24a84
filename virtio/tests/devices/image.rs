//! Base images: what is refused at opening, and what happens when one changes under a run.

use crate::driver::*;
use mirrorball_virtio::{BaseImage, DiskError, OverlayMode};
use std::fs::{File, FileTimes};
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, SystemTime};

fn refused(path: &std::path::Path) -> String {
    BaseImage::open(path).unwrap_err().to_string()
}

#[test]
fn what_is_no_image_is_refused_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.img");
    assert!(
        refused(&missing).contains("missing.img: No such file"),
        "{}",
        refused(&missing)
    );
    assert!(refused(directory.path()).contains("this is a directory"));
    assert!(refused("/dev/null".as_ref()).contains("this is a device"));
    let empty = file(b"");
    assert!(refused(empty.path()).contains("the disk image is empty"));
}

#[test]
fn an_unchanged_image_verifies_and_each_change_is_named() {
    let content = pattern(3 * 4096);
    let opened = |change: &dyn Fn(&mut File)| {
        let mut file = file(&content);
        let image = open(file.path());
        image.verify_unchanged().unwrap();
        change(file.as_file_mut());
        let fault = image.verify_unchanged().unwrap_err();
        assert!(matches!(fault, DiskError::ImageChanged { .. }) && fault.is_fatal());
        let message = fault.to_string();
        assert!(
            message.starts_with(file.path().to_str().unwrap()),
            "{message}"
        );
        message
    };
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let message = opened(&|file| file.set_len(4096).unwrap());
    assert!(
        message.contains("size went from 12288 to 4096"),
        "{message}"
    );
    let message = opened(&|file| file.set_len(1 << 20).unwrap());
    assert!(message.contains("from 12288 to 1048576"), "{message}");
    let message = opened(&|file| {
        file.set_times(FileTimes::new().set_modified(long_ago))
            .unwrap()
    });
    assert!(message.contains("modification time"), "{message}");
    let message = opened(&|file| {
        let modified = file.metadata().unwrap().modified().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(b"x").unwrap();
        file.set_times(FileTimes::new().set_modified(modified))
            .unwrap();
    });
    assert!(message.contains("change time"), "{message}");
}

#[test]
fn a_changed_image_stops_the_next_guest_that_reads_it() {
    for sharing in [true, false] {
        let content = pattern(8 * 4096);
        let file = file(&content);
        let machine = Machine::new();
        let image = open(file.path());
        let (first, disk) = machine.guest(1, &image);
        let (second, _) = machine.guest(2, &image);
        disk.set_sharing(sharing);
        assert_eq!(first.request(IN, 0, &[(DATA, 4 * 4096)]).0, 0);
        file.as_file().set_len(6 * 4096).unwrap();
        let fault = first
            .try_request(IN, 32, &[(DATA, 4 * 4096)])
            .unwrap_err()
            .to_string();
        assert!(fault.contains("changed while in use"), "{fault}");
        // What was in memory before the change is still right, and needs no image.
        if sharing {
            assert_eq!(second.request(IN, 0, &[(DATA, 4 * 4096)]).0, 0);
            assert!(second.read(DATA, 4 * 4096) == content[..4 * 4096]);
        }
    }
}

#[test]
fn a_partial_write_over_a_changed_image_is_not_done() {
    let file = file(&pattern(8 * 4096));
    let machine = Machine::new();
    let (guest, _) = machine.guest(1, &open(file.path()));
    file.as_file().set_len(4096).unwrap();
    let fault = guest
        .try_request(OUT, 1, &[(DATA, 512)])
        .unwrap_err()
        .to_string();
    assert!(fault.contains("size went from 32768 to 4096"), "{fault}");
}

#[test]
fn an_image_opened_twice_shares_its_blocks() {
    let file = file(&pattern(4 * 4096));
    let machine = Machine::new();
    let (first, _) = machine.guest(1, &open(file.path()));
    let disk = machine.disk(&open(file.path()), OverlayMode::Nonpersistent, 0);
    let (second, second_disk) = machine.guest_of(2, disk);
    assert_eq!(first.request(IN, 0, &[(DATA, 4 * 4096)]).0, 0);
    assert_eq!(second.request(IN, 0, &[(DATA, 4 * 4096)]).0, 0);
    assert_eq!(second_disk.stats().image_reads, 0);
}
