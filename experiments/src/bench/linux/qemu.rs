//! The other side: QEMU's microvm, with KVM, its fastest devices and nothing that is not needed.
//!
//! The guest gets what it gets from us: a serial port, a control console, the same disks, a balloon
//! and randomness, all on virtio-mmio. QEMU's own clock chip is kept: without one the kernel spends
//! seconds on looking for it, since QEMU's ACPI tables don't say that there is none.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use mirrorball_debian::job;
use mirrorball_monitor::linux::COMMAND_LINE;
use mirrorball_vnet::Mac;

use super::super::BenchError;
use super::MEMORY;
use super::guest::{Channel, PATIENCE, Plan, Talk};

/// The program.
const PROGRAM: &str = "qemu-system-x86_64";
/// The Debian package that has it.
const PACKAGE: &str = "qemu-system-x86";
/// The machine.
const MACHINE: &str = "microvm,accel=kvm,pit=off,pic=off,rtc=on,x-option-roms=off";
/// How often it is looked whether QEMU has ended.
const LOOK: Duration = Duration::from_millis(5);

/// A guest under QEMU, and its control channel. Ended when dropped.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    console: PathBuf,
}

impl Qemu {
    /// Puts the initramfs of a guest into one file, as QEMU takes it, outside of what is measured.
    pub fn initramfs(plan: &Plan, folder: &Path) -> Result<(), BenchError> {
        let failed = BenchError::of("the initramfs can't be put together");
        let mut bytes = std::fs::read(&plan.image.initramfs).map_err(&failed)?;
        // The kernel skips zeros between archives.
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        bytes.extend(job(&plan.commands, &[]));
        std::fs::write(folder.join("initramfs"), bytes).map_err(failed)
    }

    /// Starts a guest whose initramfs is in `folder`.
    pub fn start(plan: &Plan, folder: &Path) -> Result<Talk<Self>, BenchError> {
        let mut child = Command::new(PROGRAM)
            .args(arguments(plan, folder, "stdio,signal=off"))
            .env("TMPDIR", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| BenchError(format!("{PROGRAM}: {error} (package {PACKAGE})")))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or_else(|| BenchError("QEMU has no pipes".to_owned()))?;
        let qemu = Self {
            child,
            input,
            lines: read_lines(output),
            console: console_of(folder),
        };
        Ok(Talk::new(qemu, plan))
    }

    /// Waits until the guest has powered off and QEMU has ended.
    pub fn wait_off(&mut self) -> Result<(), BenchError> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let ended = self.child.try_wait();
            match ended.map_err(BenchError::of("QEMU can't be waited for"))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(BenchError(format!("QEMU: {status}"))),
                None => thread::sleep(LOOK),
            }
        }
        Err(BenchError("QEMU's guest did not power off".to_owned()))
    }

    /// How long QEMU takes to make the machine and to end, without running the guest.
    pub fn without_guest(plan: &Plan, folder: &Path) -> Result<Duration, BenchError> {
        let failed = BenchError::of("QEMU can't be run");
        let began = Instant::now();
        let mut arguments = arguments(plan, folder, "null");
        arguments.extend(["-S", "-monitor", "stdio"].map(OsString::from));
        let mut child = Command::new(PROGRAM)
            .args(arguments)
            .env("TMPDIR", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(&failed)?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(b"quit\n").map_err(&failed)?;
        }
        child.wait().map_err(failed)?;
        Ok(began.elapsed())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // That it has ended already is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Channel for Qemu {
    fn hear(&mut self) -> Result<Vec<String>, BenchError> {
        let first = self.lines.recv_timeout(PATIENCE);
        let first = first.map_err(|_| BenchError("QEMU's guest says nothing".to_owned()))?;
        Ok(std::iter::once(first)
            .chain(self.lines.try_iter())
            .collect())
    }

    fn say(&mut self, word: &str) -> Result<(), BenchError> {
        let line = format!("{word}\n");
        self.input
            .write_all(line.as_bytes())
            .and_then(|()| self.input.flush())
            .map_err(BenchError::of("QEMU's guest can't be told"))
    }

    fn console(&self) -> String {
        fs::read(&self.console).map_or_else(
            |error| format!("{}: {error}", self.console.display()),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }
}

/// Where a guest's serial port is logged.
fn console_of(folder: &Path) -> PathBuf {
    folder.join("console.log")
}

/// A thread that reads until QEMU closes the pipe.
fn read_lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The machine of a guest whose control console is `control`.
fn arguments(plan: &Plan, folder: &Path, control: &str) -> Vec<OsString> {
    let mut line = Line::default();
    line.words("-no-user-config -nodefaults -no-reboot -display none");
    line.words(&format!(
        "-machine {MACHINE} -cpu host -smp 1 -m {}M",
        MEMORY >> 20
    ));
    line.words("-global virtio-mmio.force-legacy=false");
    line.path("-kernel", "", &plan.image.kernel, "");
    line.path("-initrd", "", &folder.join("initramfs"), "");
    line.0.extend(["-append", COMMAND_LINE].map(OsString::from));
    line.path("-serial", "file:", &console_of(folder), "");
    line.words(&format!("-chardev {control},id=control"));
    line.words("-device virtio-serial-device -device virtconsole,chardev=control");
    if let Some(root) = &plan.image.root {
        line.disk(0, root, ",snapshot=on");
    }
    for (number, path) in (1..).zip(&plan.disks) {
        line.disk(number, path, "");
    }
    if let Some(place) = &plan.place {
        let (tap, mac) = (&place.tap, Mac::numbered(place.number));
        line.words(&format!(
            "-netdev tap,id=net,ifname={tap},script=no,downscript=no"
        ));
        line.words(&format!("-device virtio-net-device,netdev=net,mac={mac}"));
    }
    line.words("-device virtio-balloon-device,free-page-reporting=on");
    line.words("-object rng-random,id=random,filename=/dev/urandom");
    line.words("-device virtio-rng-device,rng=random");
    line.0
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    /// Words with a space between each two.
    fn words(&mut self, words: &str) {
        self.0.extend(words.split(' ').map(OsString::from));
    }

    /// An option whose value holds a path. QEMU takes a comma in it when it is doubled.
    fn path(&mut self, option: &str, before: &str, path: &Path, after: &str) {
        let mut value = OsString::from(before);
        value.push(path);
        value.push(after);
        self.0.extend([OsString::from(option), value]);
    }

    fn disk(&mut self, number: u32, path: &Path, more: &str) {
        let after =
            format!(",id=disk{number},format=raw,if=none,cache=writeback,aio=threads{more}");
        self.path("-drive", "file=", path, &after);
        self.words(&format!("-device virtio-blk-device,drive=disk{number}"));
    }
}
