//! The emulated host's own system: a Debian kernel, its modules and a busybox with our init.

use std::fs;
use std::path::{Path, PathBuf};

use mirrorball_debian::{Flavour, cpio, fetch, fetch_kernel, kernel_in, modules};

use crate::HostError;

/// The kernel's version: `PAGEMAP_SCAN` needs 6.7, and Debian has this one for years.
const KERNEL: &str = "6.12";
/// KVM on AMD, the way to this machine's files, the layer over them, and what virtual networks are
/// compared with or connected to.
const MODULES: [&str; 9] = [
    "virtio_pci",
    "kvm-amd",
    "ccp",
    "irqbypass",
    "9pnet_virtio",
    "9p",
    "overlay",
    "tun",
    "bridge",
];
const INIT: &[u8] = include_bytes!("init.sh");

/// What QEMU boots.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) kernel: PathBuf,
    /// The part of the initramfs that is the same for every command.
    pub(crate) archive: Vec<u8>,
}

/// Gets the packages, if they are not there yet, and puts the system together.
pub(crate) fn build(cache: &Path, progress: &dyn Fn(&str)) -> Result<System, HostError> {
    let package = fetch_kernel(KERNEL, Flavour::Generic, None, cache, progress)?;
    let busybox = fetch("busybox-static", None, cache, progress)?;
    let program = busybox.folder.join("bin/busybox");
    let program = fs::read(&program).map_err(|error| HostError::path(&program, error))?;
    let mut archive = cpio::Archive::new();
    archive.file("init", 0o755, INIT);
    archive.file("bin/busybox", 0o755, &program);
    let wanted = modules::closure(&package, &MODULES)?;
    for (index, module) in wanted.iter().enumerate() {
        // The init loads them in the order of their names.
        let path = format!("modules/{index:02}-{}.ko", module.name);
        archive.file(&path, 0o644, &module.bytes);
    }
    Ok(System {
        kernel: kernel_in(&package)?.image,
        archive: archive.finish(),
    })
}
