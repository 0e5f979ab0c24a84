//! Builds the thin guest's ELF image, so that no extra command or target is needed.
//!
//! The guest is an ordinary package of this workspace, built by a second cargo for the only
//! target that every toolchain has, linked by its own script against nothing.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() -> Result<(), Box<dyn Error>> {
    let guest = Path::new(&variable("CARGO_MANIFEST_DIR")?)
        .join("..")
        .canonicalize()?;
    let workspace = guest.join("..").canonicalize()?;
    for path in [
        "splash/src",
        "splash/Cargo.toml",
        "splash/splash.ld",
        "abi/src",
        "abi/Cargo.toml",
    ] {
        println!("cargo::rerun-if-changed={}", guest.join(path).display());
    }
    for path in ["Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    let target_dir = PathBuf::from(variable("OUT_DIR")?).join("guest");
    build(&guest, &workspace, &target_dir)?;
    let image = target_dir.join(TARGET).join("guest/splash");
    println!("cargo::rustc-env=MIRRORBALL_SPLASH={}", image.display());
    Ok(())
}

fn variable(name: &str) -> Result<String, Box<dyn Error>> {
    Ok(env::var(name).map_err(|error| format!("{name}: {error}"))?)
}

fn build(guest: &Path, workspace: &Path, target_dir: &Path) -> Result<(), Box<dyn Error>> {
    let mut cargo = Command::new(variable("CARGO")?);
    // What cargo, a wrapper or the user set for the outer build must not change the guest.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let kept = [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_HTTP_",
            "CARGO_REGISTRIES_",
            "CARGO_SOURCE_",
        ];
        let foreign =
            text.starts_with("CARGO") && !kept.iter().any(|prefix| text.starts_with(prefix));
        if foreign
            || text.starts_with("RUSTFLAGS")
            || text.starts_with("RUSTC")
            || text == "RUSTDOCFLAGS"
        {
            cargo.env_remove(&name);
        }
    }
    cargo.current_dir(workspace);
    cargo.args([
        "build",
        "--package",
        "mirrorball-splash",
        "--bin",
        "splash",
        "--features",
        "bare-metal",
    ]);
    cargo
        .args(["--profile", "guest", "--target", TARGET, "--target-dir"])
        .arg(target_dir);
    if workspace.join("Cargo.lock").exists() {
        cargo.arg("--locked");
    }
    cargo.env(
        "CARGO_ENCODED_RUSTFLAGS",
        flags(guest, workspace).join("\u{1f}"),
    );
    let output = cargo.output()?;
    if !output.status.success() {
        return Err(format!(
            "the thin guest does not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into());
    }
    Ok(())
}

fn flags(guest: &Path, workspace: &Path) -> Vec<String> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    let mut flags = vec![
        "-Crelocation-model=static".to_owned(),
        "-Ctarget-feature=+crt-static".to_owned(),
        // Panic messages say the same wherever the sources lie.
        format!("--remap-path-prefix={}=mirrorball", workspace.display()),
    ];
    if let Some(home) = home {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
    }
    let script = format!("-Wl,-T,{}", guest.join("splash/splash.ld").display());
    let linker = [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
        &script,
    ];
    flags.extend(
        linker
            .iter()
            .map(|argument| format!("-Clink-arg={argument}")),
    );
    flags
}
