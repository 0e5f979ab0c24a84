//! What Linux guests of an experiment boot: made before the runs, opened in each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mirrorball_debian::{GuestImage, GuestImageSpec, Root, guest_image, job};
use mirrorball_monitor::probe::{HostReport, KvmKind};
use mirrorball_monitor::{DiskConfig, Equipment, InitramfsPart, LinuxBoot, Machine, linux};
use mirrorball_virtio::{BaseImage, OverlayMode};

use super::RunError;
use crate::image;
use crate::spec::{Experiment, GuestGroup, LinuxSpec, RootSpec, resolve};

/// What guests with a network need; others are spared it.
const NETWORK_DRIVER: &str = "virtio_net";
/// Longest line of a panic that is told.
const MOST_PANIC: usize = 200;

/// What the Linux guests of each group boot, in any cell.
#[derive(Debug, Default)]
pub struct Images {
    folder: PathBuf,
    made: Vec<(GuestImageSpec, GuestImage)>,
}

impl Images {
    /// What the groups of a cell's experiment boot.
    #[must_use]
    pub fn of(&self, experiment: &Experiment) -> BTreeMap<String, GuestImage> {
        let groups = experiment.guests.iter();
        let image = |group: &GuestGroup| {
            let wanted = wanted(group, group.system.linux()?, &self.folder);
            let (_, image) = self.made.iter().find(|(made, _)| *made == wanted)?;
            Some((group.id.clone(), image.clone()))
        };
        groups.filter_map(image).collect()
    }

    /// The files that guests boot, for the record: kernels and initramfs by their content, roots,
    /// which are large, by what they were made of.
    ///
    /// # Errors
    /// One can't be read.
    pub fn files(&self) -> Result<BTreeMap<String, image::Image>, RunError> {
        let mut files = BTreeMap::new();
        for (_, made) in &self.made {
            let (release, id) = (&made.release, made.id.get(..12).unwrap_or(&made.id));
            let name = |part: &str| format!("{part} {release} {id}");
            files.insert(name("kernel"), image::as_it_is(&made.kernel)?);
            files.insert(name("initramfs"), image::as_it_is(&made.initramfs)?);
            if let Some(root) = &made.root {
                let file =
                    std::fs::metadata(root).map_err(|error| image::ImageError::io(root, error))?;
                let root = image::Image {
                    path: root.clone(),
                    bytes: file.len(),
                    digest: made.id.clone(),
                    files: None,
                    cached: true,
                };
                files.insert(name("root"), root);
            }
        }
        Ok(files)
    }
}

/// Whether this host's KVM runs Linux guests.
///
/// # Errors
/// It does not: a kernel needs ring 0 run by the processor.
pub fn check_host(report: &HostReport) -> Result<(), RunError> {
    if report.kvm == KvmKind::Hardware {
        return Ok(());
    }
    Err(RunError::Kvm {
        finding:
            "Linux guests need a KVM that runs their kernels on the processor, and this host's \
                  does not (it has neither svm nor vmx)"
                .to_owned(),
        remedy: "take a host with hardware virtualization, or nested virtualization switched on"
            .to_owned(),
    })
}

/// Makes what is not in the cache yet.
///
/// # Errors
/// A package that does not exist or can't be had, a root that is none, a cache without room.
pub fn prepare(
    experiment: &Experiment,
    folder: &Path,
    progress: &dyn Fn(&str),
) -> Result<Images, RunError> {
    let mut images = Images {
        folder: folder.to_owned(),
        made: Vec::new(),
    };
    let cells = experiment.matrix.iter().map(|cell| experiment.of(cell));
    let mut checked = BTreeSet::new();
    for group in cells.flat_map(|cell| &cell.guests) {
        let Some(linux) = group.system.linux() else {
            continue;
        };
        let wanted = wanted(group, linux, folder);
        let index = match images.made.iter().position(|(made, _)| *made == wanted) {
            Some(index) => index,
            None => {
                let image = guest_image(&wanted, &image::packages_folder(), progress)?;
                let (id, release) = (&group.id, &image.release);
                progress(&format!("guests {id}: Linux {release}"));
                images.made.push((wanted, image));
                images.made.len() - 1
            }
        };
        if checked.insert((&group.id, group.memory.0, index)) {
            check_boot(group, linux, &images.made[index].1)?;
        }
    }
    Ok(images)
}

/// Whether the guests of a group have the memory to boot, before any host is started for it.
fn check_boot(group: &GuestGroup, linux: &LinuxSpec, image: &GuestImage) -> Result<(), RunError> {
    let boot = boot(image, linux, None);
    linux::check(&boot, group.memory.0).map_err(|cause| RunError::Linux {
        group: group.id.clone(),
        cause,
    })
}

