//! System packages that tests need: installed where that is allowed, named otherwise.

use anyhow::{Result, bail};
use std::process::{Command, Stdio};

/// Programs that tests run, with the Debian package that has each.
const NEEDED: &[(&str, &str)] = &[
    ("mkfs.ext4", "e2fsprogs"),
    ("cc", "gcc"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("xz", "xz-utils"),
];

/// Makes sure that every needed program is there.
pub(crate) fn ensure() -> Result<()> {
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(program, _)| !installed(program))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    eprintln!("installing {}", packages.join(", "));
    let _ = Command::new("apt-get")
        .args(["-q", "update"])
        .stdout(Stdio::null())
        .status();
    let done = Command::new("apt-get")
        .args(["-qy", "--no-install-recommends", "install"])
        .args(&packages)
        .stdout(Stdio::null())
        .status();
    match done {
        Ok(status) if status.success() => Ok(()),
        _ => bail!(
            "the tests need these packages, install them: {}",
            packages.join(" ")
        ),
    }
}

fn installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/sbin", "/usr/sbin"])
        .any(|folder| std::path::Path::new(folder).join(program).exists())
}
