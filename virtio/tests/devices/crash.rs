//! Persistent overlays and processes or hosts that end at any moment.
//!
//! After a crash each sector holds what it held at the last completed flush, or what a later write
//! put there; a file that is not whole is refused. Nothing else may ever be read. Processes are
//! really killed; for a host that loses power, files are put together from what was on the disk
//! before and what was on its way there.

use crate::driver::*;
use crate::sectors::{BLOCKS, IMAGE_BLOCKS, SCRATCH, Sectors, Step, WINDOWS, step};
use mirrorball_pmap::GroupId;
use mirrorball_virtio::{BaseImage, Disk, DiskError, OverlayMode};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// The directory that the killed process works in, and the number of its first step.
const DIRECTORY: &str = "MIRRORBALL_TEST_CRASH_DIRECTORY";
const FIRST: &str = "MIRRORBALL_TEST_CRASH_FIRST";
const NAME: &str = "crash::a_killed_process_leaves_every_flushed_write";

fn try_open(machine: &Machine, image: &Arc<BaseImage>, overlay: &Path) -> Result<Disk, DiskError> {
    let mode = OverlayMode::Persistent(overlay.to_owned());
    let (image, cache) = (Arc::clone(image), Arc::clone(&machine.cache));
    Disk::new(image, cache, GroupId(0), mode, SCRATCH)
}

/// Carries one step out on a guest's disk.
fn carry_out(guest: &Guest, number: u64, step: Step) {
    let request = |kind, sector, data: &[(u64, u32)]| {
        assert_eq!(guest.request(kind, sector, data).0, 0, "{number}: {step:?}");
    };
    match &step {
        Step::Write(sectors) => {
            let data = Sectors::content(number, sectors.clone());
            guest.write(DATA, &data);
            request(
                OUT,
                sectors.start,
                &[(DATA, u32::try_from(data.len()).unwrap())],
            );
        }
        Step::Zero(sectors) | Step::Discard(sectors) => {
            let count = sectors.end - sectors.start;
            let mut range = Vec::from(sectors.start.to_le_bytes());
            range.extend(count.to_le_bytes());
            guest.write(DATA, &range);
            let discard = matches!(step, Step::Discard(_));
            request(
                if discard { DISCARD } else { WRITE_ZEROES },
                0,
                &[(DATA, 16)],
            );
        }
        Step::Flush => request(FLUSH, 0, &[]),
    }
}

/// Reads what the test writes to and compares it with what may be there.
fn check(guest: &Guest, sectors: &mut Sectors) {
    for window in WINDOWS {
        let bytes = u32::try_from((window.end - window.start) * PAGE).unwrap();
        let first = window.start * 8;
        assert_eq!(guest.request(IN, first, &[(DATA, bytes)]).0, 0);
        sectors.check(first, &guest.read(DATA, bytes as usize));
    }
}

fn image_in(directory: &Path) -> Arc<BaseImage> {
    open(&directory.join("image"))
}

fn directory_with_image() -> (tempfile::TempDir, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let content = pattern(usize::try_from(IMAGE_BLOCKS * PAGE).unwrap());
    std::fs::write(directory.path().join("image"), &content).unwrap();
    (directory, content)
}

/// What the second process does until it is killed: a line before and after each step.
fn work(directory: &Path, first: u64) {
    let machine = Machine::new();
    let image = image_in(directory);
    let say = |what: &str, number: u64| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "step {what} {number}").unwrap();
    };
    say("open", 0);
    let disk = try_open(&machine, &image, &directory.join("overlay")).unwrap();
    let (guest, _) = machine.guest_of(1, disk);
    for number in first.. {
        say("begin", number);
        carry_out(&guest, number, step(number));
        say("end", number);
    }
}

