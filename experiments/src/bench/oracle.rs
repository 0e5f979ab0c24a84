//! What the scanner found, two passes after the guests went quiet, of what there is to be found.

use std::time::{Duration, Instant};

use mirrorball_abi::WorkloadKind;
use mirrorball_dedup::{ScannerThread, oracle};

use super::rig::{self, Guests, Rig};
use super::{Bench, BenchError, Log, Row, Wanted};

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "oracle-share",
    what: "share of what the oracle finds, guests that built sources",
    measure,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    let image = Some(rig::image()?);
    let guests = Guests {
        count: 8,
        memory: 128 << 20,
        image,
        disk_sharing: true,
        tracking: true,
    };
    for _ in 0..log.runs {
        let rig = Rig::start(&guests)?;
        let scanner =
            ScannerThread::start(rig.scanner()).map_err(BenchError::of("no scanner thread"))?;
        rig.run(&rig::workload(WorkloadKind::Pmake, &[2, 1, 400]))?;
        // The pass under way when the last guest fell quiet does not count.
        let wanted = scanner.stats().passes + 3;
        let until = Instant::now() + PATIENCE;
        while scanner.stats().passes < wanted {
            if Instant::now() > until {
                return Err(BenchError("the scanner does not end its passes".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        scanner.pause();
        let reclaimed = rig.reclaimed();
        let found = oracle::count(rig.pmap());
        let share = reclaimed as f64 / found.reclaimable.max(1) as f64;
        let what = "reclaimed over what perfect sharing would, two passes after quiet";
        log.add(
            &Row::new("oracle-share", what, "", Wanted::AtLeast(0.99)),
            share,
        );
        let missed = found.reclaimable.saturating_sub(reclaimed) as f64;
        log.add(
            &Row::detail(
                "oracle-missed",
                "pages that perfect sharing would save besides",
                "pages",
            ),
            missed,
        );
        let refused = scanner.stop().refused as f64;
        log.add(
            &Row::detail(
                "oracle-refused",
                "pages refused for want of mappings or frames",
                "pages",
            ),
            refused,
        );
    }
    Ok(())
}
