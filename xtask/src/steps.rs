//! The steps of `cargo xtask test`, each a command that a developer can run alone.

use crate::{emulated, layers, packages};
use anyhow::{Context, Result, bail};
use std::{process::Command, time::Instant};

/// The short integrity run.
const TORTURE: &str = "experiments/torture-short.yaml";
/// The same for what goes over a network.
const EXCHANGE: &str = "experiments/exchange-short.yaml";

/// Exit codes of `mirrorball run`: a guest found a wrong byte, or an expectation was not met.
const RUN_FAILED: i32 = 5;
const NOT_MET: i32 = 6;

/// Everything that must hold before a change lands.
pub(crate) fn test(fast: bool) -> Result<()> {
    let start = Instant::now();
    packages::ensure()?;
    cargo("format", &["fmt", "--all", "--check"])?;
    layers::check()?;
    cargo(
        "lints",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ],
    )?;
    cargo(
        "tests",
        &["test", "--workspace", "--quiet", "--no-fail-fast"],
    )?;
    cargo(
        "Parquet tables",
        &[
            "test",
            "--quiet",
            "--package",
            "mirrorball-report",
            "--features",
            "parquet",
            "--lib",
            "parquet",
        ],
    )?;
    if !fast {
        // The broken build first, so that what stays in the target folder is the right one.
        broken_protocols()?;
        for (name, file) in [
            ("torture, short form", TORTURE),
            ("exchange, short form", EXCHANGE),
        ] {
            cargo(name, &["run", "--release", "--quiet", "--", "run", file])?;
        }
        let mut linux = vec!["test", "--release", "--quiet"];
        for name in ["linux_guests", "linux_timeouts", "linux_policy"] {
            linux.extend(["--test", name]);
        }
        cargo("Linux guests on the emulated host", &linux)?;
        heading("the monitor's tests on the emulated host");
        emulated::test(&[])?;
    }
    println!("all steps passed in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Builds the monitor with a protocol broken, twice: without the fence around sharing, and lending pages
/// as what they were before they were written. The runs that test the protocols must notice.
pub(crate) fn broken_protocols() -> Result<()> {
    broken_protocol("broken-share-protocol", TORTURE)?;
    broken_protocol("broken-lend-protocol", EXCHANGE)
}

fn broken_protocol(feature: &str, file: &str) -> Result<()> {
    heading(&format!("{feature}: {file} must fail"));
    let output = tempfile_name();
    let status = Command::new(env!("CARGO"))
        .args(["run", "--release", "--quiet"])
        .args(["--features", feature, "--"])
        .args(["run", file, "--output", &output])
        .status()
        .context("cargo run")?;
    let _ = std::fs::remove_dir_all(&output);
    match status.code() {
        Some(RUN_FAILED | NOT_MET) => {}
        Some(0) => bail!("{file} passed with {feature}: it no longer tests anything"),
        _ => bail!("{file} with {feature} could not be judged: {status}"),
    }
    println!("{file} found {feature} ({status}), as it must");
    Ok(())
}

fn tempfile_name() -> String {
    let folder = std::env::temp_dir().join(format!("mirrorball-broken-{}", std::process::id()));
    folder.to_string_lossy().into_owned()
}

fn cargo(name: &str, arguments: &[&str]) -> Result<()> {
    heading(name);
    let start = Instant::now();
    let status = Command::new(env!("CARGO"))
        .args(arguments)
        .status()
        .context("cargo")?;
    if !status.success() {
        bail!("{name} failed: cargo {}", arguments.join(" "));
    }
    println!("{name}: ok in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn heading(name: &str) {
    println!("== {name}");
}