fn start(directory: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills the process once it has said `lines` lines; answers all that it got to say.
fn killed_after(mut child: Child, lines: usize) -> Vec<(String, u64)> {
    let mut said = Vec::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while out.read_line(&mut line).unwrap() > 0 {
        if let Some((_, step)) = line.trim_end().split_once("step ") {
            let (what, number) = step.split_once(' ').unwrap();
            said.push((what.to_owned(), number.parse().unwrap()));
            if said.len() == lines {
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "{status}: {said:?}");
    said
}

#[test]
fn a_killed_process_leaves_every_flushed_write() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let first = std::env::var(FIRST).unwrap().parse().unwrap();
        return work(Path::new(&directory), first);
    }
    let (directory, content) = directory_with_image();
    let image = image_in(directory.path());
    let overlay = directory.path().join("overlay");
    let machine = Machine::new();
    let mut sectors = Sectors::new(&content);
    let (mut first, mut flushes) = (1, 0);
    for (vm, lines) in (0..).zip([2, 3, 4, 5, 7, 10, 16, 25, 40, 63, 100, 160, 250, 400, 630]) {
        let said = killed_after(start(directory.path(), first), lines);
        for (what, number) in &said {
            match what.as_str() {
                "begin" => sectors.begun(*number, &step(*number)),
                "end" => flushes += u32::from(sectors.ended(&step(*number))),
                _ => continue,
            }
            first = number + 1;
        }
        let disk = try_open(&machine, &image, &overlay).unwrap();
        let (guest, _) = machine.guest_of(vm, disk);
        check(&guest, &mut sectors);
    }
    assert!(flushes > 100, "{flushes}");
    assert!(std::fs::read(directory.path().join("image")).unwrap() == content);
}

#[test]
fn a_process_killed_while_it_makes_an_overlay_leaves_a_usable_or_a_refused_one() {
    let (directory, content) = directory_with_image();
    let image = image_in(directory.path());
    let overlay = directory.path().join("overlay");
    let machine = Machine::new();
    for vm in 0..12 {
        let said = killed_after(start(directory.path(), 1), 1);
        match try_open(&machine, &image, &overlay) {
            Ok(disk) => {
                let mut sectors = Sectors::new(&content);
                for (_, number) in said.iter().filter(|(what, _)| what == "begin") {
                    sectors.begun(*number, &step(*number));
                }
                let (guest, _) = machine.guest_of(vm, disk);
                check(&guest, &mut sectors);
            }
            Err(error) => assert!(error.to_string().contains("never finished"), "{error}"),
        }
        std::fs::remove_file(&overlay).unwrap();
    }
}

/// An overlay's file before some steps, after them, and after the flush that followed; and what its
/// sectors may hold in the meantime.
struct Flushed {
    directory: tempfile::TempDir,
    image: Arc<BaseImage>,
    machine: Machine,
    before: Vec<u8>,
    written: Vec<u8>,
    after: Vec<u8>,
    sectors: Sectors,
    vms: std::cell::Cell<u32>,
}

/// Bytes of the header; where the bitmap and the data begin in the file.
const HEADER: usize = 8 + 4 * 8 + 2 * 32;
const BITMAP: usize = 4096;
const DATA_START: usize = BITMAP + BITMAP_PAGES * 4096;
const BITMAP_PAGES: usize = 2;
/// Bytes of the whole file.
const FILE: u64 = DATA_START as u64 + BLOCKS * PAGE;

/// Offsets in the file of what a test looks at, one after the other: header, bitmap, and the data of
/// the blocks it writes to.
fn pieces() -> [std::ops::Range<u64>; 3] {
    let data = DATA_START as u64;
    let [one, two] = WINDOWS.map(|window| data + window.start * PAGE..data + window.end * PAGE);
    [0..data, one, two]
}

/// What a test looks at of an overlay's file.
fn snapshot(path: &Path) -> Vec<u8> {
    let file = std::fs::File::open(path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), FILE);
    pieces()
        .into_iter()
        .flat_map(|piece| {
            let mut bytes = vec![0; usize::try_from(piece.end - piece.start).unwrap()];
            file.read_exact_at(&mut bytes, piece.start).unwrap();
            bytes
        })
        .collect()
}

/// The file of a snapshot, cut or grown to `len` bytes.
fn restore(path: &Path, mut bytes: &[u8], len: u64) {
    let file = std::fs::File::create(path).unwrap();
    for piece in pieces() {
        let (here, rest) = bytes.split_at(usize::try_from(piece.end - piece.start).unwrap());
        file.write_all_at(here, piece.start).unwrap();
        bytes = rest;
    }
    file.set_len(len).unwrap();
}

impl Flushed {
    fn new() -> Self {
        let (directory, content) = directory_with_image();
        let image = image_in(directory.path());
        let overlay = directory.path().join("overlay");
        let machine = Machine::new();
        let disk = try_open(&machine, &image, &overlay).unwrap();
        let (guest, _) = machine.guest_of(0, disk);
        let some = |numbers: std::ops::Range<u64>| {
            for number in numbers {
                let step = step(number);
                if step != Step::Flush {
                    carry_out(&guest, number, step);
                }
            }
        };
        some(1..8);
        carry_out(&guest, 0, Step::Flush);
        let before = snapshot(&overlay);
        some(8..24);
        let written = snapshot(&overlay);
        carry_out(&guest, 0, Step::Flush);
        let after = snapshot(&overlay);
        let mut sectors = Sectors::new(&content);
        for number in (1..24).filter(|number| step(*number) != Step::Flush) {
            sectors.begun(number, &step(number));
            if number == 7 {
                sectors.ended(&Step::Flush);
            }
        }
        drop(guest);
        Self {
            directory,
            image,
            machine,
            before,
            written,
            after,
            sectors,
            vms: std::cell::Cell::new(1),
        }
    }

