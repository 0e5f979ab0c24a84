//! A Linux guest's disk: our block device against QEMU's, with the same images and both through the
//! host's cache (QEMU: `cache=writeback,aio=threads`).
//!
//! fio moves the data past the guest's own cache. What is read is a base image; what is written goes
//! to our overlay, and into a copy of the same image under QEMU. Then a second guest of ours reads
//! blocks that the first still holds: those are frames, and shared.

use std::path::{Path, PathBuf};

use super::super::{Bench, BenchError, Log, Row, Wanted};
use super::fio::{self, DISK, JOBS};
use super::guest::Plan;
use super::ours::Ours;
use super::qemu::Qemu;
use super::{image_for, noise, scratch};

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "linux-block",
    what: "a Linux guest's disk against that of QEMU's microvm",
    measure,
};

/// Reads the whole disk into the guest's own cache.
const KEEP: &str = "cat /dev/vdb >/dev/null";

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    let image = image_for(BENCH.id)?;
    let folder = scratch()?;
    let folder = folder.path();
    let disk = noise(folder, "disk", DISK)?;
    let copy = folder.join("copy");
    let plan = |written: PathBuf, commands| Plan {
        image: image.clone(),
        disks: vec![disk.clone(), written],
        commands,
        place: None,
    };
    let all = fio::command(JOBS.iter());
    let reads = fio::command(JOBS.iter().filter(|job| job.reads));
    let first = plan(disk.clone(), vec![all.clone(), KEEP.to_owned()]);
    let second = plan(disk.clone(), vec![reads]);
    let theirs = plan(copy.clone(), vec![all]);
    Qemu::initramfs(&theirs, folder)?;
    for run in 0..log.runs {
        // A file that was written before is no sparse one: what QEMU is at its best with.
        std::fs::copy(&disk, &copy).map_err(BenchError::of("the disk can't be copied"))?;
        let (ours, theirs) = if run % 2 == 0 {
            let ours = ours(&first, &second, folder)?;
            (ours, qemu(&theirs, folder)?)
        } else {
            let theirs = qemu(&theirs, folder)?;
            (ours(&first, &second, folder)?, theirs)
        };
        tell(log, &ours, &theirs)?;
    }
    Ok(())
}

fn tell(log: &mut Log<'_>, ours: &Outputs, theirs: &[u8]) -> Result<(), BenchError> {
    for job in &JOBS {
        let id = format!("linux-block-{}", job.id);
        let their = fio::speed(theirs, job)?;
        let mut row = |id: &str, what: &str, output: &[u8]| -> Result<(), BenchError> {
            let what = format!("throughput of {}{what} over QEMU microvm's", job.what);
            let row = match job.counts() {
                true => Row::new(id, &what, "", Wanted::AtLeast(1.0)),
                false => Row::detail(id, &what, ""),
            };
            log.add(&row, fio::speed(output, job)? / their);
            Ok(())
        };
        row(&id, "", &ours.first)?;
        if job.reads {
            row(
                &format!("{id}-shared"),
                " that another guest holds",
                &ours.second,
            )?;
        }
        let what = format!("throughput of {} under QEMU", job.what);
        log.add(&Row::detail(&format!("{id}-qemu"), &what, "MiB/s"), their);
    }
    Ok(())
}

/// What fio said in our guests.
struct Outputs {
    first: Vec<u8>,
    second: Vec<u8>,
}

fn ours(first: &Plan, second: &Plan, folder: &Path) -> Result<Outputs, BenchError> {
    let machine = Ours::new(true, true, folder)?;
    let mut holder = machine.start(first)?;
    holder.ready()?;
    holder.go()?;
    let said = holder.done()?;
    // Frames come when the guest's copies have rested; how soon is not asked here.
    machine.hold();
    let (reader, again) = machine.start(second)?.whole()?;
    reader.wait_off()?;
    holder.off()?.wait_off()?;
    let output = |said: Vec<_>| first_output(said.into_iter());
    Ok(Outputs {
        first: output(said),
        second: output(again),
    })
}

fn first_output(mut said: impl Iterator<Item = crate::run::agent::CommandRecord>) -> Vec<u8> {
    said.next().map_or_else(Vec::new, |record| record.output)
}

fn qemu(plan: &Plan, folder: &Path) -> Result<Vec<u8>, BenchError> {
    let (mut guest, said) = Qemu::start(plan, folder)?.whole()?;
    guest.wait_off()?;
    Ok(first_output(said.into_iter()))
}
