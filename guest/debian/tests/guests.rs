//! Builds real images from Debian packages and boots them in QEMU, without KVM, as plain virtual
//! machines: nothing of the monitor is in the way when `init` or the protocol is wrong.
//!
//! Needs apt with a network (or a warm cache) and QEMU; where one is missing, each test says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may panic"
)]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mirrorball_debian::{
    DebianError, Flavour, GuestImage, GuestImageSpec, Root, check_root, fetch_kernel, guest_image,
    job, kernel_in, list,
};

/// The kernel's command line. On a busy host QEMU's timers are too coarse for the kernel to measure
/// the clock against, and this machine has no other clock to fall back to: any plausible
/// frequency lets it boot.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 tsc_early_khz=2500000";
/// How long a guest may say nothing.
const PATIENCE: Duration = Duration::from_secs(120);

fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests")
}

/// The image, or why it can't be tested here.
fn image(kernel: &str, root: Root) -> Option<GuestImage> {
    let spec = GuestImageSpec {
        kernel: kernel.to_owned(),
        version: None,
        root,
        size: None,
        modules: Vec::new(),
    };
    let started = Instant::now();
    match guest_image(&spec, &cache(), &|line| println!("  {line}")) {
        Ok(image) => {
            println!("image of {} in {:.1?}", image.release, started.elapsed());
            Some(image)
        }
        Err(
            error @ (DebianError::ToolMissing { .. }
            | DebianError::NoLists { .. }
            | DebianError::Download { .. }),
        ) => {
            println!("NOT TESTED, no image could be built: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A pipe by name, open at both ends and never waiting, with room for all that a guest says: QEMU
/// drops what finds none.
fn pipe(path: &Path) -> File {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.is_ok_and(|status| status.success()));
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK;
    let pipe = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap());
    rustix::pipe::fcntl_setpipe_size(&pipe, 1 << 20).unwrap();
    pipe
}

/// A guest in QEMU, and its control console.
struct Guest {
    qemu: Child,
    folder: tempfile::TempDir,
    input: File,
    output: File,
    /// What was read and is no whole line yet.
    rest: Vec<u8>,
    started: Instant,
}

impl Guest {
    /// Boots the image with this job. What it writes to its root is forgotten.
    fn boot(image: &GuestImage, job: &[u8], memory: u32) -> Option<Self> {
        Self::boot_on(image, job, memory, "on")
    }

    /// The same, with QEMU's snapshots of the root `on` or `off`.
    fn boot_on(image: &GuestImage, job: &[u8], memory: u32, snapshot: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut initramfs = fs::read(&image.initramfs).unwrap();
        initramfs.extend_from_slice(job);
        fs::write(at("initramfs"), initramfs).unwrap();
        let [input, output] = ["control.in", "control.out"].map(|name| pipe(&at(name)));
        let control = format!("pipe,id=control,path={}", at("control").display());
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-M", "microvm,acpi=on", "-accel", "tcg", "-cpu", "max"])
            .args(["-m", &memory.to_string(), "-nodefaults", "-no-reboot"])
            .args(["-nographic", "-global", "virtio-mmio.force-legacy=false"])
            .args(["-append", COMMAND_LINE, "-kernel"])
            .arg(&image.kernel)
            .arg("-initrd")
            .arg(at("initramfs"))
            .args(["-serial", &format!("file:{}", at("serial").display())])
            .args(["-chardev", &control, "-device", "virtio-serial-device"])
            .args(["-device", "virtconsole,chardev=control"])
            .args(["-device", "virtio-balloon-device"])
            .args(["-device", "virtio-rng-device"]);
        if let Some(root) = &image.root {
            let drive = format!(
                "id=root,if=none,format=raw,snapshot={snapshot},file={}",
                root.display()
            );
            command.args(["-drive", &drive, "-device", "virtio-blk-device,drive=root"]);
        }
        let started = Instant::now();
        match command.stdin(Stdio::null()).spawn() {
            Ok(qemu) => Some(Self {
                qemu,
                input,
                output,
                rest: Vec::new(),
                folder,
                started,
            }),
            Err(error) => {
                println!("NOT TESTED, qemu-system-x86_64 (Debian: qemu-system-x86): {error}");
                None
            }
        }
    }

    fn serial(&self) -> String {
        let raw = fs::read(self.folder.path().join("serial")).unwrap_or_default();
        String::from_utf8_lossy(&raw).into_owned()
    }

    /// The next line of the protocol, without `mb`.
    fn line(&mut self) -> Vec<String> {
        let waiting = Instant::now();
        let end = loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                break end;
            }
            let mut some = [0; 4096];
            match self.output.read(&mut some) {
                Ok(read) => self.rest.extend_from_slice(&some[..read]),
                Err(_) => {
                    let ended = self.qemu.try_wait().unwrap();
                    assert!(
                        ended.is_none() && waiting.elapsed() < PATIENCE,
                        "the guest says no more ({ended:?}); its console:\n{}",
                        self.serial()
                    );
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        };
        let line: Vec<u8> = self.rest.drain(..=end).collect();
        let line = String::from_utf8(line).unwrap();
        if !line.starts_with("mb out") {
            let seconds = self.started.elapsed().as_secs_f64();
            println!("  {seconds:>5.1} s  {}", line.trim_end());
        }
        let words = line
            .strip_suffix('\n')
            .and_then(|line| line.strip_prefix("mb "));
        let words = words.expect("a line of the protocol");
        words.split(' ').map(str::to_owned).collect()
    }

    fn say(&mut self, word: &str) {
        writeln!(self.input, "{word}").unwrap();
    }

    /// Runs the whole protocol: exit code and output of each command.
    fn run(mut self) -> Vec<(i32, String)> {
        let ready = self.line();
        assert_eq!(ready[0], "ready", "{}", self.serial());
        self.say("go");
        let mut results = Vec::new();
        let mut output = Vec::new();
        loop {
            let line = self.line();
            let number = results.len().to_string();
            match line[0].as_str() {
                "begin" => assert_eq!(line[1], number),
                "out" => {
                    assert_eq!(line[1], number);
                    assert!(line[2].len() <= 64);
                    output.extend(decoded(&line[2]));
                }
                "end" => {
                    assert_eq!(line[1], number);
                    let text = String::from_utf8_lossy(&output).into_owned();
                    results.push((line[2].parse().unwrap(), text));
                    output.clear();
                }
                "done" => break,
                other => panic!("{other}: {}", self.serial()),
            }
        }
        self.say("stop");
        let status = self.qemu.wait().unwrap();
        println!(
            "  {:>5.1} s  powered off",
            self.started.elapsed().as_secs_f64()
        );
        assert!(status.success(), "QEMU: {status}");
        let serial = self.serial();
        assert!(!serial.contains("panic"), "{serial}");
        results
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Base64, RFC 4648.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text
        .bytes()
        .filter(|&byte| byte != b'=')
        .map(digit)
        .collect();
    let mut bytes = Vec::new();
    for four in digits.chunks(4) {
        let word = four
            .iter()
            .fold(0_u32, |word, &digit| word << 6 | u32::from(digit));
        let word = (word << (6 * (4 - four.len()))).to_be_bytes();
        bytes.extend_from_slice(&word[1..four.len()]);
    }
    bytes
}

fn commands(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// Each kernel with a busybox root: the protocol, the environment, exit codes, bounds.
fn busybox_root(kernel: &str) {
    let Some(image) = image(kernel, Root::Busybox) else {
        return;
    };
    let commands = commands(&[
        "uname -r; cat /proc/mounts; ls -d /sys/module/virtio_balloon /dev/hwrng; id -u",
        "echo \"$WORD\"; echo err >&2; exit 7",
        "cat /dev/zero | head -c 100000; echo end",
        "echo kept > /file; cat /file; kill -9 $$",
        "cat; pwd; cat /file; echo $PATH",
    ]);
    let environment = [("WORD".to_owned(), "it's $HOME".to_owned())];
    let Some(guest) = Guest::boot(&image, &job(&commands, &environment), 256) else {
        return;
    };
    let results = guest.run();
    let codes: Vec<i32> = results.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [0, 7, 0, 137, 0], "{results:?}");
    let text = |number: usize| results[number].1.as_str();
    assert!(text(0).starts_with(&image.release), "{}", text(0));
    assert!(image.release.starts_with(&format!("{kernel}.")));
    assert!(text(0).contains("/dev/vda / ext4 rw"), "{}", text(0));
    assert!(
        text(0).ends_with("/dev/hwrng\n/sys/module/virtio_balloon\n0\n"),
        "{}",
        text(0)
    );
    assert_eq!(text(1), "it's $HOME\nerr\n");
    assert_eq!(text(2).len(), 65536, "output is bounded");
    assert_eq!(text(3), "kept\n");
    assert!(text(4).starts_with("/\nkept\n/sbin:/bin"), "{}", text(4));
}

#[test]
fn kernel_6_1_runs_a_job_and_powers_off() {
    busybox_root("6.1");
}

#[test]
fn kernel_6_12_runs_a_job_and_powers_off() {
    busybox_root("6.12");
}

#[test]
fn without_a_root_commands_run_in_the_initramfs() {
    let Some(image) = image("6.12", Root::None) else {
        return;
    };
    assert_eq!(image.root, None);
    let commands = commands(&["grep -c . /proc/modules >/dev/null && ls /init"]);
    let Some(guest) = Guest::boot(&image, &job(&commands, &[]), 256) else {
        return;
    };
    assert_eq!(guest.run(), [(0, "/init\n".to_owned())]);
}

#[test]
fn a_missing_root_disk_is_said_and_ends_the_guest() {
    let Some(with_root) = image("6.12", Root::Busybox) else {
        return;
    };
    let image = GuestImage {
        root: None,
        ..with_root
    };
    let Some(mut guest) = Guest::boot(&image, &job(&[], &[]), 256) else {
        return;
    };
    let line = guest.line();
    assert_eq!(line[0], "fail");
    assert!(line.join(" ").contains("there is no disk"), "{line:?}");
    assert!(guest.qemu.wait().unwrap().success());
}

#[test]
fn a_guest_leaves_its_root_clean_and_with_what_it_wrote() {
    let Some(shared) = image("6.12", Root::Busybox) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::copy(shared.root.as_ref().unwrap(), &root).unwrap();
    let image = GuestImage {
        root: Some(root.clone()),
        ..shared
    };
    // A process that is left behind must not keep the root busy.
    let commands = commands(&["echo written > /file; cd /; sleep 1000 >/dev/null 2>&1 &"]);
    let Some(guest) = Guest::boot_on(&image, &job(&commands, &[]), 256, "off") else {
        return;
    };
    assert_eq!(guest.run(), [(0, String::new())]);
    check_root(&root).unwrap();
    let system = ext4_view::Ext4::load_from_path(&root).unwrap();
    assert_eq!(system.read("/file").unwrap(), b"written\n");
}

#[test]
fn a_users_folder_with_a_kernel_serves_as_its_package_does() {
    let Some(of_package) = image("6.12", Root::None) else {
        return;
    };
    let package = fetch_kernel("6.12", Flavour::Cloud, None, &cache(), &|_| ()).unwrap();
    let own = image(package.folder.to_str().unwrap(), Root::None).unwrap();
    assert_eq!(own.release, of_package.release);
    let bytes = [&own, &of_package].map(|image| fs::read(&image.initramfs).unwrap());
    assert!(bytes[0] == bytes[1], "the initramfs differs");
    // The file alone: then its drivers are taken to be built in.
    let file = kernel_in(&package).unwrap().image;
    let alone = image(file.to_str().unwrap(), Root::None).unwrap();
    assert_eq!(alone.release, of_package.release);
    assert!(fs::read(&alone.initramfs).unwrap().len() < bytes[0].len());
}

#[test]
fn a_full_root_compiles_c() {
    let packages = commands(&["gcc", "make", "libc6-dev"]);
    let Some(image) = image(
        "6.12",
        Root::Full {
            packages,
            sources: Vec::new(),
        },
    ) else {
        return;
    };
    let mut source = String::from("mkdir /work && cd /work\n");
    source.push_str("printf '#include <stdio.h>\\nint main(void){puts(\"made\");}\\n' > x.c\n");
    let _ = write!(
        source,
        "make -s x && ./x && cc --version | head -n 1 && awk 'BEGIN{{print 6*7}}'"
    );
    let Some(guest) = Guest::boot(&image, &job(&[source], &[]), 512) else {
        return;
    };
    let results = guest.run();
    let (code, text) = &results[0];
    assert_eq!(*code, 0, "{text}");
    assert!(
        text.starts_with("made\ncc (Debian") && text.ends_with("42\n"),
        "{text}"
    );
}

#[test]
fn what_is_built_is_listed_and_found_again() {
    let Some(first) = image("6.12", Root::Busybox) else {
        return;
    };
    let spec = GuestImageSpec {
        kernel: "6.12".to_owned(),
        version: None,
        root: Root::Busybox,
        size: None,
        modules: Vec::new(),
    };
    let built = std::cell::Cell::new(0);
    let count = |line: &str| {
        if line.contains("building") || line.contains("downloading") {
            built.set(built.get() + 1);
        }
    };
    assert_eq!(guest_image(&spec, &cache(), &count).unwrap(), first);
    assert_eq!(built.get(), 0, "it was in the cache");
    assert!(list(&cache()).iter().any(|cached| cached.image == first));
}

#[test]
fn names_that_do_not_exist_are_answered_with_those_that_do() {
    let spec = |kernel: &str, version: Option<&str>| GuestImageSpec {
        kernel: kernel.to_owned(),
        version: version.map(str::to_owned),
        root: Root::None,
        size: None,
        modules: Vec::new(),
    };
    if image("6.12", Root::None).is_none() {
        return;
    }
    let error = |spec| {
        guest_image(&spec, &cache(), &|_| ())
            .unwrap_err()
            .to_string()
    };
    let text = error(spec("6.99", None));
    assert!(
        text.contains("no Debian kernel is called `6.99`; there is"),
        "{text}"
    );
    assert!(text.contains("6.12"), "{text}");
    let text = error(spec("6.12", Some("1.0")));
    assert!(text.contains("no version 1.0; there is 6.12."), "{text}");
    let text = error(spec("busybox-statik", None));
    assert!(text.contains("did you mean busybox-static"), "{text}");
    let text = error(spec("busybox-static", None));
    assert!(text.contains("not a Linux kernel"), "{text}");
}