    /// Checks the disk whose overlay's file has these bytes.
    fn check(&self, bytes: &[u8], mut sectors: Sectors) {
        let path = self.directory.path().join("crashed");
        restore(&path, bytes, FILE);
        let disk = try_open(&self.machine, &self.image, &path).unwrap();
        let vm = self.vms.replace(self.vms.get() + 1);
        let (guest, _) = self.machine.guest_of(vm, disk);
        check(&guest, &mut sectors);
        drop(guest);
        std::fs::remove_file(path).unwrap();
    }

    fn refusal(&self, bytes: &[u8], len: u64) -> String {
        let path = self.directory.path().join("torn");
        restore(&path, bytes, len);
        let fault = try_open(&self.machine, &self.image, &path).unwrap_err();
        assert!(matches!(fault, DiskError::OverlayInvalid { .. }), "{fault}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
        fault.to_string()
    }
}

/// `old` with some of the pieces of `new` in which they differ, picked by `seed`.
fn mixed(old: &[u8], new: &[u8], seed: u64) -> Vec<u8> {
    let mut mixed = old.to_vec();
    let pieces = mixed.chunks_mut(512).zip(new.chunks(512));
    for (index, (piece, new)) in (0..).zip(pieces) {
        if *piece != *new && crate::sectors::hash(seed << 32 | index) & 1 == 0 {
            piece.copy_from_slice(new);
        }
    }
    mixed
}

#[test]
fn power_lost_before_the_data_is_on_the_disk_shows_old_or_new_sectors() {
    let flushed = Flushed::new();
    // Else the order of what reaches the disk would be the kernel's choice.
    assert!(
        flushed.before[..DATA_START] == flushed.written[..DATA_START],
        "only a flush changes the bitmap"
    );
    assert!(flushed.before[DATA_START..] != flushed.written[DATA_START..]);
    for seed in 0..24 {
        let file = mixed(&flushed.before, &flushed.written, seed);
        flushed.check(&file, flushed.sectors.clone());
    }
}

#[test]
fn power_lost_while_the_bitmap_is_written_shows_old_or_new_blocks() {
    let flushed = Flushed::new();
    assert!(
        flushed.written[DATA_START..] == flushed.after[DATA_START..],
        "a flush moves no data"
    );
    assert!(flushed.written[BITMAP..DATA_START] != flushed.after[BITMAP..DATA_START]);
    let differing: Vec<usize> = (BITMAP..DATA_START)
        .filter(|&at| flushed.written[at] != flushed.after[at])
        .collect();
    // Torn at each byte that changes, from either end; a disk tears at sectors only.
    for (index, &at) in differing.iter().enumerate() {
        let mut file = flushed.written.clone();
        let torn = if index % 2 == 0 {
            BITMAP..at
        } else {
            at..DATA_START
        };
        file[torn.clone()].copy_from_slice(&flushed.after[torn]);
        flushed.check(&file, flushed.sectors.clone());
    }
    let mut all = flushed.sectors.clone();
    all.ended(&Step::Flush);
    flushed.check(&flushed.after, all);
}

#[test]
fn a_file_that_is_not_whole_is_refused_and_left_alone() {
    let flushed = Flushed::new();
    let whole = &flushed.after;
    let data = DATA_START as u64;
    for len in [
        1,
        8,
        103,
        104,
        105,
        4095,
        4096,
        4097,
        data - 1,
        data,
        data + 1,
    ] {
        let said = flushed.refusal(whole, len);
        assert!(said.contains("torn: not a usable disk overlay"), "{said}");
    }
    for len in [FILE - PAGE, FILE - 1, FILE + 1] {
        let said = flushed.refusal(whole, len);
        assert!(said.contains("size is not what its header says"), "{said}");
    }
    // The header cut off behind each of its bytes, and missing before it.
    for torn in 0..HEADER {
        let (mut early, mut late) = (whole.clone(), whole.clone());
        early[torn..HEADER].fill(0);
        late[..=torn].fill(0);
        for (file, never) in [(early, torn == 0), (late, torn == HEADER - 1)] {
            // A digest may end in zeros, which cutting them off does not change.
            if file != *whole {
                let said = flushed.refusal(&file, FILE);
                assert_eq!(said.contains("never finished"), never, "{torn}: {said}");
            }
        }
    }
}
