//! The machine: one pmap, one block cache, the device workers, the boot images, and the VMs.
//!
//! VMs may be created from several threads at once: no lock is held over calls into KVM.

mod assemble;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mirrorball_pmap::{AddressSpace, Pmap, PmapConfig, VmId};
use mirrorball_virtio::{BaseImage, BlockCache, Rest};
use parking_lot::{Mutex, RwLock};

use crate::boot::BootImages;
use crate::devices::{Mapper, Workers};
use crate::kvm::{self, Hypervisor};
use crate::linux::{Boot, LinuxError, Shelves};
use crate::sys::kick;
use crate::vm::{Vm, VmConfig, VmState};
use crate::{MonitorError, limits, probe};

/// What the machine shall be like.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// Of its memory.
    pub pmap: PmapConfig,
    /// Threads that serve the devices of all VMs.
    pub device_workers: usize,
    /// Whether disk reads map shared frames (Disco's copy-on-write disks) from the start, and
    /// guests their boot image; without it each guest has a copy of the image.
    pub disk_sharing: bool,
    /// How long copies of disk blocks rest before they are mapped; `None`: blocks are mapped as
    /// they are read.
    pub disk_rest: Option<Rest>,
    /// Whether the kernel may back guests' private memory by pages of 2 MiB until parts of them are
    /// shared. Without write tracking, or where the kernel has none, there are none.
    pub large_pages: bool,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            pmap: PmapConfig::default(),
            device_workers: 2,
            disk_sharing: true,
            disk_rest: Some(Rest::default()),
            large_pages: false,
        }
    }
}

/// CPU time by component, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ComponentCpu {
    /// vCPU threads of all VMs, removed ones included: guest mode and exits.
    pub vcpu: f64,
    /// Device workers.
    pub device: f64,
}

/// See the module's description. Dropping it stops all VMs.
pub struct Machine {
    pmap: Arc<Pmap>,
    hypervisor: Hypervisor,
    blocks: Arc<BlockCache>,
    images: Mutex<Vec<Arc<BaseImage>>>,
    workers: Workers,
    mapper: Option<Mapper>,
    boot: BootImages,
    /// The embedded thin guest.
    splash: Arc<[u8]>,
    /// Files that Linux guests boot from.
    shelves: Shelves,
    /// What keeps Linux guests from this host; looked for when the first is made.
    linux_obstacle: OnceLock<Option<String>>,
    large_pages: bool,
    vms: RwLock<Inventory>,
    next_vm: AtomicU32,
}

#[derive(Debug)]
struct Inventory {
    vms: BTreeMap<VmId, Arc<Vm>>,
    disk_sharing: bool,
    /// CPU time of the vCPUs of VMs that were removed.
    removed_cpu: Duration,
}

impl Machine {
    /// Makes a machine without VMs on this host's KVM. Raises the soft limit of open files.
    ///
    /// # Errors
    /// KVM is missing, forbidden or not KVM; the pmap or the device workers can't be made.
    pub fn new(config: &MachineConfig) -> Result<Arc<Self>, MonitorError> {
        Self::with_kvm(config, Path::new(kvm::DEVICE))
    }

