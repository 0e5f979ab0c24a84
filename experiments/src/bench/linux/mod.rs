//! Linux guests: our monitor against QEMU's microvm, and our mechanisms on against off.
//!
//! Both sides boot the same kernel with the same initramfs, command line, memory and disks, one
//! after the other on the same host, which must have a KVM that runs kernels. What a guest is told
//! and how it answers is the same on both sides, too: the control channel is a virtio console here
//! and there (`docs/linux-guests.md`).

mod block;
mod boot;
mod fio;
mod guest;
mod net;
mod ours;
mod qemu;
mod work;

pub use block::BENCH as BLOCK;
pub use boot::BENCH as BOOT;
pub use net::BENCH as NET;
pub use work::{MAKE, SHORT as WORK};

use std::io::Write as _;
use std::path::{Path, PathBuf};

use mirrorball_debian::{GuestImage, GuestImageSpec, Root, guest_image};

use super::BenchError;
use crate::image;
use crate::run::linux::check_host;

/// Memory of each guest.
const MEMORY: u64 = 256 << 20;
/// The kernel: Debian's newest cloud kernel of this series.
const KERNEL: &str = "6.12";

/// What these measurements' guests boot.
fn roots() -> [(&'static str, Root, Option<u64>); 5] {
    let (fio, size) = fio::root();
    let (iperf, room) = net::root();
    let (gcc, default) = work::make_root();
    [
        (NET.id, iperf, room),
        (BOOT.id, Root::Busybox, None),
        (BLOCK.id, fio.clone(), size),
        (WORK.id, fio, size),
        (MAKE.id, gcc, default),
    ]
}

/// Makes the guest images that these measurements need; inside an emulated host there is neither
/// network nor a place that keeps them.
///
/// # Errors
/// A package that can't be had, a cache without room.
pub fn prepare(wanted: impl Fn(&str) -> bool, progress: &dyn Fn(&str)) -> Result<(), BenchError> {
    for (id, root, size) in roots().into_iter().filter(|(id, ..)| wanted(id)) {
        made((root, size), modules(id), progress)?;
    }
    Ok(())
}

/// The image for a measurement, on a host that can run it.
fn image_for(bench: &str) -> Result<GuestImage, BenchError> {
    check_host(&mirrorball_monitor::probe::host())
        .map_err(|error| BenchError(error.to_string()))?;
    let found = roots().into_iter().find(|(id, ..)| *id == bench);
    let (_, root, size) = found.ok_or_else(|| BenchError(format!("{bench} has no image")))?;
    made((root, size), modules(bench), &|_| ())
}

/// What its guests load besides what all do.
fn modules(bench: &str) -> &'static [&'static str] {
    if bench == NET.id {
        &["virtio_net"]
    } else {
        &[]
    }
}

fn made(
    (root, size): (Root, Option<u64>),
    modules: &[&str],
    progress: &dyn Fn(&str),
) -> Result<GuestImage, BenchError> {
    let spec = GuestImageSpec {
        kernel: KERNEL.to_owned(),
        version: None,
        root,
        size,
        modules: modules.iter().map(|&name| name.to_owned()).collect(),
    };
    guest_image(&spec, &image::packages_folder(), progress)
        .map_err(|error| BenchError(error.to_string()))
}

/// A folder for disks and logs, gone when dropped.
fn scratch() -> Result<tempfile::TempDir, BenchError> {
    tempfile::tempdir().map_err(BenchError::of("no folder for disks"))
}

/// A file of bytes that repeat nowhere.
fn noise(folder: &Path, name: &str, bytes: u64) -> Result<PathBuf, BenchError> {
    let path = folder.join(name);
    let failed = BenchError::of("a disk can't be made");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).map_err(&failed)?);
    let mut state = super::rig::SEED;
    for _ in 0..bytes / 8 {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes()).map_err(&failed)?;
    }
    file.flush().map_err(failed)?;
    Ok(path)
}
