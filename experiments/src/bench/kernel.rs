//! The kernel's KSM at full speed over a measurement's guests.

use std::time::{Duration, Instant};

use mirrorball_dedup::ksm::{Ksm, KsmCounters, KsmSettings};

use super::BenchError;
use super::rig::Rig;

const LOOK: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(300);

/// Where the kernel's switch is that skips pages found unshareable before.
const SMART_SCAN: &str = "/sys/kernel/mm/ksm/smart_scan";

/// Full scans at least: the first takes checksums, the second merges, the third finds no more.
const LEAST_SCANS: u64 = 3;

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
        // A whole scan has begun and ended since the one that merged last.
        if now.full_scans > best.full_scans + 1 && now.full_scans >= begin.full_scans + LEAST_SCANS
        {
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

    /// The counters just after the scan under way has ended.
    pub fn boundary(&self) -> Result<KsmCounters, BenchError> {
        let now = counters(&self.ksm)?;
        self.after(&now, 1)
    }

    /// ksmd's mean CPU time of that many full scans since a boundary, seconds; the boundary moves
    /// to their end.
    pub fn full_scans(&self, since: &mut KsmCounters, scans: u64) -> Result<f64, BenchError> {
        let end = self.after(since, scans)?;
        let cpu = end.cpu_seconds - since.cpu_seconds;
        let ended = end.full_scans - since.full_scans;
        *since = end;
        Ok(cpu / ended as f64)
    }

    fn after(&self, since: &KsmCounters, scans: u64) -> Result<KsmCounters, BenchError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let now = counters(&self.ksm)?;
            if now.full_scans >= since.full_scans + scans {
                return Ok(now);
            }
            if Instant::now() > until {
                return Err(BenchError("ksmd does not end its scans".to_owned()));
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
