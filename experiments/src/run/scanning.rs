//! The scanner of a cell: ours, the kernel's, or none.

use mirrorball_dedup::ksm::{Ksm, KsmCounters, KsmSettings};
use mirrorball_dedup::{Order, Scanner, ScannerConfig, ScannerStats, ScannerThread};
use mirrorball_monitor::Machine;
use mirrorball_pmap::{AddressSpace, PAGE_BYTES};

use super::RunError;
use crate::spec::{Event, Experiment, KsmSpec, MechanismSet, ScanOrder, ScannerSpec, Switchable};

/// What looks for equal pages in a run.
#[derive(Debug)]
pub enum Scanning {
    /// Nothing.
    None,
    /// Our scanner.
    Ours(ScannerThread),
    /// The kernel's.
    Ksm(Ksm),
}

/// What was found and what it cost so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// Our scanner's statistics.
    pub ours: Option<ScannerStats>,
    /// KSM's.
    pub ksm: Option<KsmCounters>,
}

impl Scanning {
    /// Starts what a mechanism set asks for.
    ///
    /// # Errors
    /// KSM can't be used, or there is no thread to be had.
    pub fn start(
        experiment: &Experiment,
        set: &MechanismSet,
        machine: &Machine,
    ) -> Result<Self, RunError> {
        if set.ksm {
            let ksm = Ksm::start(&ksm_settings(&experiment.ksm))?;
            for space in machine.pmap().spaces() {
                ksm.mark(&space).map_err(RunError::Mergeable)?;
            }
            return Ok(Self::Ksm(ksm));
        }
        if !set.scans() && !switched_later(experiment) {
            return Ok(Self::None);
        }
        let config = scanner_config(&experiment.scanner, set, experiment.seed);
        let scanner = Scanner::new(machine.pmap().clone(), &config);
        ScannerThread::start(scanner)
            .map(Self::Ours)
            .map_err(RunError::Thread)
    }

    /// Takes a new VM's memory in.
    ///
    /// # Errors
    /// KSM refuses it.
    pub fn add(&self, space: &AddressSpace) -> Result<(), RunError> {
        match self {
            Self::Ksm(ksm) => ksm.mark(space).map_err(RunError::Mergeable),
            Self::Ours(_) | Self::None => Ok(()),
        }
    }

    /// Switches a mechanism of our scanner.
    pub fn switch(&self, mechanism: Switchable, on: bool) {
        match (self, mechanism) {
            (Self::Ours(scanner), Switchable::Zero) => scanner.set_zero(on),
            (Self::Ours(scanner), Switchable::Content) => scanner.set_content(on),
            _ => {}
        }
    }

