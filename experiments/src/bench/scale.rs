//! A thousand idle guests in one process: how soon they are up, what they take, a pass, the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mirrorball_abi::Phase;
use mirrorball_dedup::{Scanner, ScannerConfig};
use mirrorball_monitor::{Boot, Machine, MachineConfig, MonitorError, Vm, VmConfig, VmState};
use mirrorball_pmap::GroupId;
use parking_lot::Mutex;

use super::{Bench, BenchError, Log, Row, Wanted};
use crate::output::provenance;

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "scale",
    what: "1,000 idle guests of 64 MiB in one process",
    measure,
};

const GUESTS: usize = 1000;
const MEMORY: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(120);
/// Passes that are timed: one finds out, one looks and shares, the others find it done.
const PASSES: usize = 4;

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    for _ in 0..log.runs {
        once(log)?;
    }
    Ok(())
}

fn once(log: &mut Log<'_>) -> Result<(), BenchError> {
    let failed = |error: MonitorError| BenchError(error.to_string());
    let (available, resident) = (available()?, resident()?);
    let began = Instant::now();
    let machine = Machine::new(&MachineConfig::default()).map_err(failed)?;
    machine.reserve_vms(GUESTS).map_err(failed)?;
    let reserved = began.elapsed();
    let vms = create(&machine)?;
    let created = began.elapsed();
    for vm in &vms {
        vm.wait_until(Phase::Ready, 0, PATIENCE)
            .map_err(|error| BenchError(format!("{}: {error}", vm.name())))?;
    }
    let up = began.elapsed();
    let detail = |id: &str, what: &str, unit| Row::detail(id, what, unit);
    log.add(
        &Row::new(
            "scale-up",
            "until all guests are up",
            "s",
            Wanted::AtMost(5.0),
        ),
        up.as_secs_f64(),
    );
    log.add(
        &detail("scale-reserve", "of it, KVM's part made ahead", "s"),
        reserved.as_secs_f64(),
    );
    log.add(
        &detail("scale-create", "of it, guests made and started", "s"),
        (created - reserved).as_secs_f64(),
    );
    let each = |before: u64, after: u64| {
        before.saturating_sub(after) as f64 / GUESTS as f64 / f64::from(1 << 20)
    };
    let memory = each(available, self::available()?);
    let what = "host memory a guest takes, kernel included";
    log.add(
        &Row::new("scale-memory", what, "MiB", Wanted::AtMost(1.0)),
        memory,
    );
    log.add(
        &detail("scale-resident", "of it, resident in this process", "MiB"),
        each(self::resident()?, resident),
    );
    passes(log, &machine);
    let running = vms
        .iter()
        .filter(|vm| vm.state() == VmState::Running)
        .count();
    if running < GUESTS {
        return Err(BenchError(format!(
            "only {running} of {GUESTS} guests are alive after the passes"
        )));
    }
    let began = Instant::now();
    drop(vms);
    drop(machine);
    log.add(
        &detail("scale-stop", "until all guests are gone", "s"),
        began.elapsed().as_secs_f64(),
    );
    Ok(())
}

fn passes(log: &mut Log<'_>, machine: &Arc<Machine>) {
    let mut scanner = Scanner::new(machine.pmap().clone(), &ScannerConfig::default());
    let reports: Vec<_> = (0..PASSES).map(|_| scanner.pass()).collect();
    let seconds = |report: &mirrorball_dedup::PassReport| report.elapsed.as_secs_f64();
    let slowest = reports.iter().map(seconds).fold(0.0, f64::max);
    let what = "slowest of the first passes over all guests";
    log.add(
        &Row::new("scale-pass", what, "s", Wanted::AtMost(1.0)),
        slowest,
    );
    if let Some(last) = reports.last() {
        log.add(
            &Row::detail("scale-pass-last", "the pass when all is found", "s"),
            seconds(last),
        );
    }
    let shared = reports
        .iter()
        .map(|report| report.work.shared + report.work.zero_released)
        .sum::<u64>();
    let what = "pages that the passes saved, each guest";
    log.add(
        &Row::detail("scale-pass-pages", what, "pages"),
        shared as f64 / GUESTS as f64,
    );
}

/// Makes and starts the guests, on as many threads as there are CPUs.
fn create(machine: &Arc<Machine>) -> Result<Vec<Arc<Vm>>, BenchError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, vms) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(GUESTS)));
    let work = || -> Result<(), MonitorError> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= GUESTS {
                return Ok(());
            }
            let vm = machine.create_vm(&VmConfig {
                name: format!("guest-{number}"),
                group: GroupId(0),
                memory: MEMORY,
                vcpus: 1,
                disks: Vec::new(),
                networks: Vec::new(),
                console: false,
                balloon: false,
                boot: Boot::Splash,
            })?;
            vm.start()?;
            vms.lock().push(vm);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            match thread.join() {
                Ok(result) => result.map_err(|error| BenchError(error.to_string()))?,
                Err(_) => return Err(BenchError("a thread that made guests panicked".to_owned())),
            }
        }
        Ok(())
    })?;
    Ok(vms.into_inner())
}

fn available() -> Result<u64, BenchError> {
    provenance::memory("MemAvailable:")
        .ok_or_else(|| BenchError("/proc/meminfo can't be read".to_owned()))
}

/// Bytes of this process in memory, frames included.
fn resident() -> Result<u64, BenchError> {
    let text =
        std::fs::read_to_string("/proc/self/statm").map_err(BenchError::of("/proc/self/statm"))?;
    let pages: Option<u64> = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    pages
        .map(|pages| pages * mirrorball_pmap::PAGE_BYTES)
        .ok_or_else(|| BenchError("/proc/self/statm".to_owned()))
}
