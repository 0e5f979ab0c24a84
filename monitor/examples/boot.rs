//! Boots thin guests and prints what became of them: `boot [guests] [vcpus] [MiB] [disk image]`.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mirrorball_abi::Phase;
use mirrorball_monitor::{Boot, DiskConfig, Machine, MachineConfig, VmConfig};
use mirrorball_pmap::GroupId;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u32| match arguments.next() {
        Some(text) => text.parse(),
        None => Ok(default),
    };
    let (guests, vcpus, mib) = (number(2)?, number(1)?, number(64)?);
    let machine = Machine::new(&MachineConfig::default())?;
    let disks = match std::env::args().nth(4).map(PathBuf::from) {
        Some(path) => vec![DiskConfig {
            image: machine.open_image(&path)?,
            mode: mirrorball_virtio::OverlayMode::Nonpersistent,
            scratch: 16 << 20,
        }],
        None => Vec::new(),
    };

    let free = available_kib()?;
    let begin = Instant::now();
    machine.reserve_vms(usize::try_from(guests)?)?;
    println!("reserved after {:?}", begin.elapsed());
    for guest in 0..guests {
        let config = VmConfig {
            name: format!("guest{guest}"),
            group: GroupId(0),
            memory: u64::from(mib) << 20,
            vcpus,
            disks: disks.clone(),
            networks: Vec::new(),
            console: true,
            balloon: false,
            boot: Boot::Splash,
        };
        machine.create_vm(&config)?.start()?;
    }
    println!("{guests} guests started after {:?}", begin.elapsed());
    await_ready(&machine);
    println!(
        "{guests} guests up after {:?}, cpu {:?}",
        begin.elapsed(),
        machine.cpu_seconds()
    );
    let used = free.saturating_sub(available_kib()?);
    println!(
        "{} KiB of the host's memory for each",
        used / u64::from(guests.max(1))
    );
    machine.pmap().settle_all();
    println!("{:#?}", machine.pmap().totals());

    let end = Instant::now();
    for vm in machine.vms() {
        machine.remove_vm(vm.id());
    }
    println!("all stopped after {:?}", end.elapsed());
    Ok(())
}

/// Waits for all guests; tells of each when there are few, or when one does not come up.
fn await_ready(machine: &Machine) {
    let few = machine.vms().len() <= 8;
    for vm in machine.vms() {
        let ready = vm.wait_until(Phase::Ready, 0, Duration::from_secs(20));
        if few || ready.is_err() {
            let (name, state, console) = (vm.name(), vm.state(), vm.console_tail());
            println!("{name} {state:?} ready: {ready:?}\n{console}");
        }
    }
}

/// What the kernel says is available, its own structures excluded.
fn available_kib() -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    Ok(line
        .and_then(|line| line.split_whitespace().next())
        .unwrap_or("0")
        .parse()?)
}
