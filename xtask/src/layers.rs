//! Which crate may use which: the layout of `docs/architecture.md`, kept true.

use anyhow::{Context, Result, bail};
use std::process::Command;

/// Each crate with those of the workspace that it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("mirrorball-pmap", &[]),
    ("mirrorball-abi", &[]),
    ("mirrorball-splash-image", &[]),
    ("mirrorball-debian", &[]),
    ("mirrorball-policy", &[]),
    ("mirrorball-splash", &["mirrorball-abi"]),
    ("mirrorball-dedup", &["mirrorball-pmap"]),
    ("mirrorball-vnet", &["mirrorball-pmap"]),
    ("mirrorball-virtio", &["mirrorball-pmap", "mirrorball-vnet"]),
    (
        "mirrorball-monitor",
        &[
            "mirrorball-abi",
            "mirrorball-dedup",
            "mirrorball-pmap",
            "mirrorball-splash-image",
            "mirrorball-virtio",
            "mirrorball-vnet",
        ],
    ),
    (
        "mirrorball-experiments",
        &[
            "mirrorball-abi",
            "mirrorball-debian",
            "mirrorball-dedup",
            "mirrorball-live",
            "mirrorball-monitor",
            "mirrorball-pmap",
            "mirrorball-policy",
            "mirrorball-report",
            "mirrorball-virtio",
            "mirrorball-vnet",
        ],
    ),
    ("mirrorball-report", &[]),
    ("mirrorball-live", &["mirrorball-report"]),
    ("mirrorball-host", &["mirrorball-debian"]),
    (
        "mirrorball",
        &[
            "mirrorball-debian",
            "mirrorball-experiments",
            "mirrorball-host",
            "mirrorball-live",
            "mirrorball-report",
        ],
    ),
    ("xtask", &["mirrorball-debian", "mirrorball-host"]),
];

/// Crates without unsafe code.
const SAFE: &[&str] = &[
    "dedup",
    "experiments",
    "guest/abi",
    "guest/debian",
    "live",
    "policy",
    "report",
    "src",
    "vnet",
    "xtask",
];

/// Checks the dependencies of every workspace crate against [`ALLOWED`], and that the crates in
/// [`SAFE`] hold no unsafe code.
pub(crate) fn check() -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let empty = Vec::new();
    for package in metadata["packages"].as_array().unwrap_or(&empty) {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ALLOWED.iter().find(|(crate_name, _)| *crate_name == name) else {
            bail!("{name} is not in the list of layers (xtask/src/layers.rs)");
        };
        for dependency in package["dependencies"].as_array().unwrap_or(&empty) {
            let used = dependency["name"].as_str().unwrap_or_default();
            let development = dependency["kind"].as_str() == Some("dev");
            let ours = ALLOWED.iter().any(|(crate_name, _)| *crate_name == used);
            if ours && !development && !allowed.contains(&used) {
                bail!("{name} must not depend on {used} (docs/architecture.md, \"The layout\")");
            }
        }
    }
    for folder in SAFE {
        let found = Command::new("git")
            .args([
                "grep",
                "-lE",
                r"unsafe (\{|impl|fn|extern)",
                "--",
                &format!("{folder}/*.rs"),
            ])
            .output()
            .context("git grep")?;
        if !found.stdout.is_empty() {
            bail!(
                "{folder} must hold no unsafe code: {}",
                String::from_utf8_lossy(&found.stdout)
            );
        }
    }
    println!("layers: every dependency points downwards");
    Ok(())
}
