//! What a VM shall be like, and what none can be.

use std::ops::RangeInclusive;
use std::sync::Arc;

use mirrorball_abi::{MAX_DEVICES, MAX_VCPUS, layout};
use mirrorball_pmap::GroupId;
use mirrorball_virtio::{BaseImage, NetConfig, OverlayMode};
use mirrorball_vnet::Network;

use crate::MonitorError;
use crate::devices::MOST_PC_DEVICES;
use crate::linux::{Boot, Equipment, LinuxBoot, MAX_LINUX_VCPUS, MAX_MEMORY};

/// What a VM shall be like.
#[derive(Clone, Debug)]
pub struct VmConfig {
    /// For messages.
    pub name: String,
    /// Sharing group (security domain): pages are shared inside it only.
    pub group: GroupId,
    /// Guest-physical memory in bytes, a multiple of the page size.
    pub memory: u64,
    /// Number of vCPUs, from 1 to [`MAX_VCPUS`], of Linux guests to [`MAX_LINUX_VCPUS`].
    pub vcpus: u32,
    /// Its disks, in the order in which the guest finds them.
    pub disks: Vec<DiskConfig>,
    /// Its network devices, in order.
    pub networks: Vec<VmNetwork>,
    /// Whether a thin guest has a console; Linux guests have their [`LinuxBoot::devices`].
    pub console: bool,
    /// Whether a thin guest has a balloon; Linux guests have their [`LinuxBoot::devices`].
    pub balloon: bool,
    /// What it boots.
    pub boot: Boot,
}

/// One disk of a VM.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// What it holds at first.
    pub image: Arc<BaseImage>,
    /// Where the guest's writes go.
    pub mode: OverlayMode,
    /// Bytes of empty space after the image.
    pub scratch: u64,
}

/// One network device of a VM.
#[derive(Clone, Debug)]
pub struct VmNetwork {
    /// The network that it is on.
    pub network: Arc<Network>,
    /// Its address there, and how it moves pages.
    pub config: NetConfig,
}

impl VmConfig {
    /// Says what a thin guest can't be.
    pub(crate) fn check_thin(&self) -> Result<(), MonitorError> {
        self.check(&Bounds {
            memory: layout::MIN_MEMORY..=layout::MAX_MEMORY,
            vcpus: MAX_VCPUS,
            devices: MAX_DEVICES,
            asked_devices: self.disks.len()
                + self.networks.len()
                + usize::from(self.console)
                + usize::from(self.balloon),
        })
    }

    /// Says what a Linux guest can't be, but for what its kernel needs.
    pub(crate) fn check_linux(&self, boot: &LinuxBoot) -> Result<(), MonitorError> {
        let Equipment {
            control,
            console,
            balloon,
            rng,
            vsock,
        } = boot.devices;
        let equipment = [control, console, balloon, rng, vsock];
        self.check(&Bounds {
            memory: 0..=MAX_MEMORY,
            vcpus: MAX_LINUX_VCPUS as usize,
            devices: MOST_PC_DEVICES,
            asked_devices: self.disks.len()
                + self.networks.len()
                + equipment.into_iter().filter(|wanted| *wanted).count(),
        })
    }

    fn check(&self, bounds: &Bounds) -> Result<(), MonitorError> {
        let refuse = |reason: String| Err(MonitorError::Config(reason));
        if !bounds.memory.contains(&self.memory) {
            return refuse(format!(
                "{} bytes of memory; from {} to {} are possible",
                self.memory,
                bounds.memory.start(),
                bounds.memory.end()
            ));
        }
        if !self.memory.is_multiple_of(layout::PAGE_SIZE as u64) {
            return refuse(format!(
                "{} bytes of memory are not whole pages",
                self.memory
            ));
        }
        if self.vcpus == 0 || self.vcpus as usize > bounds.vcpus {
            return refuse(format!(
                "{} vCPUs; from 1 to {} are possible",
                self.vcpus, bounds.vcpus
            ));
        }
        let (asked, most) = (bounds.asked_devices, bounds.devices);
        if asked > most {
            return refuse(format!("{asked} devices; at most {most} are possible"));
        }
        Ok(())
    }
}

/// What a kind of guest can be at most, and the number of devices that it is asked to have.
#[derive(Debug)]
struct Bounds {
    memory: RangeInclusive<u64>,
    vcpus: usize,
    devices: usize,
    asked_devices: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_vms_are_refused_with_the_reason() {
        let good = VmConfig {
            name: "a".into(),
            group: GroupId(0),
            memory: 64 << 20,
            vcpus: 1,
            disks: Vec::new(),
            networks: Vec::new(),
            console: true,
            balloon: true,
            boot: Boot::Splash,
        };
        assert!(good.check_thin().is_ok());
        let refused = |change: &dyn Fn(&mut VmConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.check_thin().unwrap_err().to_string()
        };
        assert!(refused(&|config| config.memory = 0).contains("memory"));
        assert!(refused(&|config| config.memory = 8 << 30).contains("memory"));
        assert!(refused(&|config| config.memory += 1).contains("whole pages"));
        assert!(refused(&|config| config.vcpus = 0).contains("0 vCPUs"));
        assert!(refused(&|config| config.vcpus = 17).contains("17 vCPUs"));
    }

    #[test]
    fn impossible_linux_guests_are_refused_with_the_reason() {
        let good = VmConfig {
            name: "a".into(),
            group: GroupId(0),
            memory: 256 << 20,
            vcpus: 8,
            disks: Vec::new(),
            networks: Vec::new(),
            console: false,
            balloon: false,
            boot: Boot::Splash,
        };
        let boot = LinuxBoot::default();
        assert!(good.check_linux(&boot).is_ok());
        let refused = |change: &dyn Fn(&mut VmConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.check_linux(&boot).unwrap_err().to_string()
        };
        assert!(refused(&|config| config.vcpus = 9).contains("9 vCPUs; from 1 to 8"));
        assert!(refused(&|config| config.vcpus = 0).contains("0 vCPUs"));
        assert!(refused(&|config| config.memory = 4 << 30).contains("memory"));
        assert!(refused(&|config| config.memory += 1).contains("whole pages"));
    }
}
