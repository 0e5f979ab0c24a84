//! Starting QEMU so that it never outlives us, and files without a place.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

use crate::HostError;

/// A running QEMU; killed when dropped.
#[derive(Debug)]
pub(crate) struct Qemu(pub(crate) Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // If it has ended already, that is what was wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts QEMU in a process group of its own (the terminal's Ctrl-C is ours to pass on), to be
/// killed by the kernel when the calling thread ends.
pub(crate) fn spawn(program: &Path, arguments: &[OsString]) -> Result<Qemu, HostError> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    let parent = getpid();
    let die_with_us = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // We may have ended before the kernel was asked.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::ErrorKind::Interrupted.into())
        }
    };
    // SAFETY: between fork and exec only system calls are made; nothing is allocated or locked.
    unsafe { command.pre_exec(die_with_us) };
    let child = command
        .spawn()
        .map_err(HostError::system("starting QEMU"))?;
    Ok(Qemu(child))
}

/// A file in memory that another process of ours can open by its path. Nothing of it is left when
/// we are killed.
#[derive(Debug)]
pub(crate) struct MemoryFile {
    path: PathBuf,
    _file: File,
}

impl MemoryFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A memory file of these parts, one after the other.
pub(crate) fn memory_file(parts: &[&[u8]]) -> Result<MemoryFile, HostError> {
    let make = || -> io::Result<MemoryFile> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::memfd_create("initramfs", flags)?);
        for part in parts {
            file.write_all(part)?;
        }
        let process = std::process::id();
        let path = PathBuf::from(format!("/proc/{process}/fd/{}", file.as_raw_fd()));
        Ok(MemoryFile { path, _file: file })
    };
    make().map_err(HostError::system("making the initramfs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_file_is_read_by_its_path() {
        let file = memory_file(&[b"one", b"two"]).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"onetwo");
    }

    #[test]
    fn a_program_does_not_outlive_the_thread_that_started_it() {
        let started = std::thread::spawn(|| {
            let qemu = spawn(Path::new("/bin/sleep"), &["600".into()]).unwrap();
            // Not dropped: only the kernel can end it now.
            let id = qemu.0.id();
            std::mem::forget(qemu);
            id
        });
        let id = started.join().unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // It stays a zombie: nobody waits for it.
        while !stat().is_empty() && !stat().contains(") Z ") {
            std::thread::yield_now();
        }
    }
}
