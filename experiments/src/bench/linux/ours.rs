//! Our side: a machine and its Linux guests, as an experiment would start them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mirrorball_debian::job;
use mirrorball_dedup::{Scanner, ScannerConfig, ScannerThread};
use mirrorball_monitor::{
    Boot, DiskConfig, Equipment, InitramfsPart, LinuxBoot, Machine, MachineConfig, MonitorError,
    StopCause, Vm, VmConfig, VmNetwork, WaitError, linux,
};
use mirrorball_pmap::{GroupId, PmapConfig};
use mirrorball_virtio::{NetConfig, OverlayMode, Transfer};
use mirrorball_vnet::{Mac, PortConfig};

use super::super::BenchError;
use super::MEMORY;
use super::guest::{Channel, PATIENCE, Place, Plan, Talk};
use crate::output::provenance;
use crate::run::linux::panic;

/// A machine with Linux guests; all gone when dropped.
#[derive(Debug)]
pub struct Ours {
    machine: Arc<Machine>,
    log: PathBuf,
}

impl Ours {
    /// A machine without guests. With `sharing` it maps disk blocks and tracks writes, as in a run
    /// with all mechanisms; without, as in one with none. QEMU's guests have large pages. Consoles go to a file in `folder`.
    pub fn new(sharing: bool, large_pages: bool, folder: &Path) -> Result<Self, BenchError> {
        let config = MachineConfig {
            pmap: PmapConfig {
                tracking: sharing,
                ..PmapConfig::default()
            },
            disk_sharing: sharing,
            large_pages,
            ..MachineConfig::default()
        };
        Ok(Self {
            machine: Machine::new(&config).map_err(failed)?,
            log: folder.join("console.log"),
        })
    }

    /// Starts a guest.
    pub fn start(&self, plan: &Plan) -> Result<Talk<OurChannel>, BenchError> {
        let root = plan.image.root.iter();
        let disks = root.chain(&plan.disks).map(|path| {
            let image = self.machine.open_image(path).map_err(failed)?;
            Ok(DiskConfig {
                image,
                mode: OverlayMode::Nonpersistent,
                scratch: 0,
            })
        });
        let config = VmConfig {
            name: "guest".to_owned(),
            group: GroupId(0),
            memory: MEMORY,
            vcpus: 1,
            disks: disks.collect::<Result<_, BenchError>>()?,
            networks: plan.place.iter().map(on_network).collect(),
            console: false,
            balloon: false,
            boot: Boot::Linux(boot(plan, self.log.clone())),
        };
        let vm = self.machine.create_vm(&config).map_err(failed)?;
        vm.start().map_err(failed)?;
        Ok(Talk::new(OurChannel(vm), plan))
    }

    /// Starts the scanner of a run with all mechanisms.
    pub fn scan(&self) -> Result<ScannerThread, BenchError> {
        let scanner = Scanner::new(self.machine.pmap().clone(), &ScannerConfig::default());
        ScannerThread::start(scanner).map_err(BenchError::of("no scanner thread"))
    }

    /// Has the guests' copies of disk blocks replaced by frames, rested or not.
    pub fn hold(&self) {
        self.machine.map_copied_blocks();
    }

    /// What a guest's fault is taken to cost, seconds.
    pub fn fault_seconds(&self) -> f64 {
        self.machine.pmap().guest_fault().as_secs_f64()
    }

    /// Pages that are not needed thanks to sharing, now.
    pub fn reclaimed(&self) -> u64 {
        self.machine.pmap().settle_all();
        self.machine.pmap().totals().reclaimed
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        for vm in self.machine.vms() {
            self.machine.remove_vm(vm.id());
        }
    }
}

/// A guest's control channel.
#[derive(Debug)]
pub struct OurChannel(Arc<Vm>);

impl OurChannel {
    /// Waits until the guest has powered off.
    pub fn wait_off(&self) -> Result<(), BenchError> {
        match self.0.wait_stopped(PATIENCE) {
            Ok(StopCause::PoweredOff) => Ok(()),
            Ok(other) => Err(self.ended(&other)),
            Err(error) => Err(BenchError(format!("the guest did not power off: {error}"))),
        }
    }

    /// Faults at pages that KVM had no translation of; none if it doesn't tell.
    pub fn faults(&self) -> u64 {
        self.0.guest_faults().unwrap_or(0)
    }

    /// Exits that came to the monitor.
    pub fn exits(&self) -> u64 {
        self.0.exit_times().len()
    }

    /// A guest that has said nothing for [`PATIENCE`], with what tells one that computes from one that
    /// waits, and either from a host without memory.
    fn silent(&self, ran_before: f64) -> BenchError {
        let ran = self.0.cpu_seconds() - ran_before;
        let left = provenance::memory("MemAvailable:").map_or_else(
            || "unknown".to_owned(),
            |bytes| format!("{} MiB", bytes >> 20),
        );
        let console = self.0.console_tail();
        let last = console.lines().rfind(|line| !line.trim().is_empty());
        BenchError(format!(
            "the guest says nothing for {} s (its vCPU ran {ran:.0} s of them; memory left on the host: \
             {left}; last on its console: {})",
            PATIENCE.as_secs(),
            last.unwrap_or("nothing").trim()
        ))
    }

    fn ended(&self, cause: &StopCause) -> BenchError {
        BenchError(match panic(&self.0.console_tail()) {
            Some(panic) => format!("the guest's kernel panicked: {panic}"),
            None => format!("the guest stopped: {cause}"),
        })
    }
}

impl Channel for OurChannel {
    fn hear(&mut self) -> Result<Vec<String>, BenchError> {
        let ran_before = self.0.cpu_seconds();
        self.0.control_wait(PATIENCE).map_err(|error| match error {
            WaitError::Stopped(cause) => self.ended(&cause),
            WaitError::TimedOut => self.silent(ran_before),
        })
    }

    fn say(&mut self, word: &str) -> Result<(), BenchError> {
        self.0.control_write(word);
        Ok(())
    }

    fn console(&self) -> String {
        self.0.console_tail()
    }
}

/// Ethernet's usual MTU, as QEMU's devices have it.
fn on_network(place: &Place) -> VmNetwork {
    VmNetwork {
        network: Arc::clone(&place.network),
        config: NetConfig {
            port: PortConfig::station(Mac::numbered(place.number)),
            mtu: 1500,
            transfer: Transfer::Cost,
            pairs: 1,
        },
    }
}

fn boot(plan: &Plan, log: PathBuf) -> LinuxBoot {
    LinuxBoot {
        kernel: plan.image.kernel.clone(),
        initramfs: vec![
            InitramfsPart::File(plan.image.initramfs.clone()),
            InitramfsPart::Bytes(job(&plan.commands, &[]).into()),
        ],
        command_line: linux::COMMAND_LINE.to_owned(),
        // No socket device: QEMU has none without a module of the host's.
        devices: Equipment {
            control: true,
            balloon: true,
            rng: true,
            ..Equipment::default()
        },
        console_log: Some(log),
    }
}

fn failed(error: MonitorError) -> BenchError {
    BenchError(error.to_string())
}
