//! What of the host and of the build may change a result, beyond what everyone asks first.
//!
//! A field that this host has not is `null`, and readers are told "not available": a reader must see
//! that somebody looked. Of the kernel's command line only parameters with an effect on memory,
//! processors or KVM are kept, since the rest may name addresses or hold secrets.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Serialize;
use sha2::Digest as _;

/// The lock file that the binary was built with.
const LOCK: &[u8] = include_bytes!("../../../Cargo.lock");

/// Beginnings of parameters of the kernel's command line that are kept.
const KEPT: [&str; 22] = [
    "amd_",
    "clocksource",
    "cgroup",
    "hugepage",
    "default_hugepagesz",
    "idle",
    "init_on_",
    "intel_",
    "isolcpus",
    "kvm",
    "mem",
    "mitigations",
    "nested",
    "no",
    "numa",
    "preempt",
    "processor.",
    "psi",
    "rcu_nocbs",
    "swap",
    "transparent_hugepage",
    "tsc",
];

/// Options of the kernel's configuration that mechanisms or measurements depend on.
const OPTIONS: [&str; 12] = [
    "CONFIG_KSM",
    "CONFIG_KVM",
    "CONFIG_USERFAULTFD",
    "CONFIG_TRANSPARENT_HUGEPAGE",
    "CONFIG_MEMCG",
    "CONFIG_PSI",
    "CONFIG_NUMA",
    "CONFIG_SWAP",
    "CONFIG_ZSWAP",
    "CONFIG_HZ",
    "CONFIG_PREEMPT_NONE",
    "CONFIG_INIT_ON_ALLOC_DEFAULT_ON",
];

/// Files of `/proc/sys/vm`.
const VM: [&str; 8] = [
    "compaction_proactiveness",
    "max_map_count",
    "min_free_kbytes",
    "overcommit_memory",
    "overcommit_ratio",
    "swappiness",
    "unprivileged_userfaultfd",
    "watermark_scale_factor",
];

/// Files of `/sys/kernel/mm/transparent_hugepage`.
const HUGE_PAGES: [&str; 4] = ["enabled", "defrag", "shmem_enabled", "use_zero_page"];

/// Files of `/sys/kernel/mm/ksm`.
const KSM: [&str; 7] = [
    "advisor_mode",
    "max_page_sharing",
    "merge_across_nodes",
    "pages_to_scan",
    "sleep_millisecs",
    "smart_scan",
    "use_zero_pages",
];

/// The host and the build.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// Version and build of the kernel.
    pub kernel_build: Option<String>,
    /// SHA-256 of the kernel's configuration file.
    pub kernel_config_digest: Option<String>,
    /// Some of its options; an option that is not set is `n`.
    pub kernel_options: Option<BTreeMap<String, String>>,
    /// Parameters of the kernel's command line that matter here.
    pub kernel_parameters: Option<String>,
    /// Revision of the processor's microcode.
    pub microcode: Option<String>,
    /// NUMA nodes.
    pub numa_nodes: Option<String>,
    /// Whether it is a virtual machine itself, and whose.
    pub machine: Option<String>,
    /// What sets the processors' frequency.
    pub frequency_governor: Option<String>,
    /// Whether two threads share a core.
    pub smt: Option<String>,
    /// Swap, bytes.
    pub swap: Option<u64>,
    /// Files of `/proc/sys/vm`.
    pub vm: BTreeMap<&'static str, Option<String>>,
    /// Files of `/sys/kernel/mm/transparent_hugepage`.
    pub transparent_huge_pages: BTreeMap<&'static str, Option<String>>,
    /// Settings of `/sys/kernel/mm/ksm`.
    pub ksm: BTreeMap<&'static str, Option<String>>,
    /// The compiler.
    pub rustc: Option<&'static str>,
    /// What it compiled for.
    pub target: String,
    /// Features of this crate that are on.
    pub features: Vec<&'static str>,
    /// SHA-256 of `Cargo.lock`.
    pub lock_digest: String,
}

/// Looks at this process and the host.
#[must_use]
pub fn environment() -> Environment {
    let config = kernel_config();
    Environment {
        kernel_build: read("/proc/sys/kernel/version"),
        kernel_config_digest: config.as_deref().map(digest),
        kernel_options: config.as_deref().map(options),
        kernel_parameters: read("/proc/cmdline").map(|line| parameters(&line)),
        microcode: cpuinfo("microcode"),
        numa_nodes: read("/sys/devices/system/node/online"),
        machine: machine(),
        frequency_governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        smt: read("/sys/devices/system/cpu/smt/active"),
        swap: super::provenance::memory("SwapTotal:"),
        vm: files("/proc/sys/vm", &VM),
        transparent_huge_pages: files("/sys/kernel/mm/transparent_hugepage", &HUGE_PAGES),
        ksm: files("/sys/kernel/mm/ksm", &KSM),
        rustc: option_env!("MIRRORBALL_RUSTC"),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        features: features(),
        lock_digest: digest(LOCK),
    }
}

