//! Boots Linux guests and prints what became of them.
//!
//! `linux [option=value...] kernel=FILE`, where options are `initramfs=FILE` (as often as wanted),
//! `memory=MiB`, `vcpus=N`, `guests=N`, `disk=IMAGE` (as often as wanted), `append=WORDS` (to the
//! command line), `timeout=SECONDS`, `log=FILE` (the first guest's console; `/proc/self/fd/1` shows
//! it), `devices=control,console,balloon,rng,vsock`, `scan=1` (share memory while they run).

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mirrorball_dedup::{Scanner, ScannerConfig, ScannerThread};
use mirrorball_monitor::{
    Boot, DiskConfig, InitramfsPart, LinuxBoot, Machine, MachineConfig, Vm, VmConfig, linux,
};
use mirrorball_pmap::{GroupId, PmapConfig};

/// What was asked for.
struct Wanted {
    boot: LinuxBoot,
    memory: u64,
    vcpus: u32,
    guests: u32,
    disks: Vec<PathBuf>,
    timeout: Duration,
    scan: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let wanted = wanted()?;
    let machine = Machine::new(&MachineConfig {
        pmap: PmapConfig {
            frame_capacity: 16 << 30,
            ..PmapConfig::default()
        },
        ..MachineConfig::default()
    })?;
    let begin = Instant::now();
    let vms = (0..wanted.guests)
        .map(|number| make(&machine, &wanted, number))
        .collect::<Result<Vec<_>, _>>()?;
    println!("{} guests made after {:.2?}", vms.len(), begin.elapsed());
    machine.pmap().settle_all();
    println!("before their start: {:?}", machine.pmap().totals());
    let scanner = Scanner::new(machine.pmap().clone(), &ScannerConfig::default());
    let scanner = wanted
        .scan
        .then(|| ScannerThread::start(scanner))
        .transpose()?;
    let start = Instant::now();
    for vm in &vms {
        vm.start()?;
    }
    for vm in &vms {
        let left = wanted.timeout.saturating_sub(start.elapsed());
        let end = vm.wait_stopped(left);
        let (name, after) = (vm.name(), start.elapsed());
        match end {
            Ok(cause) => println!("{name}: {cause}, {after:.2?} after its start"),
            Err(error) => println!("{name}: {error}"),
        }
    }
    if let Some(scanner) = scanner {
        println!("{:?}", scanner.stop());
    }
    machine.pmap().settle_all();
    println!("at their end: {:?}", machine.pmap().totals());
    println!("cpu: {:?}", machine.cpu_seconds());
    for vm in &vms {
        report(vm);
    }
    Ok(())
}

fn wanted() -> Result<Wanted, Box<dyn Error>> {
    let mut wanted = Wanted {
        boot: LinuxBoot {
            command_line: linux::COMMAND_LINE.into(),
            ..LinuxBoot::default()
        },
        memory: 256 << 20,
        vcpus: 1,
        guests: 1,
        disks: Vec::new(),
        timeout: Duration::from_secs(120),
        scan: false,
    };
    for argument in std::env::args().skip(1) {
        let (option, value) = argument.split_once('=').ok_or("options are option=value")?;
        match option {
            "kernel" => wanted.boot.kernel = value.into(),
            "initramfs" => wanted
                .boot
                .initramfs
                .push(InitramfsPart::File(value.into())),
            "memory" => wanted.memory = value.parse::<u64>()? << 20,
            "vcpus" => wanted.vcpus = value.parse()?,
            "guests" => wanted.guests = value.parse()?,
            "disk" => wanted.disks.push(value.into()),
            "append" => wanted.boot.command_line += &format!(" {value}"),
            "timeout" => wanted.timeout = Duration::from_secs(value.parse()?),
            "scan" => wanted.scan = value == "1",
            "log" => wanted.boot.console_log = Some(value.into()),
            "devices" => {
                for device in value.split(',') {
                    match device {
                        "control" => wanted.boot.devices.control = true,
                        "console" => wanted.boot.devices.console = true,
                        "balloon" => wanted.boot.devices.balloon = true,
                        "rng" => wanted.boot.devices.rng = true,
                        "vsock" => wanted.boot.devices.vsock = true,
                        other => return Err(format!("no device {other}").into()),
                    }
                }
            }
            other => return Err(format!("no option {other}").into()),
        }
    }
    Ok(wanted)
}

fn make(machine: &Machine, wanted: &Wanted, number: u32) -> Result<Arc<Vm>, Box<dyn Error>> {
    let disk = |path: &PathBuf| {
        Ok::<_, Box<dyn Error>>(DiskConfig {
            image: machine.open_image(path)?,
            mode: mirrorball_virtio::OverlayMode::Nonpersistent,
            scratch: 16 << 20,
        })
    };
    let mut boot = wanted.boot.clone();
    if number > 0 {
        boot.console_log = None;
    }
    let config = VmConfig {
        name: format!("guest{number}"),
        group: GroupId(0),
        memory: wanted.memory,
        vcpus: wanted.vcpus,
        disks: wanted.disks.iter().map(disk).collect::<Result<_, _>>()?,
        networks: Vec::new(),
        console: false,
        balloon: false,
        boot: Boot::Linux(boot),
    };
    Ok(machine.create_vm(&config)?)
}

fn report(vm: &Vm) {
    println!("--- {}, cpu {:.2} s", vm.name(), vm.cpu_seconds());
    for stats in vm.block_stats() {
        println!(
            "disk: {} reads, {} writes, {} pages mapped, {} copied",
            stats.reads, stats.writes, stats.mapped_pages, stats.copied_pages
        );
    }
    for line in vm.control_read() {
        println!("control: {line}");
    }
    let tail = vm.console_tail();
    let lines: Vec<_> = tail.lines().collect();
    for line in &lines[lines.len().saturating_sub(12)..] {
        println!("{line}");
    }
}
