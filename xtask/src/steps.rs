//! The steps of `cargo xtask test`, each a command that a developer can run alone.

use crate::{emulated, layers, packages};
use anyhow::{Context, Result, bail};
use std::{process::Command, time::Instant};

/// The short integrity run.
const TORTURE: &str = "experiments/torture-short.yaml";

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
    cargo("tests", &["test", "--workspace", "--quiet"])?;
    if !fast {
        // The broken build first, so that what stays in the target folder is the right one.
        broken_protocol()?;
        let torture = ["run", "--release", "--quiet", "--", "run", TORTURE];
        cargo("torture, short form", &torture)?;
        let mut linux = vec!["test", "--release", "--quiet"];
        linux.extend(["--test", "linux_guests", "--test", "linux_timeouts"]);
        cargo("Linux guests on the emulated host", &linux)?;
        heading("the monitor's tests on the emulated host");
        emulated::test(&[])?;
    }
    println!("all steps passed in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Builds the monitor without the fence of the share protocol; the torture run must notice.
pub(crate) fn broken_protocol() -> Result<()> {
    heading("broken share protocol: torture must fail");
    let output = tempfile_name();
    let status = Command::new(env!("CARGO"))
        .args(["run", "--release", "--quiet"])
        .args(["--features", "broken-share-protocol", "--"])
        .args(["run", TORTURE, "--output", &output])
        .status()
        .context("cargo run")?;
    let _ = std::fs::remove_dir_all(&output);
    match status.code() {
        Some(RUN_FAILED | NOT_MET) => {}
        Some(0) => bail!("torture passed although writes were lost: it no longer tests anything"),
        _ => bail!("torture with the broken share protocol could not be judged: {status}"),
    }
    println!("torture found the broken protocol ({status}), as it must");
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