/// A file's text without what surrounds it; `None` if it can't be read, or is empty.
fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn files(folder: &str, names: &[&'static str]) -> BTreeMap<&'static str, Option<String>> {
    let known = names.iter().map(|name| {
        let path = Path::new(folder).join(name);
        (*name, path.to_str().and_then(read))
    });
    known.collect()
}

fn cpuinfo(field: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The configuration that the running kernel was built with: where it is installed, else as the
/// kernel shows it.
fn kernel_config() -> Option<String> {
    let release = read("/proc/sys/kernel/osrelease")?;
    let places = [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
    ];
    let installed = places.iter().find_map(|path| fs::read_to_string(path).ok());
    installed.or_else(|| {
        let mut text = String::new();
        let shown = fs::File::open("/proc/config.gz").ok()?;
        GzDecoder::new(shown).read_to_string(&mut text).ok()?;
        Some(text)
    })
}

fn options(config: &str) -> BTreeMap<String, String> {
    let value = |option: &str| {
        let mut lines = config.lines();
        let found = lines.find_map(|line| line.strip_prefix(option)?.strip_prefix('='));
        found.unwrap_or("n").to_owned()
    };
    let known = OPTIONS
        .iter()
        .map(|option| ((*option).to_owned(), value(option)));
    known.collect()
}

/// What is kept of a command line, and how much is not.
fn parameters(line: &str) -> String {
    // What follows two dashes is for the first process.
    let own = line.split(" -- ").next().unwrap_or_default();
    let (kept, left): (Vec<&str>, Vec<&str>) = own
        .split_whitespace()
        .partition(|word| KEPT.iter().any(|known| word.starts_with(known)));
    let more = format!("({} not shown)", left.len());
    kept.into_iter()
        .chain((!left.is_empty()).then_some(more.as_str()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn machine() -> Option<String> {
    let flags = cpuinfo("flags")?;
    if !flags.split(' ').any(|flag| flag == "hypervisor") {
        return Some("not virtual".to_owned());
    }
    let maker = read("/sys/hypervisor/type")
        .or_else(|| read("/sys/class/dmi/id/sys_vendor"))
        .unwrap_or_else(|| "of an unknown maker".to_owned());
    Some(format!("virtual: {maker}"))
}

fn digest(bytes: impl AsRef<[u8]>) -> String {
    crate::image::hex(&sha2::Sha256::digest(bytes))
}

/// Features that the binary was built with.
fn features() -> Vec<&'static str> {
    let all = [
        (
            "broken-share-protocol",
            cfg!(feature = "broken-share-protocol"),
        ),
        (
            "broken-lend-protocol",
            cfg!(feature = "broken-lend-protocol"),
        ),
    ];
    let on = all.into_iter().filter(|(_, on)| *on);
    on.map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_there_known_or_not() {
        let seen = serde_json::to_value(environment()).unwrap();
        let fields = seen.as_object().unwrap();
        for field in [
            "kernel_build",
            "kernel_config_digest",
            "kernel_options",
            "kernel_parameters",
            "microcode",
            "numa_nodes",
            "machine",
            "frequency_governor",
            "smt",
            "swap",
            "rustc",
            "target",
            "features",
            "lock_digest",
        ] {
            assert!(fields.contains_key(field), "{field}");
        }
        assert!(seen["vm"]["max_map_count"].is_string());
        assert!(seen["ksm"].as_object().unwrap().contains_key("smart_scan"));
        assert_eq!(seen["lock_digest"].as_str().unwrap().len(), 64);
        let rustc = seen["rustc"].as_str().unwrap();
        assert!(rustc.starts_with("rustc 1."), "{rustc}");
    }

    #[test]
    fn a_command_line_keeps_no_addresses_and_no_secrets() {
        let line =
            "mitigations=auto root=/dev/sda1 ip=10.0.0.7 transparent_hugepage=never -- key=x";
        let kept = parameters(line);
        assert_eq!(
            kept,
            "mitigations=auto transparent_hugepage=never (2 not shown)"
        );
        assert_eq!(parameters("psi=1"), "psi=1");
    }

    #[test]
    fn options_that_are_not_set_are_said_to_be_off() {
        let known = options("CONFIG_KSM=y\n# CONFIG_ZSWAP is not set\nCONFIG_HZ=250\n");
        assert_eq!(known["CONFIG_KSM"], "y");
        assert_eq!(known["CONFIG_HZ"], "250");
        assert_eq!(known["CONFIG_ZSWAP"], "n");
    }
}