    /// Ends it, and gives the host its settings back.
    ///
    /// # Errors
    /// Some are not as they were, in words.
    pub fn stop(self) -> Result<(), String> {
        match self {
            Self::Ksm(ksm) => ksm.stop().map_err(|error| {
                format!(
                    "KSM's settings are not as they were: {error}; `mirrorball doctor --restore` tries \
                     again"
                )
            }),
            Self::Ours(_) | Self::None => Ok(()),
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn reading(&self) -> Reading {
        match self {
            Self::None => Reading::default(),
            Self::Ours(scanner) => Reading {
                ours: Some(scanner.stats()),
                ksm: None,
            },
            Self::Ksm(ksm) => Reading {
                ours: None,
                ksm: ksm.counters().ok(),
            },
        }
    }

    /// Asks our scanner for a pass at once; its number, and what was done before it. `None` where
    /// ours does not run.
    #[must_use]
    pub fn hurry(&self) -> Option<(u64, ScannerStats)> {
        match self {
            Self::Ours(scanner) => Some((scanner.hurry(), scanner.stats())),
            Self::Ksm(_) | Self::None => None,
        }
    }

    /// How many of those passes have been made, and what was done so far.
    #[must_use]
    pub fn hurried(&self) -> Option<(u64, ScannerStats)> {
        match self {
            Self::Ours(scanner) => Some((scanner.hurried(), scanner.stats())),
            Self::Ksm(_) | Self::None => None,
        }
    }

    /// Holds the scanner still, ours or ksmd, so that what is counted next is one state.
    pub fn hold(&self) {
        match self {
            Self::Ours(scanner) => scanner.pause(),
            Self::Ksm(ksm) => {
                if let Err(error) = ksm.hold() {
                    tracing::warn!(%error, "ksmd can't be held: its counters may lag behind");
                }
            }
            Self::None => {}
        }
    }
}

impl Reading {
    /// Passes over all memory so far; what busy guests could bear only a portion of is none.
    #[must_use]
    pub fn scans(&self) -> Option<u64> {
        self.ours
            .map(|stats| stats.whole_passes)
            .or(self.ksm.map(|ksm| ksm.full_scans))
    }

    /// Bytes that KSM saves: pages beyond the first of each frame, and its zero pages.
    #[must_use]
    pub fn ksm_saved(&self) -> Option<u64> {
        self.ksm.map(|ksm| ksm.reclaimed() * PAGE_BYTES)
    }
}

/// Whether the timeline turns a scanner mechanism on.
pub fn switched_later(experiment: &Experiment) -> bool {
    experiment.timeline.iter().any(|timed| {
        matches!(
            timed.event,
            Event::Switch {
                mechanism: Switchable::Zero | Switchable::Content,
                on: true
            }
        )
    })
}

fn scanner_config(spec: &ScannerSpec, set: &MechanismSet, seed: u64) -> ScannerConfig {
    let default = ScannerConfig::default();
    ScannerConfig {
        order: match spec.order {
            ScanOrder::DirtyAware => Order::DirtyAware,
            ScanOrder::Sequential => Order::Sequential,
            ScanOrder::EsxRandom => Order::EsxRandom,
        },
        pages_per_second: spec.rate.map(|rate| rate.0),
        cpu_percent: spec.cpu_budget.map(|budget| budget.0),
        burden: Some(spec.burden.0),
        nice: spec.nice.0,
        interval: spec.interval.0,
        settle: spec.settle,
        hints: spec.hints,
        network_hints: spec.network_hints,
        zero: set.zero,
        content: set.content,
        threads: if spec.threads == 0 {
            default.threads
        } else {
            spec.threads as usize
        },
        seed,
    }
}

fn ksm_settings(spec: &KsmSpec) -> KsmSettings {
    KsmSettings {
        pages_to_scan: spec.pages_to_scan,
        sleep_millisecs: u32::try_from(spec.sleep.0.as_millis()).unwrap_or(u32::MAX),
        smart_scan: spec.smart_scan,
        use_zero_pages: Some(spec.use_zero_pages),
        max_page_sharing: spec.max_page_sharing,
        ..KsmSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirrorball_dedup::ksm::KsmHost;

    #[test]
    fn a_setting_that_can_not_be_given_back_is_told() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = root.path().join("ksm");
        let process = root.path().join("proc/37");
        std::fs::create_dir(&sysfs).unwrap();
        std::fs::create_dir_all(&process).unwrap();
        for name in ["run", "pages_to_scan", "pages_shared"] {
            std::fs::write(sysfs.join(name), "0\n").unwrap();
        }
        std::fs::write(process.join("comm"), "ksmd\n").unwrap();
        std::fs::write(process.join("schedstat"), "1 2 3\n").unwrap();
        let host = KsmHost {
            sysfs: sysfs.clone(),
            proc: root.path().join("proc"),
            lock: root.path().join("lock"),
            journal: root.path().join("journal"),
        };
        let start = || Ksm::start_on(host.clone(), &KsmSettings::default());
        assert_eq!(Scanning::Ksm(start().unwrap()).stop(), Ok(()));
        let ksm = start().unwrap();
        // What can't be written any more, not even by root.
        std::fs::remove_file(sysfs.join("pages_to_scan")).unwrap();
        std::fs::create_dir(sysfs.join("pages_to_scan")).unwrap();
        let cause = Scanning::Ksm(ksm).stop().unwrap_err();
        assert!(cause.contains("doctor --restore"), "{cause}");
        assert!(host.journal.exists(), "another try is possible");
    }
}
