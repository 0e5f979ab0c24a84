//! The kernel's KSM at full speed over a measurement's guests.

use std::time::{Duration, Instant};

use mirrorball_dedup::ksm::{Ksm, KsmCounters, KsmSettings};

use super::BenchError;
use super::rig::Rig;

const LOOK: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(300);

/// Where the kernel's switch is that skips pages found unshareable before.
const SMART_SCAN: &str = "/sys/kernel/mm/ksm/smart_scan";

/// Full scans without a merge after which there is nothing left to merge: a page is merged at the
/// second scan that finds it unchanged at the earliest.
const QUIET_SCANS: u64 = 3;

/// KSM that has merged all it can.
#[derive(Debug)]
pub struct Merged {
    /// KSM, still at work.
    pub ksm: Ksm,
    /// Pages saved.
    pub pages: u64,
    /// ksmd's CPU time from the start to the last merge, seconds.
    pub cpu: f64,
    /// Of this, the first full scan, which merges nothing but zero pages: it takes checksums.
    pub first_scan: f64,
}

/// Gives the guests' memory to KSM and waits until it has merged all it can.
pub fn merge(rig: &Rig, smart_scan: Option<bool>) -> Result<Merged, BenchError> {
    let settings = KsmSettings {
        pages_to_scan: 20_000,
        sleep_millisecs: 0,
        smart_scan,
        ..KsmSettings::default()
    };
    let ksm = Ksm::start(&settings).map_err(|error| BenchError(error.to_string()))?;
    let begin = counters(&ksm)?;
    for vm in rig.vms() {
        ksm.mark(vm.space())
            .map_err(BenchError::of("memory can't be marked for KSM"))?;
    }
    let (mut best, mut first_scan) = (begin, None);
    let until = Instant::now() + PATIENCE;
    loop {
        std::thread::sleep(LOOK);
        let now = counters(&ksm)?;
        if first_scan.is_none() && now.full_scans > begin.full_scans {
            first_scan = Some(now.cpu_seconds - begin.cpu_seconds);
        }
        if now.reclaimed() > best.reclaimed() {
            best = now;
        }
        if now.full_scans > best.full_scans + QUIET_SCANS {
            let cpu = best.cpu_seconds - begin.cpu_seconds;
            let first_scan = first_scan.unwrap_or(0.0);
            return Ok(Merged {
                ksm,
                pages: best.reclaimed() - begin.reclaimed(),
                cpu,
                first_scan,
            });
        }
        if Instant::now() > until {
            return Err(BenchError(format!(
                "KSM still merges after {} s",
                PATIENCE.as_secs()
            )));
        }
    }
}

impl Merged {
    /// Sets whether pages found unshareable before are skipped; false where the kernel can't.
    /// What was set before is restored with all of KSM's settings.
    pub fn set_smart_scan(&self, on: bool) -> bool {
        std::fs::write(SMART_SCAN, if on { "1" } else { "0" }).is_ok()
    }

    /// ksmd's mean CPU time of that many full scans from now, seconds.
    pub fn full_scans(&self, scans: u32) -> Result<f64, BenchError> {
        let begin = self.boundary(1)?;
        let end = self.boundary(u64::from(scans))?;
        Ok((end.cpu_seconds - begin.cpu_seconds) / f64::from(scans))
    }

    /// The counters just after that many full scans have ended.
    fn boundary(&self, scans: u64) -> Result<KsmCounters, BenchError> {
        let wanted = counters(&self.ksm)?.full_scans + scans;
        let until = Instant::now() + PATIENCE;
        loop {
            let now = counters(&self.ksm)?;
            if now.full_scans >= wanted {
                return Ok(now);
            }
            if Instant::now() > until {
                return Err(BenchError("ksmd does not end its scan".to_owned()));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Takes the guests away, then KSM: nothing has to be unmerged.
    pub fn end(self, rig: Rig) -> Result<(), BenchError> {
        drop(rig);
        self.ksm
            .stop()
            .map_err(BenchError::of("KSM's settings are not restored"))
    }
}

fn counters(ksm: &Ksm) -> Result<KsmCounters, BenchError> {
    ksm.counters()
        .map_err(BenchError::of("KSM's counters can't be read"))
}
