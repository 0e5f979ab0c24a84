//! Assembles the one program of a guest's `init` that no Debian package has.

use std::env;
use std::error::Error;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = "src/connect.s";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=CC");
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let program = Path::new(&env::var_os("OUT_DIR").ok_or("no OUT_DIR")?).join("connect");
    // Whatever the target of the build is: guests are x86-64 Linux. The same bytes each time, since
    // an image is known by what went in.
    let status = Command::new(&compiler)
        .args(["-nostdlib", "-static", "-no-pie", "-s"])
        .args(["-Wl,--build-id=none", "-Wl,-z,noseparate-code"])
        .args(["-Wl,-z,noexecstack", "-o"])
        .args([program.as_os_str(), SOURCE.as_ref()])
        .status()
        .map_err(|error| format!("{}: {error}", compiler.display()))?;
    if !status.success() {
        return Err(format!("{SOURCE} could not be assembled").into());
    }
    Ok(())
}
