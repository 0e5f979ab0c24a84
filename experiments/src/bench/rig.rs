//! Guests for a measurement: made, put to work, waited for, and gone when dropped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mirrorball_abi::{Phase, Status, Workload, WorkloadKind};
use mirrorball_dedup::{Scanner, ScannerConfig};
use mirrorball_monitor::{
    Boot, DiskConfig, Machine, MachineConfig, MonitorError, Vm, VmConfig, VmNetwork,
};
use mirrorball_pmap::{GroupId, Pmap, PmapConfig};
use mirrorball_virtio::OverlayMode;

use super::BenchError;
use crate::image;
use crate::spec::{ImageSource, Size};

/// Longer than any workload here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Seed of all inputs.
pub const SEED: u64 = 42;

/// Which guests a measurement wants.
#[derive(Clone, Debug)]
pub struct Guests {
    /// How many.
    pub count: usize,
    /// Memory of each, bytes.
    pub memory: u64,
    /// The disk image of each, if any.
    pub image: Option<PathBuf>,
    /// Disco's copy-on-write disks.
    pub disk_sharing: bool,
    /// Write tracking; the kernel's KSM needs none and shall not pay for it.
    pub tracking: bool,
}

/// A machine with guests that are up.
#[derive(Debug)]
pub struct Rig {
    machine: Arc<Machine>,
    vms: Vec<Arc<Vm>>,
}

impl Rig {
    /// Starts the guests and waits until they are up.
    pub fn start(guests: &Guests) -> Result<Self, BenchError> {
        let config = MachineConfig {
            pmap: PmapConfig {
                tracking: guests.tracking,
                ..PmapConfig::default()
            },
            disk_sharing: guests.disk_sharing,
            ..MachineConfig::default()
        };
        let mut rig = Self {
            machine: Machine::new(&config).map_err(failed)?,
            vms: Vec::new(),
        };
        for number in 0..guests.count {
            let mut disks = Vec::new();
            if let Some(path) = &guests.image {
                let image = rig.machine.open_image(path).map_err(failed)?;
                disks.push(DiskConfig {
                    image,
                    mode: OverlayMode::Nonpersistent,
                    scratch: 32 << 20,
                });
            }
            let config = VmConfig {
                name: format!("guest-{number}"),
                group: GroupId(0),
                memory: guests.memory,
                vcpus: 1,
                disks,
                networks: Vec::new(),
                console: false,
                balloon: false,
                boot: Boot::Splash,
            };
            rig.add(&config)?;
        }
        rig.await_all()?;
        Ok(rig)
    }

    /// Starts guests on networks, one for each place, without disks, and waits until they are up.
    pub fn on_networks(places: Vec<VmNetwork>, memory: u64) -> Result<Self, BenchError> {
        let mut rig = Self {
            machine: Machine::new(&MachineConfig::default()).map_err(failed)?,
            vms: Vec::new(),
        };
        for (number, place) in places.into_iter().enumerate() {
            rig.add(&VmConfig {
                name: format!("guest-{number}"),
                group: GroupId(0),
                memory,
                vcpus: 1,
                disks: Vec::new(),
                networks: vec![place],
                balloon: false,
                console: false,
                boot: Boot::Splash,
            })?;
        }
        rig.await_all()?;
        Ok(rig)
    }

    fn add(&mut self, config: &VmConfig) -> Result<(), BenchError> {
        let vm = self.machine.create_vm(config).map_err(failed)?;
        vm.start().map_err(failed)?;
        self.vms.push(vm);
        Ok(())
    }

    fn await_all(&self) -> Result<(), BenchError> {
        let mut vms = self.vms.iter();
        vms.try_for_each(|vm| wait(vm, Phase::Ready, 0))
    }

    /// The machine.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// Its memory.
    pub fn pmap(&self) -> &Arc<Pmap> {
        self.machine.pmap()
    }

    /// The guests.
    pub fn vms(&self) -> &[Arc<Vm>] {
        &self.vms
    }

    /// Has all guests do the same at once, and waits for them.
    pub fn run(&self, workload: &Workload) -> Result<Vec<Status>, BenchError> {
        self.run_each(|_| *workload)
    }

    /// Has each guest do something, all at once, and waits for them.
    pub fn run_each(&self, workload: impl Fn(u64) -> Workload) -> Result<Vec<Status>, BenchError> {
        let commands: Vec<u64> = (0..)
            .zip(&self.vms)
            .map(|(index, vm)| vm.command(&workload(index)))
            .collect();
        self.vms
            .iter()
            .zip(commands)
            .map(|(vm, command)| done(vm, command))
            .collect()
    }

    /// Pages that are reclaimed now, exactly.
    pub fn reclaimed(&self) -> u64 {
        self.pmap().settle_all();
        self.pmap().totals().reclaimed
    }

    /// A scanner of these guests, with the defaults of a run.
    pub fn scanner(&self) -> Scanner {
        Scanner::new(self.pmap().clone(), &ScannerConfig::default())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for vm in self.vms.drain(..) {
            self.machine.remove_vm(vm.id());
        }
    }
}

fn failed(error: MonitorError) -> BenchError {
    BenchError(error.to_string())
}

/// Waits until a command is done, and checks that it did all it should.
pub fn done(vm: &Vm, command: u64) -> Result<Status, BenchError> {
    wait(vm, Phase::Done, command)?;
    let status = vm.status();
    if status.outcome != 0 || status.mismatches > 0 {
        let length = usize::try_from(status.message_length)
            .unwrap_or(0)
            .min(status.message.len());
        let message = String::from_utf8_lossy(&status.message[..length]).into_owned();
        let (outcome, wrong) = (status.outcome, status.mismatches);
        return Err(BenchError(format!(
            "{}: outcome {outcome}, {wrong} wrong pages: {message}",
            vm.name()
        )));
    }
    Ok(status)
}

fn wait(vm: &Vm, phase: Phase, command: u64) -> Result<(), BenchError> {
    vm.wait_until(phase, command, PATIENCE)
        .map_err(|error| BenchError(format!("{}: {error}", vm.name())))
}

/// The image of a run: the sources this project depends on.
pub fn image() -> Result<PathBuf, BenchError> {
    let source = ImageSource::CargoRegistry {
        limit: Size(32 << 20),
    };
    let image = image::prepare(&source, Path::new("."), SEED, &image::cache_folder());
    image
        .map(|image| image.path)
        .map_err(|error| BenchError(error.to_string()))
}

/// A workload with the bench's seed.
pub fn workload(kind: WorkloadKind, params: &[u64]) -> Workload {
    let mut workload = Workload {
        kind: kind as u32,
        seed: SEED,
        ..Workload::default()
    };
    for (slot, value) in workload.params.iter_mut().zip(params) {
        *slot = *value;
    }
    workload
}
