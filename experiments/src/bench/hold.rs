//! How long sharing holds a VM's writers, while all its vCPUs write and the scanner never rests.
//!
//! Once with a vCPU for each core, and once with two: where vCPUs outnumber cores, whoever has to
//! wait for a thread without a core waits for a time slice.

use std::time::Duration;

use hdrhistogram::Histogram;
use mirrorball_abi::{Workload, WorkloadKind};
use mirrorball_dedup::{Scanner, ScannerConfig, ScannerThread};

use super::rig::{self, Guests, Rig};
use super::{Bench, BenchError, Log, Row, Wanted};

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "hold",
    what: "hold time of a VM's writers during sharing",
    measure,
};

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    let image = Some(rig::image()?);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let guests = |count| Guests {
        count,
        memory: 64 << 20,
        image: image.clone(),
        disk_sharing: true,
        tracking: true,
    };
    let torture = rig::workload(WorkloadKind::Torture, &[150_000]);
    // Working set, period, moved, written, zero, equal, duration: 3 s of writing without a rest.
    let touch = rig::workload(WorkloadKind::Touch, &[4096, 1, 20, 60, 10, 60, 3000]);
    for _ in 0..log.runs {
        let (one_each, two_each) = (guests(cores), guests(2 * cores));
        one(log, "hold", "torture", &one_each, &torture)?;
        one(log, "hold-touch", "touch", &one_each, &touch)?;
        one(log, "hold-crowded", "torture", &two_each, &torture)?;
        one(log, "hold-crowded-touch", "touch", &two_each, &touch)?;
    }
    Ok(())
}

fn one(
    log: &mut Log<'_>,
    id: &str,
    name: &str,
    guests: &Guests,
    work: &Workload,
) -> Result<(), BenchError> {
    let rig = Rig::start(guests)?;
    let config = ScannerConfig {
        interval: Duration::ZERO,
        settle: 0,
        burden: None,
        ..ScannerConfig::default()
    };
    let scanner = ScannerThread::start(Scanner::new(rig.pmap().clone(), &config))
        .map_err(BenchError::of("no scanner thread"))?;
    rig.run(work)?;
    let stats = scanner.stop();
    let mut holds = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 2)
        .map_err(|error| BenchError(error.to_string()))?;
    for vm in rig.vms() {
        holds
            .add(vm.holds())
            .map_err(|error| BenchError(error.to_string()))?;
    }
    if holds.is_empty() {
        return Err(BenchError(format!(
            "{name}: nothing was shared while guests wrote"
        )));
    }
    let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    let vcpus = guests.count;
    let what = format!("p99 of holds, {vcpus} vCPUs run `{name}`, scanner without rest");
    log.add(
        &Row::new(id, &what, "ms", Wanted::AtMost(1.0)),
        ms(holds.value_at_quantile(0.99)),
    );
    let detail = |part: &str, what: &str, unit| Row::detail(&format!("{id}-{part}"), what, unit);
    log.add(
        &detail("median", "median of holds", "ms"),
        ms(holds.value_at_quantile(0.5)),
    );
    log.add(&detail("max", "longest hold", "ms"), ms(holds.max()));
    log.add(&detail("count", "holds", ""), holds.len() as f64);
    log.add(
        &detail("shared", "pages shared meanwhile", "pages"),
        stats.shared as f64,
    );
    Ok(())
}
