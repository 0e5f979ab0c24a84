//! A sweep of three mechanism sets and three numbers of guests, five runs each: what is made of it is
//! small, sound, and the same each time.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::Path;

use mirrorball_report::html::{Placing, write};
use mirrorball_report::judge::{Measured, outcomes};
use mirrorball_report::median::median;
use mirrorball_report::package::{check, collect, read, write as pack};
use mirrorball_report::results::Results;
use mirrorball_report::samples::{MACHINE, Sample};
use mirrorball_report::summary::{Cell, Figures};
use serde_json::{Value, json};

const SETS: [&str; 3] = ["none", "content", "all"];
const GUESTS: [u32; 3] = [2, 4, 8];
const RUNS: u32 = 5;
const SAMPLES: u32 = 200;

/// Writes such a result, made of a stored one: more guests are more of everything, and each run is a
/// little other.
fn sweep(folder: &Path) {
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/quick");
    let stored = Results::load(&stored).unwrap();
    let (mut cells, mut runs) = (Vec::new(), Vec::new());
    let mut samples = csv::Writer::from_path(folder.join("samples.csv")).unwrap();
    for set in SETS {
        let from = stored.cell(set).unwrap();
        for guests in GUESTS {
            let id = format!("{set}-{guests}");
            let figures: Vec<Figures> = (1..=RUNS)
                .map(|run| scaled(&from.figures, f64::from(guests) + f64::from(run) / 50.0))
                .collect();
            for (run, figures) in (1..).zip(&figures) {
                runs.push(json!({
                    "cell": id, "run": run, "seconds": 2.0, "complete": true,
                    "started": format!("2026-01-01T00:{run:02}:00Z"), "figures": figures,
                }));
                sampled(&mut samples, &id, run, guests);
            }
            cells.push(Cell {
                id,
                set: set.to_owned(),
                point: [("guests.web.count".to_owned(), guests.into())].into(),
                guests: guests.into(),
                runs: RUNS.into(),
                figures: median(&figures),
                expect: Vec::new(),
                ..from.clone()
            });
        }
    }
    samples.flush().unwrap();
    let mut summary = stored.summary.clone();
    summary.cells = cells;
    let mut run = stored.run.conditions.clone();
    run["runs"] = Value::Array(runs);
    run["experiment"]["expect"] = json!([
        { "id": "grows", "metric": "memory.touched", "bound": { "increases-with": "guests.web.count" } },
        { "id": "shrinks", "metric": "memory.touched", "cell": "all",
          "bound": { "decreases-with": "guests.web.count" } },
    ]);
    fs::write(folder.join("run.json"), run.to_string()).unwrap();
    let file = folder.join("summary.json");
    fs::write(&file, json!(summary).to_string()).unwrap();
    let stored = Results::load(folder).unwrap();
    let expect = &stored.run.experiment.expect;
    let found = outcomes(expect, &summary.cells, |cell, metric| Measured {
        runs: stored.values(cell, metric),
        cell: None,
    });
    for cell in &mut summary.cells {
        let own = found.iter().filter(|found| found.cells.contains(&cell.id));
        cell.expect = own.map(|found| found.outcome.clone()).collect();
    }
    fs::write(&file, json!(summary).to_string()).unwrap();
}

fn scaled(figures: &Figures, factor: f64) -> Figures {
    fn walk(tree: &mut Value, factor: f64) {
        match tree {
            Value::Object(map) => map.values_mut().for_each(|value| walk(value, factor)),
            Value::Number(number) if number.is_f64() => {
                *tree = json!(number.as_f64().unwrap() * factor);
            }
            Value::Number(number) => {
                #[allow(clippy::cast_possible_truncation, reason = "sizes of a test")]
                let value = (number.as_f64().unwrap() * factor) as i64;
                *tree = json!(value);
            }
            _ => {}
        }
    }
    let mut tree = serde_json::to_value(figures).unwrap();
    walk(&mut tree, factor);
    serde_json::from_value(tree).unwrap()
}

fn sampled(samples: &mut csv::Writer<fs::File>, cell: &str, run: u32, guests: u32) {
    for step in 0..SAMPLES {
        let sample = Sample {
            cell: cell.into(),
            run,
            time_seconds: f64::from(step) / 100.0,
            vm: MACHINE.into(),
            private_bytes: u64::from(guests * step) << 12,
            content_bytes: Some(u64::from(guests * step) << 11),
            ..Sample::default()
        };
        samples.serialize(sample).unwrap();
    }
}

#[test]
fn a_sweep_makes_a_small_page_and_a_sound_package() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("sweep");
    fs::create_dir(&folder).unwrap();
    sweep(&folder);
    let results = Results::load(&folder).unwrap();
    assert_eq!(results.summary.cells.len(), 9);
    let written = write(
        std::slice::from_ref(&results),
        &place.path().join("page"),
        Placing::default(),
    )
    .unwrap();
    assert!(written.bytes < 2 << 20, "{} bytes", written.bytes);
    let page = fs::read_to_string(&written.page).unwrap();
    for part in [
        "Memory saved against the number of guests",
        "-sweep\"",
        "<th scope=\"col\">web.count</th>",
        "all-8 to none-8",
        "<span>none-2</span> <span>&#60; none-4</span> <span>&#60; none-8</span>",
        "<span>all-2</span> <span>&#62; all-4</span> <span>&#62; all-8</span>",
        "increases with guests.web.count",
        "least step ",
        "not met",
    ] {
        assert!(page.contains(part), "{part}");
    }

    let (one, two) = (place.path().join("1.tar.gz"), place.path().join("2.tar.gz"));
    pack(&one, "sweep", &collect(&folder).unwrap()).unwrap();
    pack(&two, "sweep", &collect(&folder).unwrap()).unwrap();
    let bytes = fs::read(&one).unwrap();
    assert_eq!(bytes, fs::read(&two).unwrap());
    let unpacked = tempfile::tempdir().unwrap();
    let checks = check(&read(&one).unwrap(), unpacked.path()).unwrap();
    assert!(checks.len() >= 5, "{checks:?}");
    for check in &checks {
        assert!(
            check.problems.is_empty() && check.skipped.is_none(),
            "{check:?}"
        );
    }

    // Any byte of the archive: it is found, or it changed nothing that is in it (a gzip header's).
    let whole = read(&one).unwrap();
    for place in (0..bytes.len()).step_by(bytes.len() / 40) {
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x04;
        fs::write(&two, &flipped).unwrap();
        assert!(
            read(&two).map_or(true, |entries| entries == whole),
            "byte {place}"
        );
    }
}
