//! What comes before the first run: the user's wishes, the host, the disk images.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mirrorball_dedup::ksm::Ksm;
use mirrorball_monitor::probe;
use mirrorball_report::judge::is_named;

use super::progress::Progress;
use super::{Options, RunError, linux};
use crate::image::{self, Image};
use crate::spec::{Capability, Experiment, GuestGroup, ImageSource, Loaded, MechanismSet, Runs};

/// The experiment with the user's own wishes in it.
pub(super) fn adapted(experiment: &Experiment, options: &Options) -> Result<Experiment, RunError> {
    let mut experiment = experiment.clone();
    for id in &options.only {
        if !experiment.matrix.iter().any(|set| set.id == *id) {
            let ids = experiment
                .matrix
                .iter()
                .map(|set| set.id.as_str())
                .collect::<Vec<_>>();
            return Err(RunError::NoCell(id.clone(), ids.join(", ")));
        }
    }
    if !options.only.is_empty() {
        experiment
            .matrix
            .retain(|set| options.only.contains(&set.id));
        let cells = &experiment.matrix;
        experiment.expect.retain(|expect| {
            let there = |wanted: &String| {
                let named = |cell: &MechanismSet| is_named(wanted, &cell.id, cell.set_name());
                cells.iter().any(named)
            };
            expect.cell.as_ref().is_none_or(there)
        });
    }
    if options.smoke {
        experiment.make_smoke();
    }
    if let Some(directory) = &options.output {
        experiment.outputs.directory.clone_from(directory);
    }
    if let Some(runs) = options.runs {
        experiment.repeat.runs = Runs::Fixed(runs.max(1));
    }
    if let Some(retries) = options.retries {
        experiment.repeat.retries = retries;
    }
    if let Some(seed) = options.seed {
        experiment.set_seed(seed);
    }
    Ok(experiment)
}

/// Whether there will be VMs of these names.
pub(super) fn check_consoles(experiment: &Experiment, names: &[String]) -> Result<(), RunError> {
    for name in names {
        let named = |group: &&GuestGroup| {
            let number = name.strip_prefix(group.id.as_str());
            let number = number.and_then(|rest| rest.strip_prefix('-')?.parse().ok());
            // A timeline may start more of them.
            number.is_some_and(|number: u32| number > 0)
        };
        if !experiment.guests.iter().any(|group| named(&group)) {
            let groups = experiment.guests.iter();
            let known = groups.map(|group| format!("{0}-1 to {0}-{1}", group.id, group.count));
            let known = known.collect::<Vec<_>>().join(", ");
            return Err(RunError::NoVm(name.clone(), known));
        }
    }
    Ok(())
}

/// Whether this host can run the experiment; the kind of its KVM.
pub(super) fn check_host(experiment: &Experiment) -> Result<&'static str, RunError> {
    let report = probe::host();
    let mut wanted = experiment.machine.requires.clone();
    wanted.push(Capability::Kvm);
    for capability in wanted {
        match capability {
            Capability::Ksm => Ksm::available()?,
            Capability::Root if rustix::process::geteuid().is_root() => {}
            Capability::Root => {
                let remedy =
                    "run it with sudo, or take `root` out of `machine.requires`".to_owned();
                return Err(RunError::Host {
                    finding: "this experiment needs root".to_owned(),
                    remedy,
                });
            }
            Capability::Kvm => check_kvm(&report, experiment)?,
            Capability::PagemapScan => check(&report, "pagemap-scan")?,
            Capability::Userfaultfd => check(&report, "userfaultfd")?,
        }
    }
    Ok(crate::doctor::kvm_word(report.kvm))
}

/// Whether this host's KVM runs the experiment's guests.
fn check_kvm(report: &probe::HostReport, experiment: &Experiment) -> Result<(), RunError> {
    check(report, "kvm").map_err(offer_emulated)?;
    match experiment.has_linux_guests() {
        true => linux::check_host(report),
        false => Ok(()),
    }
}

/// Whether this machine's KVM can't run the experiment; an emulated host's can.
#[must_use]
pub fn needs_emulated_host(experiment: &Experiment) -> bool {
    check_kvm(&probe::host(), experiment).is_err()
}

/// What an emulated host has and this one lacks.
fn offer_emulated(error: RunError) -> RunError {
    match error {
        RunError::Host { finding, remedy } => RunError::Kvm { finding, remedy },
        other => other,
    }
}

fn check(report: &probe::HostReport, id: &str) -> Result<(), RunError> {
    match report.checks.iter().find(|check| check.id == id) {
        Some(check) if check.state == probe::CheckState::Fail => Err(RunError::Host {
            finding: check.finding.clone(),
            remedy: check.remedy.clone(),
        }),
        _ => Ok(()),
    }
}

/// The disk images of all cells.
#[derive(Debug)]
pub(super) struct Disks(Vec<Prepared>);

/// A disk image, and what it was made from.
#[derive(Debug)]
struct Prepared {
    /// Its id in the experiment.
    id: String,
    /// What results call it.
    name: String,
    source: ImageSource,
    image: Image,
}

impl Disks {
    /// Makes the images that any cell has: a sweep may change what one is made of.
    pub(super) fn prepare(
        experiment: &Experiment,
        loaded: &Loaded,
        progress: &Progress,
    ) -> Result<Self, RunError> {
        let mut disks = Vec::<Prepared>::new();
        let cells = experiment.matrix.iter().map(|set| experiment.of(set));
        for (id, source) in cells.flat_map(|cell| &cell.images) {
            let same = disks.iter().filter(|disk| disk.id == *id);
            if same.clone().any(|disk| disk.source == *source) {
                continue;
            }
            let name = match same.count() {
                0 => id.clone(),
                others => format!("{id}-{}", others + 1),
            };
            let seed = experiment.seed;
            let image = image::prepare(source, &loaded.folder, seed, &image::cache_folder())?;
            let how = if image.cached { "as before" } else { "built" };
            progress.line(&format!(
                "image {name}: {} MiB, {how} ({})",
                image.bytes >> 20,
                image.path.display()
            ));
            disks.push(Prepared {
                id: id.clone(),
                name,
                source: source.clone(),
                image,
            });
        }
        Ok(Self(disks))
    }

    /// All of them, by the names that results call them.
    pub(super) fn named(&self) -> BTreeMap<String, Image> {
        let disks = self.0.iter();
        disks
            .map(|disk| (disk.name.clone(), disk.image.clone()))
            .collect()
    }

    /// Those of a cell, by id.
    pub(super) fn of(&self, cell: &Experiment) -> BTreeMap<String, PathBuf> {
        let own = |disk: &&Prepared| cell.images.get(&disk.id) == Some(&disk.source);
        let disks = self.0.iter().filter(own);
        disks
            .map(|disk| (disk.id.clone(), disk.image.path.clone()))
            .collect()
    }
}
