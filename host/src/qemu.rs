//! QEMU's command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::machine::Machine;
use crate::relay::Terminals;
use crate::shares::Share;
use crate::{HostError, option_value};

/// The program.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// The Debian package that has it.
pub const PACKAGE: &str = "qemu-system-x86";

/// Quiet as long as all is well; a panic ends the machine. The emulated processor has none of the
/// faults that mitigations are against. Where this machine is busy the emulated one's timer may come so late
/// that the kernel would take it for broken.
const KERNEL_COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off \
                                   transparent_hugepage=madvise no_timer_check";

/// What the machine is connected to.
#[derive(Debug)]
pub(crate) struct Wiring<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// The folder with a socket for each of [`crate::channels::NAMES`].
    pub(crate) sockets: &'a Path,
    pub(crate) streams: Terminals,
    pub(crate) shares: &'a [Share],
}

/// Where the program is.
pub(crate) fn find() -> Result<PathBuf, HostError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    find_in(std::env::split_paths(&path)).ok_or(HostError::NoQemu)
}

fn find_in(folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    folders
        .map(|folder| folder.join(PROGRAM))
        .find(|program| rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok())
}

/// The arguments for such a machine.
pub(crate) fn arguments(machine: &Machine, wiring: &Wiring<'_>) -> Vec<OsString> {
    let mut line = Line::default();
    line.words(&[
        "-no-user-config",
        "-nodefaults",
        "-no-reboot",
        "-display",
        "none",
    ]);
    let threads = if machine.parallel { "multi" } else { "single" };
    let accelerator = format!("tcg,thread={threads},tb-size=512");
    // The machine around is measured too: its KSM is not to find the emulated memory.
    line.words(&["-machine", "pc,mem-merge=off", "-accel", &accelerator]);
    if machine.by_instructions {
        // Without its sleep an idle machine's time would run on as fast as it can: an hour has gone by
        // inside while a file was synced outside.
        line.words(&["-icount", "shift=1,align=off,sleep=on"]);
    }
    // QEMU does not let KVM intercept a guest's XSETBV, so KVM's idea of the guest's XCR0 would be
    // wrong: guests' kernels warn of it and their AVX registers are not their own. Without XSAVE
    // all agree. Without ERMS kernels and libraries copy by words, not by REP MOVSB: QEMU executes that byte
    // by byte, and where instructions are the clock each counts as one.
    line.words(&["-cpu", "max,+svm,+npt,-xsave,-erms", "-rtc", "base=utc"]);
    line.words(&["-m", &format!("{}M", machine.memory >> 20)]);
    // Cores of one socket would share a cache, which nodes must not.
    let cores = machine.cores;
    let sockets = if machine.numa_nodes > 1 { cores } else { 1 };
    let each = cores / sockets;
    let topology = format!("{cores},sockets={sockets},cores={each}");
    line.words(&["-smp", &topology]);
    if machine.numa_nodes > 1 {
        line.nodes(machine);
    }
    line.words(&["-kernel"]).path("", wiring.kernel);
    line.words(&["-initrd"]).path("", wiring.initramfs);
    line.words(&["-append", KERNEL_COMMAND_LINE]);
    line.channels(wiring);
    line.folder("root", Path::new("/"), ",readonly=on,multidevs=remap");
    for share in wiring.shares {
        line.folder(&share.tag, &share.path, "");
    }
    line.0
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn words(&mut self, words: &[&str]) -> &mut Self {
        self.0.extend(words.iter().map(OsString::from));
        self
    }

    /// One argument: `before` and the path as it is.
    fn path(&mut self, before: &str, path: &Path) {
        let mut argument = OsString::from(before);
        argument.push(path);
        self.0.push(argument);
    }

    fn nodes(&mut self, machine: &Machine) {
        for (id, node) in machine.nodes().into_iter().enumerate() {
            let memory = format!("memory-backend-ram,id=node{id},size={}M", node.mebibytes);
            let cores = format!("{}-{}", node.first_core, node.last_core);
            self.words(&["-object", &memory]);
            self.words(&[
                "-numa",
                &format!("node,nodeid={id},memdev=node{id},cpus={cores}"),
            ]);
        }
    }

    /// The kernel's console is a serial port; the rest are virtio ports, which carry bytes as they
    /// are. What goes to a terminal becomes a terminal inside.
    fn channels(&mut self, wiring: &Wiring<'_>) {
        for name in crate::channels::NAMES {
            let mut socket = OsString::from(format!("socket,id={name},path="));
            socket.push(option_value(&wiring.sockets.join(name)));
            self.words(&["-chardev"]).0.push(socket);
        }
        self.words(&["-serial", "chardev:console", "-device", "virtio-serial-pci"]);
        let terminals = wiring.streams;
        for (name, terminal) in [
            ("control", false),
            ("stdout", terminals.stdout.is_some()),
            ("stderr", terminals.stderr.is_some()),
        ] {
            let kind = if terminal {
                "virtconsole"
            } else {
                "virtserialport"
            };
            self.words(&["-device", &format!("{kind},chardev={name},name={name}")]);
        }
    }

    fn folder(&mut self, tag: &str, path: &Path, more: &str) {
        let mut share = OsString::from(format!("local,id={tag},path="));
        share.push(option_value(path));
        share.push(format!(",security_model=none{more}"));
        self.words(&["-fsdev"]).0.push(share);
        self.words(&[
            "-device",
            &format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::Size;

    fn line(machine: Machine, streams: Terminals, shares: &[Share]) -> String {
        let wiring = Wiring {
            kernel: Path::new("/boot/vm,linuz"),
            initramfs: Path::new("/proc/7/fd/3"),
            sockets: Path::new("/tmp/a,b"),
            streams,
            shares,
        };
        let words = arguments(&machine, &wiring);
        let words = words.iter().map(|word| word.to_str().unwrap());
        format!(" {} ", words.collect::<Vec<_>>().join(" "))
    }

    const MACHINE: Machine = Machine {
        memory: 3 << 30,
        cores: 4,
        numa_nodes: 1,
        nested_paging: true,
        parallel: false,
        by_instructions: false,
    };
    const PIPES: Terminals = Terminals {
        stdout: None,
        stderr: None,
    };

    #[test]
    fn the_machine_is_the_one_asked_for() {
        let plain = line(MACHINE, PIPES, &[]);
        assert!(plain.contains(" -m 3072M -smp 4,sockets=1,cores=4 -kernel "));
        assert!(!plain.contains("-numa"));
        assert!(plain.contains(" -accel tcg,thread=single,"));
        let nodes = line(
            Machine {
                numa_nodes: 2,
                ..MACHINE
            },
            PIPES,
            &[],
        );
        let first = " -object memory-backend-ram,id=node0,size=1536M \
                     -numa node,nodeid=0,memdev=node0,cpus=0-1 ";
        assert!(nodes.contains(first), "{nodes}");
        assert!(nodes.contains("nodeid=1,memdev=node1,cpus=2-3 "), "{nodes}");
        assert!(nodes.contains(" -smp 4,sockets=4,cores=1 "), "{nodes}");
    }

    #[test]
    fn instructions_are_counted_only_where_they_are_the_clock() {
        assert!(!line(MACHINE, PIPES, &[]).contains("icount"));
        let counted = Machine {
            by_instructions: true,
            ..MACHINE
        };
        assert!(line(counted, PIPES, &[]).contains(" -icount shift=1,align=off,sleep=on "));
    }

    #[test]
    fn this_machines_files_are_read_only_and_commas_are_no_separators() {
        let share = Share {
            tag: "out0".into(),
            path: "/my,results".into(),
        };
        let line = line(MACHINE, PIPES, &[share]);
        assert!(line.contains(
            "-fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap "
        ));
        assert!(line.contains("-fsdev local,id=out0,path=/my,,results,security_model=none "));
        assert!(line.contains("virtio-9p-pci,fsdev=out0,mount_tag=out0 "));
        assert!(line.contains("socket,id=stdout,path=/tmp/a,,b/stdout "));
        // The kernel's path is an argument of its own, not a value among others.
        assert!(line.contains(" -kernel /boot/vm,linuz "));
    }

    #[test]
    fn only_what_is_a_terminal_becomes_one() {
        let terminals = Terminals {
            stderr: Some(Size {
                columns: 80,
                rows: 25,
            }),
            ..PIPES
        };
        let line = line(MACHINE, terminals, &[]);
        assert!(line.contains(" virtserialport,chardev=stdout,name=stdout "));
        assert!(line.contains(" virtconsole,chardev=stderr,name=stderr "));
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_no_qemu() {
        let folder = tempfile::tempdir().unwrap();
        let path = || std::iter::once(folder.path().to_owned());
        assert_eq!(find_in(path()), None);
        std::fs::write(folder.path().join(PROGRAM), "").unwrap();
        assert_eq!(find_in(path()), None);
        assert!(HostError::NoQemu.to_string().contains(PACKAGE));
    }
}
