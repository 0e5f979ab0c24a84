//! The published values in experiment files are those of `experiments/reference/`.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::Path;

use mirrorball_experiments::spec::{HostFacts, load};
use mirrorball_report::figure::{Published, PublishedFigure};

fn published(file: &str) -> Published {
    let host = HostFacts {
        memory: u64::MAX,
        results: None,
    };
    let loaded = load(Path::new(file), None, &[], &host).unwrap();
    loaded.experiment.sweep.unwrap().published.unwrap()
}

/// Values of a series by numbers of guests, in percent, with the largest reading error.
fn reference(file: &str, series: &str) -> (Vec<(u32, f64)>, f64) {
    let text = fs::read_to_string(Path::new("experiments/reference").join(file)).unwrap();
    let (mut values, mut error) = (Vec::new(), 0.0_f64);
    for line in text.lines().skip(1) {
        let columns: Vec<&str> = line.split(',').collect();
        let [_, _, name, guests, value, unit, off, how] = columns[..] else {
            panic!("not eight columns: {line}");
        };
        assert!(
            !how.is_empty() && off.parse::<f64>().unwrap() > 0.0,
            "{line}"
        );
        if name == series && unit.starts_with("percent") {
            values.push((guests.parse().unwrap(), value.parse().unwrap()));
            error = error.max(off.parse().unwrap());
        }
    }
    (values, error)
}

fn told(published: &Published, values: &[f64]) -> Vec<(u32, f64)> {
    let counts = published.count.iter().copied();
    counts.zip(values.iter().copied()).collect()
}

#[test]
fn the_points_of_esx_figure_4() {
    let (file, csv) = (
        "experiments/esx/fig4-identical-vms.yaml",
        "esx-figure-4.csv",
    );
    let published = published(file);
    for (series, values) in [
        ("shared", &published.shared),
        ("reclaimed", &published.reclaimed),
        ("zero", &published.zero),
    ] {
        let (known, error) = reference(csv, series);
        assert_eq!(known.len(), 10, "{series}");
        assert_eq!(told(&published, values), known, "{series}");
        assert_eq!(published.reading_error, Some(error), "{series}");
    }
}

#[test]
fn the_points_of_disco_figure_6() {
    let published = published("experiments/linux/pmake.yaml");
    let (known, _) = reference("disco-figure-6.csv", "reclaimed");
    assert_eq!(told(&published, &published.reclaimed), known);
    let memory = |series: &str| -> Vec<f64> {
        let text = fs::read_to_string("experiments/reference/disco-figure-6.csv").unwrap();
        let lines = text
            .lines()
            .filter(|line| line.contains(&format!(",{series},")));
        let value = |line: &str| line.split(',').nth(4).unwrap().parse().unwrap();
        lines.map(value).collect()
    };
    for ((v, m), (_, saved)) in memory("V").into_iter().zip(memory("M")).zip(known) {
        assert!(((v - m) / v * 100.0 - saved).abs() < 0.6, "{v} {m} {saved}");
    }
}

#[test]
fn the_bars_of_disco_figure_6() {
    let published = published("experiments/disco/fig6-sharing.yaml");
    let (known, _) = reference("disco-figure-6.csv", "reclaimed");
    assert_eq!(told(&published, &published.reclaimed), known);
    let text = fs::read_to_string("experiments/reference/disco-figure-6.csv").unwrap();
    // The last bar, with a file server, has series of its own.
    let series = |name: &str| -> Vec<f64> {
        let of = |series: String| {
            let lines = text
                .lines()
                .filter(move |line| line.split(',').nth(2) == Some(&series));
            let value = |line: &str| line.split(',').nth(4).unwrap().parse::<f64>().unwrap();
            lines.map(value).collect::<Vec<_>>()
        };
        [of(name.to_owned()), of(format!("{name} served"))].concat()
    };
    let footprint = published.footprint.unwrap();
    assert_eq!(footprint.bars.len(), 5);
    let parts = ["text", "data", "cache"].into_iter().enumerate();
    for (part, name) in parts {
        assert_eq!(
            footprint.touched[part],
            series(&format!("{name} V")),
            "{name}"
        );
        assert_eq!(
            footprint.machine[part],
            series(&format!("{name} M")),
            "{name}"
        );
    }
}

/// Values of a series by their places.
fn series(file: &str, name: &str) -> Vec<(f64, f64)> {
    let text = fs::read_to_string(Path::new("experiments/reference").join(file)).unwrap();
    let rows = text
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect::<Vec<_>>());
    let rows = rows.filter(|row| row[2] == name);
    rows.map(|row| (row[3].parse().unwrap(), row[4].parse().unwrap()))
        .collect()
}

fn curves(file: &str) -> Vec<PublishedFigure> {
    let host = HostFacts {
        memory: u64::MAX,
        results: None,
    };
    load(Path::new(file), None, &[], &host)
        .unwrap()
        .experiment
        .curves
}

#[test]
fn the_curves_of_esx_figure_2() {
    let curves = curves("experiments/esx/fig2-balloon.yaml");
    for line in &curves[0].lines {
        let known = series("esx-figure-2.csv", &line.name);
        assert_eq!(line.x.len(), known.len(), "{}", line.name);
        for ((x, y), (size, rate)) in line.x.iter().zip(&line.y).zip(known) {
            let expected = (size / 256.0 * 100.0, rate / 17.8 * 100.0);
            assert!(
                (x - expected.0).abs() < 0.01 && (y - expected.1).abs() < 0.06,
                "{x} {y}"
            );
        }
    }
}

#[test]
fn the_curves_over_time_of_esx_figures_6_to_8() {
    let mut found = 0;
    for (file, csv) in [
        (
            "experiments/esx/fig6-active-sampling.yaml",
            "esx-figure-6.csv",
        ),
        ("experiments/esx/fig7-idle-tax.yaml", "esx-figure-7.csv"),
        (
            "experiments/esx/fig8-dynamic-reallocation.yaml",
            "esx-figure-8.csv",
        ),
    ] {
        for line in &curves(file)[0].lines {
            let name = line.name.replace("estimated active", "active");
            let name = name.split(", points").next().unwrap().replace(',', "");
            let known = series(csv, &name);
            assert!(!known.is_empty(), "{name}");
            let drawn: Vec<_> = line.x.iter().copied().zip(line.y.iter().copied()).collect();
            for point in &known {
                assert!(drawn.contains(point), "{name}: {point:?} is not drawn");
            }
            // The others are ends of steps.
            let values: Vec<_> = known.iter().map(|(_, value)| *value).collect();
            assert!(line.y.iter().all(|value| values.contains(value)), "{name}");
            found += known.len();
        }
    }
    assert_eq!(found, 9 + 6 + 8 + 12);
}
