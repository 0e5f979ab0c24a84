//! Where results come from: what was run, with what, on what.

use serde_json::Value as Json;

use crate::metrics::{Unit, number};
use crate::results::Results;

#[derive(Debug)]
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) value: String,
}

#[derive(Debug)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) size: String,
    pub(super) digest: String,
}

/// What else may change a result: names, and places below `environment`.
const SURROUNDINGS: [(&str, &[&str]); 16] = [
    ("kernel’s build", &["kernel_build"]),
    ("kernel’s configuration, SHA-256", &["kernel_config_digest"]),
    ("kernel’s options", &["kernel_options"]),
    ("kernel’s parameters", &["kernel_parameters"]),
    ("microcode", &["microcode"]),
    ("NUMA nodes", &["numa_nodes"]),
    ("virtual or not", &["machine"]),
    ("frequency governor", &["frequency_governor"]),
    ("threads share cores", &["smt"]),
    ("swap, bytes", &["swap"]),
    ("vm settings", &["vm"]),
    ("huge page settings", &["transparent_huge_pages"]),
    ("KSM settings", &["ksm"]),
    ("compiler", &["rustc"]),
    ("features", &["features"]),
    ("Cargo.lock, SHA-256", &["lock_digest"]),
];

/// JSON as a line for people.
fn plain(text: &str) -> String {
    match text {
        "[]" => "none".to_owned(),
        text => text
            .trim_matches(['{', '}', '[', ']'])
            .replace("null", "not available")
            .replace('"', "")
            .replace(':', ": ")
            .replace(',', ", "),
    }
}

/// The commit, and whether the tree had changes.
fn commit(from: &Json) -> Option<String> {
    let commit = &from["commit"];
    let changed = commit["dirty"].as_bool() == Some(true);
    let end = if changed { ", with changes" } else { "" };
    Some(format!("{}{end}", commit["id"].as_str()?))
}

pub(super) fn facts(results: &Results) -> Vec<Fact> {
    let from = &results.run.provenance;
    let known = |path: &[&str]| {
        let value = path.iter().try_fold(from, |tree, name| tree.get(name))?;
        match value {
            Json::Null => None,
            Json::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    };
    let gib = |path: &[&str]| {
        let bytes: f64 = known(path)?.parse().ok()?;
        Some(format!("{} GiB", number(bytes / f64::from(1 << 30))))
    };
    let command = from["command_line"].as_array().map(|words| {
        let words = words.iter().filter_map(Json::as_str);
        words.collect::<Vec<_>>().join(" ")
    });
    let seed = (!results.run.started.is_empty()).then(|| results.run.experiment.seed.to_string());
    let facts = [
        (
            "started",
            Some(results.run.started.clone()).filter(|time| !time.is_empty()),
        ),
        ("command", command),
        ("seed", seed),
        ("version", known(&["version"])),
        ("commit", commit(from)),
        ("binary, SHA-256", known(&["binary_digest"])),
        ("build", known(&["profile"])),
        ("kernel", known(&["host", "kernel"])),
        ("processor", known(&["host", "cpu"])),
        ("CPUs", known(&["host", "cpus"])),
        ("memory", gib(&["host", "memory"])),
        ("memory available", gib(&["host", "available"])),
        ("load at the start", known(&["host", "load"])),
        ("KVM", known(&["host", "kvm"])),
        ("emulated host", known(&["host", "emulated"])),
        (
            "transparent huge pages",
            known(&["host", "transparent_huge_pages"]),
        ),
        ("vm.max_map_count", known(&["host", "max_map_count"])),
        ("mkfs", known(&["mkfs"])),
    ];
    let more = SURROUNDINGS.iter().map(|(name, path)| {
        let place = [&["environment"], *path].concat();
        (*name, known(&place).map(|text| plain(&text)))
    });
    facts
        .into_iter()
        .chain(more)
        .map(|(name, value)| Fact {
            name,
            value: value.unwrap_or_else(|| "not available".to_owned()),
        })
        .collect()
}

pub(super) fn images(results: &Results) -> Vec<Image> {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let images = results.run.images.iter();
    images
        .map(|(name, image)| Image {
            name: name.clone(),
            size: image["bytes"]
                .as_f64()
                .map_or_else(String::new, |bytes| Unit::Bytes.text(bytes)),
            digest: text(&image["digest"]),
        })
        .collect()
}
