//! The monitor's tests on the emulated host: there KVM runs kernels, so what the tests leave out on
//! a machine with a software KVM runs too.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use mirrorball_debian::{GuestImageSpec, Root, default_cache, guest_image};
use mirrorball_host::{EmulatedHost, Interrupts, Job, Machine, Streams};

/// Kernels of the guests, by series.
const KERNELS: [&str; 2] = ["6.1", "6.12"];
/// Tests of the monitor that need such a KVM.
const PROGRAM: &str = "linux";

/// Builds the tests and runs those whose names contain one of `words`; all, without words.
pub(crate) fn test(words: &[String]) -> Result<()> {
    let cache = default_cache();
    let say = |line: &str| println!("{line}");
    let guests = KERNELS
        .iter()
        .map(|kernel| folder(kernel, &cache, &say))
        .collect::<Result<Vec<_>>>()?;
    let guests = std::env::join_paths(guests).context("folders of guest images")?;
    let program = build()?;
    let environment = BTreeMap::from([
        ("PATH", std::env::var_os("PATH").unwrap_or_default()),
        ("TMPDIR", OsString::from("/tmp")),
        ("MIRRORBALL_LINUX_GUESTS", guests),
    ]);
    let host = EmulatedHost {
        machine: Machine {
            memory: 3 << 30,
            cores: 1,
            numa_nodes: 1,
            nested_paging: true,
            parallel: false,
            by_instructions: false,
        },
        job: Job {
            // One after the other: guests that wait for each other's core run into timeouts.
            command: [program.into(), "--test-threads=1".into()]
                .into_iter()
                .chain(words.iter().map(OsString::from))
                .collect(),
            working_folder: std::env::current_dir()?,
            environment: environment
                .into_iter()
                .map(|(name, value)| (name.into(), value))
                .collect(),
            writable: Vec::new(),
        },
        cache,
    };
    match mirrorball_host::run(&host, Streams::standard(), &Interrupts::install()?, &say)? {
        0 => Ok(()),
        code => bail!("the monitor's tests failed on the emulated host (exit code {code})"),
    }
}

/// The folder of a guest image, made if it is not there.
fn folder(kernel: &str, cache: &Path, say: &dyn Fn(&str)) -> Result<PathBuf> {
    let spec = GuestImageSpec {
        kernel: kernel.into(),
        version: None,
        root: Root::None,
        size: None,
        modules: vec!["virtio_net".into()],
    };
    let image = guest_image(&spec, cache, say)?;
    let folder = image.kernel.parent().context("a kernel without a folder")?;
    Ok(folder.into())
}

/// The test program, as it would be run here.
fn build() -> Result<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--release", "--quiet", "--no-run"])
        .args(["--package", "mirrorball-monitor", "--test", PROGRAM])
        .arg("--message-format=json")
        .stderr(Stdio::inherit())
        .output()
        .context("cargo test")?;
    if !output.status.success() {
        bail!("the monitor's tests could not be built");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == PROGRAM)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo does not say where the tests are")
}