fn wanted(group: &GuestGroup, linux: &LinuxSpec, folder: &Path) -> GuestImageSpec {
    let (root, size) = match &linux.root {
        RootSpec::None => (Root::None, None),
        RootSpec::Busybox => (Root::Busybox, None),
        RootSpec::Packages {
            packages,
            sources,
            size,
        } => {
            let (packages, sources) = (packages.clone(), sources.clone());
            let full = Root::Full { packages, sources };
            (full, size.map(|size| size.0))
        }
        RootSpec::Image(path) => (Root::Image(resolve(folder, path)), None),
    };
    let own = linux.kernel.contains('/');
    let kernel = if own {
        resolve(folder, Path::new(&linux.kernel))
            .display()
            .to_string()
    } else {
        linux.kernel.clone()
    };
    let driver = group.network.as_ref().map(|_| NETWORK_DRIVER.to_owned());
    GuestImageSpec {
        kernel,
        version: linux.version.clone(),
        root,
        size,
        modules: driver.into_iter().chain(linux.modules.clone()).collect(),
    }
}

/// What the guests of a group boot, opened for one run.
#[derive(Debug)]
pub struct System {
    image: GuestImage,
    root: Option<Arc<BaseImage>>,
}

impl System {
    /// Opens the root image, so that all guests of it share its blocks.
    ///
    /// # Errors
    /// It can't be read.
    pub fn open(machine: &Machine, image: &GuestImage) -> Result<Self, RunError> {
        let root = image.root.as_deref().map(|path| machine.open_image(path));
        Ok(Self {
            image: image.clone(),
            root: root.transpose()?,
        })
    }

    /// The disk with the root, each guest's writes its own.
    pub fn root_disk(&self) -> Option<DiskConfig> {
        self.root.clone().map(|image| DiskConfig {
            image,
            mode: OverlayMode::Nonpersistent,
            scratch: 0,
        })
    }

    /// How a guest with these commands boots; all it prints on its serial port goes to `log`.
    pub fn boot(&self, spec: &LinuxSpec, log: Option<PathBuf>) -> LinuxBoot {
        boot(&self.image, spec, log)
    }
}

fn boot(image: &GuestImage, spec: &LinuxSpec, log: Option<PathBuf>) -> LinuxBoot {
    let mut command_line = linux::COMMAND_LINE.to_owned();
    if !spec.command_line.is_empty() {
        command_line.push(' ');
        command_line.push_str(&spec.command_line);
    }
    LinuxBoot {
        kernel: image.kernel.clone(),
        initramfs: vec![
            InitramfsPart::File(image.initramfs.clone()),
            InitramfsPart::Bytes(job(&spec.run, &[]).into()),
        ],
        command_line,
        devices: Equipment {
            control: true,
            balloon: true,
            rng: true,
            vsock: true,
            console: false,
        },
        console_log: log,
    }
}

/// What a kernel that panicked said about it on its console.
pub fn panic(console: &str) -> Option<String> {
    const SIGN: &str = "Kernel panic - ";
    let line = console.lines().find(|line| line.contains(SIGN))?;
    let (_, cause) = line.split_once(SIGN)?;
    let cause = cause.trim_start_matches("not syncing: ").trim();
    Some(cause.chars().take(MOST_PANIC).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_guests_boot_is_recorded_by_digest() {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = place.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let image = GuestImage {
            kernel: file("vmlinuz", "a kernel"),
            initramfs: file("initramfs", "an initramfs"),
            root: Some(file("root.ext4", "a root")),
            release: "6.12.1".into(),
            id: "0123456789abcdef".into(),
        };
        let spec = GuestImageSpec {
            kernel: "6.12".into(),
            version: None,
            root: Root::Busybox,
            size: None,
            modules: Vec::new(),
        };
        let images = Images {
            folder: place.path().into(),
            made: vec![(spec, image.clone())],
        };
        let digests = || {
            let files = images.files().unwrap().into_iter();
            files
                .map(|(name, file)| (name, file.digest))
                .collect::<Vec<_>>()
        };
        let before = digests();
        let names: Vec<&str> = before.iter().map(|(name, _)| name.as_str()).collect();
        let end = "6.12.1 0123456789ab";
        assert_eq!(
            names,
            ["initramfs", "kernel", "root"].map(|part| format!("{part} {end}"))
        );
        std::fs::write(&image.kernel, "another kernel").unwrap();
        let after = digests();
        assert_eq!(before[0], after[0]);
        assert_ne!(before[1], after[1], "another kernel has the same digest");
        assert_eq!(after[2].1, image.id);
    }

    #[test]
    fn a_panic_is_found_on_the_console() {
        let console =
            "[    1.0] hello\r\n[    2.5] Kernel panic - not syncing: sysrq triggered crash\r\n";
        assert_eq!(panic(console).as_deref(), Some("sysrq triggered crash"));
        assert_eq!(panic("[    1.0] don't panic\r\n"), None);
    }
}