    /// [`Self::new`] with another path of the KVM device.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_kvm(config: &MachineConfig, kvm: &Path) -> Result<Arc<Self>, MonitorError> {
        let hypervisor = Hypervisor::open(kvm)?;
        kick::install_handler().map_err(MonitorError::os("install the kick signal's handler"))?;
        limits::raise_nofile(u64::MAX).map_err(MonitorError::os("raise the open file limit"))?;
        let mut memory = config.pmap.clone();
        if memory.guest_fault.is_none() {
            memory.guest_fault = hypervisor.fault_time();
        }
        let pmap = Pmap::new(&memory)?;
        let workers = Workers::start(config.device_workers)
            .map_err(MonitorError::os("start the device workers"))?;
        let blocks = Arc::new(match config.disk_rest {
            Some(rest) => BlockCache::with_rest(pmap.clone(), rest),
            None => BlockCache::new(pmap.clone()),
        });
        let mapper = config.disk_rest.map(|_| Mapper::start(&blocks));
        let mapper = mapper
            .transpose()
            .map_err(MonitorError::os("start the disk mapper"))?;
        let inventory = Inventory {
            vms: BTreeMap::new(),
            disk_sharing: config.disk_sharing,
            removed_cpu: Duration::ZERO,
        };
        Ok(Arc::new(Self {
            blocks,
            mapper,
            pmap,
            hypervisor,
            images: Mutex::default(),
            workers,
            boot: BootImages::default(),
            splash: Arc::from(mirrorball_splash_image::SPLASH),
            shelves: Shelves::default(),
            linux_obstacle: OnceLock::new(),
            large_pages: config.large_pages,
            vms: RwLock::new(inventory),
            next_vm: AtomicU32::new(1),
        }))
    }

    /// The machine's memory.
    #[must_use]
    pub fn pmap(&self) -> &Arc<Pmap> {
        &self.pmap
    }

    /// Opens a disk image read-only; the same path gives the same image, so that its blocks are
    /// shared by all VMs that use it.
    ///
    /// # Errors
    /// The image can't be read.
    pub fn open_image(&self, path: &Path) -> Result<Arc<BaseImage>, MonitorError> {
        let mut images = self.images.lock();
        if let Some(image) = images.iter().find(|image| image.path() == path) {
            return Ok(image.clone());
        }
        let image = BaseImage::open(path)?;
        images.push(image.clone());
        Ok(image)
    }

    /// Checks that no opened image has changed since it was opened.
    ///
    /// # Errors
    /// The first image that has.
    pub fn verify_images(&self) -> Result<(), MonitorError> {
        let images = self.images.lock().clone();
        Ok(images
            .iter()
            .try_for_each(|image| image.verify_unchanged())?)
    }

    /// Prepares for the creation of `count` VMs: each then takes less time the more there are.
    ///
    /// # Errors
    /// KVM has no room for so many.
    pub fn reserve_vms(&self, count: usize) -> Result<(), MonitorError> {
        self.hypervisor.reserve(count)
    }

    /// Makes a VM with the guest that its configuration names, ready to be started.
    ///
    /// # Errors
    /// The configuration is impossible, or the host can't give what the VM needs.
    pub fn create_vm(&self, config: &VmConfig) -> Result<Arc<Vm>, MonitorError> {
        match &config.boot {
            Boot::Splash => self.create_vm_from(config, &self.splash),
            Boot::Linux(boot) => {
                config.check_linux(boot)?;
                self.can_run_linux()?;
                self.create(config, |space| self.assemble_linux(config, boot, space))
            }
        }
    }

    /// Makes a VM with another guest, a static x86-64 ELF that keeps to the guest interface.
    ///
    /// # Errors
    /// As [`Self::create_vm`], or the ELF can't be loaded.
    pub fn create_vm_from(
        &self,
        config: &VmConfig,
        elf: &Arc<[u8]>,
    ) -> Result<Arc<Vm>, MonitorError> {
        config.check_thin()?;
        self.create(config, |space| self.assemble_thin(config, elf, space))
    }

    /// Gives a VM memory and a place in the machine.
    fn create(
        &self,
        config: &VmConfig,
        assemble: impl FnOnce(&Arc<AddressSpace>) -> Result<Arc<Vm>, MonitorError>,
    ) -> Result<Arc<Vm>, MonitorError> {
        let id = VmId(self.next_vm.fetch_add(1, Ordering::Relaxed));
        let space = self.pmap.create_space(id, config.group, config.memory)?;
        if self.large_pages
            && let Err(error) = space.allow_large_pages()
        {
            tracing::warn!(%error, vm = ?id, "no large pages");
        }
        let vm = assemble(&space).inspect_err(|_| self.pmap.remove_space(id))?;
        let mut inventory = self.vms.write();
        for block in vm.blocks() {
            block.set_sharing(inventory.disk_sharing);
        }
        inventory.vms.insert(id, vm.clone());
        Ok(vm)
    }

    /// Whether this host's KVM can run Linux guests.
    ///
    /// # Errors
    /// [`LinuxError::SoftwareKvm`] with what was found.
    pub fn can_run_linux(&self) -> Result<(), LinuxError> {
        let obstacle = self
            .linux_obstacle
            .get_or_init(|| probe::linux_obstacle(self.hypervisor.path()));
        match obstacle {
            None => Ok(()),
            Some(finding) => Err(LinuxError::SoftwareKvm(finding.clone())),
        }
    }

    /// All VMs, in the order of their numbers.
    #[must_use]
    pub fn vms(&self) -> Vec<Arc<Vm>> {
        self.vms.read().vms.values().cloned().collect()
    }

    /// Stops a VM and takes it out of the machine; its frames are given back at once, its private
    /// memory when the last `Arc` of it is gone.
    pub fn remove_vm(&self, id: VmId) {
        let Some(vm) = self.vms.read().vms.get(&id).cloned() else {
            return;
        };
        vm.stop();
        let mut inventory = self.vms.write();
        if inventory.vms.remove(&id).is_none() {
            return;
        }
        inventory.removed_cpu += vm.cpu_time();
        drop(inventory);
        self.pmap.remove_space(id);
    }

    /// Turns Disco's copy-on-write disks on or off, for the VMs there are and those to come. How a
    /// VM got its boot image does not change afterwards.
    pub fn set_disk_sharing(&self, on: bool) {
        let mut inventory = self.vms.write();
        inventory.disk_sharing = on;
        for block in inventory.vms.values().flat_map(|vm| vm.blocks()) {
            block.set_sharing(on);
        }
    }

    /// Maps all blocks that disks have copied and that wait for it. Guests that are quiet get there
    /// by themselves; this is for those who look at the memory right now.
    pub fn map_copied_blocks(&self) {
        self.blocks.map_all();
    }

    /// CPU time by component so far.
    #[must_use]
    pub fn cpu_seconds(&self) -> ComponentCpu {
        let inventory = self.vms.read();
        let mapper = self.mapper.as_ref().map(Mapper::cpu_time);
        let running: Duration = inventory.vms.values().map(|vm| vm.cpu_time()).sum();
        ComponentCpu {
            vcpu: (inventory.removed_cpu + running).as_secs_f64(),
            device: (self.workers.cpu_time() + mapper.unwrap_or_default()).as_secs_f64(),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for vm in self.vms() {
            self.remove_vm(vm.id());
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self
            .vms()
            .iter()
            .filter(|vm| vm.state() == VmState::Running)
            .count();
        f.debug_struct("Machine")
            .field("running", &running)
            .finish_non_exhaustive()
    }
}
