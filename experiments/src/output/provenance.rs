//! Where a result came from: host, versions, command line, commit.

use std::path::Path;
use std::process::Command;

use serde::Serialize;

use super::environment::{Environment, environment};

/// What a result was made with.
#[derive(Clone, Debug, Serialize)]
pub struct Provenance {
    /// Version of this crate.
    pub version: &'static str,
    /// Commit that the binary was built from, and whether the tree had changes; `null` if unknown.
    pub commit: Option<Commit>,
    /// The binary's SHA-256.
    pub binary_digest: Option<String>,
    /// The compiler's optimisation: `release` or `debug`.
    pub profile: &'static str,
    /// Version of `mkfs.ext4`.
    pub mkfs: Option<String>,
    /// The command line.
    pub command_line: Vec<String>,
    /// The host.
    pub host: Host,
    /// What else of host and build may change a result.
    pub environment: Environment,
}

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Commit {
    /// Its id.
    pub id: String,
    /// Whether the tree had changes.
    pub dirty: bool,
}

/// The host.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    /// Kernel release.
    pub kernel: Option<String>,
    /// CPU model.
    pub cpu: Option<String>,
    /// CPUs online.
    pub cpus: Option<usize>,
    /// Memory, bytes.
    pub memory: Option<u64>,
    /// Memory that was available at the start, bytes.
    pub available: Option<u64>,
    /// Load average of the last minute at the start.
    pub load: Option<f64>,
    /// `vm.max_map_count`.
    pub max_map_count: Option<u64>,
    /// Whether transparent huge pages are on.
    pub transparent_huge_pages: Option<String>,
    /// `/sys/kernel/mm/ksm/run`.
    pub ksm_run: Option<u64>,
    /// Which kind of KVM: `hardware`, `software`, `none`, `no-permission`.
    pub kvm: String,
    /// The emulated host that this was measured on, if it was one. Its times compare with nothing
    /// else.
    pub emulated: Option<Emulated>,
}

/// A host that QEMU emulates (`--host emulated`), as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Emulated {
    /// Memory, bytes.
    pub memory: Option<u64>,
    /// Cores.
    pub cores: Option<u64>,
    /// NUMA nodes.
    pub numa_nodes: Option<u64>,
    /// Whether its KVM uses nested paging.
    pub nested_paging: Option<bool>,
    /// Whether its cores are emulated in parallel.
    pub parallel: Option<bool>,
    /// Whether its time is that of its instructions.
    pub by_instructions: Option<bool>,
}

/// The emulated host that this process runs on, if it does.
#[must_use]
pub fn emulated() -> Option<Emulated> {
    emulated_as(|name| std::env::var(name).ok())
}

fn emulated_as(variable: impl Fn(&str) -> Option<String>) -> Option<Emulated> {
    let number = |name| variable(name)?.parse().ok();
    let switch = |name| Some(variable(name)? == "on");
    (variable("MIRRORBALL_HOST")? == "emulated").then(|| Emulated {
        memory: number("MIRRORBALL_HOST_MEMORY"),
        cores: number("MIRRORBALL_HOST_CORES"),
        numa_nodes: number("MIRRORBALL_HOST_NUMA"),
        nested_paging: switch("MIRRORBALL_HOST_NPT"),
        parallel: switch("MIRRORBALL_HOST_PARALLEL"),
        by_instructions: switch("MIRRORBALL_HOST_BY_INSTRUCTIONS"),
    })
}

/// Looks at this process and the host.
#[must_use]
pub fn collect(kvm: &str) -> Provenance {
    Provenance {
        version: env!("CARGO_PKG_VERSION"),
        commit: commit(Path::new(env!("CARGO_MANIFEST_DIR"))),
        binary_digest: binary_digest(),
        profile: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        mkfs: mirrorball_debian::ext4::version().ok(),
        command_line: std::env::args_os()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect(),
        host: host(kvm),
        environment: environment(),
    }
}

/// The commit of the checkout that the binary was built from, if it is still there.
fn commit(checkout: &Path) -> Option<Commit> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(checkout)
            .args(arguments)
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let id = git(&["rev-parse", "HEAD"])?;
    let dirty = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(Commit { id, dirty })
}

fn binary_digest() -> Option<String> {
    use sha2::Digest;
    let bytes = std::fs::read(std::env::current_exe().ok()?).ok()?;
    Some(crate::image::hex(&sha2::Sha256::digest(bytes)))
}

fn host(kvm: &str) -> Host {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let number = |path: &str| read(path)?.parse().ok();
    let cpu = read("/proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    Host {
        kernel: read("/proc/sys/kernel/osrelease"),
        cpu,
        cpus: std::thread::available_parallelism().ok().map(usize::from),
        memory: memory("MemTotal:"),
        available: memory("MemAvailable:"),
        load: read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
        max_map_count: number("/proc/sys/vm/max_map_count"),
        transparent_huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled"),
        ksm_run: number("/sys/kernel/mm/ksm/run"),
        kvm: kvm.to_owned(),
        emulated: emulated(),
    }
}

/// A field of `/proc/meminfo`, bytes.
#[must_use]
pub fn memory(field: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_seen() {
        let seen = collect("none");
        assert!(
            seen.host.kernel.is_some() && seen.host.memory.is_some_and(|memory| memory > 1 << 20)
        );
        assert_eq!(seen.binary_digest.unwrap().len(), 64);
    }

    #[test]
    fn an_emulated_host_is_known_by_its_variables() {
        let inside = |name: &str| match name {
            "MIRRORBALL_HOST" => Some("emulated".to_owned()),
            "MIRRORBALL_HOST_MEMORY" => Some("4294967296".to_owned()),
            "MIRRORBALL_HOST_NPT" => Some("off".to_owned()),
            "MIRRORBALL_HOST_BY_INSTRUCTIONS" => Some("on".to_owned()),
            _ => None,
        };
        let seen = Emulated {
            memory: Some(4 << 30),
            cores: None,
            numa_nodes: None,
            nested_paging: Some(false),
            parallel: None,
            by_instructions: Some(true),
        };
        assert_eq!(emulated_as(inside), Some(seen));
        assert_eq!(emulated_as(|_| Some("other".to_owned())), None);
        assert_eq!(emulated_as(|_| None), None);
    }

    #[test]
    fn no_checkout_is_no_commit() {
        assert_eq!(commit(Path::new("/proc")), None);
    }
}
