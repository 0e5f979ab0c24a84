//! Guests on networks. They need `/dev/kvm`; a host without it says so and counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::path::Path;

use common::{guests_can_run, load, write_sources};
use mirrorball_experiments::exit;
use mirrorball_experiments::output::summary::{Figures, Summary};
use mirrorball_experiments::run::Finished;

fn run(text: String, output: &Path) -> Finished {
    common::run(&load(text, &[]), output)
}

fn run_file(folder: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("run.json")).unwrap()).unwrap()
}

/// A guest that builds from its disk, and two that build the same over the network.
fn builders(sources: &Path) -> String {
    format!(
        "version: 1\nname: test\nseed: 3\nmachine: {{ memory: 1 GiB }}\n\
         images:\n  base: {{ directory: {} }}\n\
         networks: {{ lan: {{ transfer: always }} }}\n\
         guests:\n  \
         - {{ id: local, count: 1, memory: 32 MiB, disks: [{{ image: base, scratch: 8 MiB }}],\n      \
           workload: {{ name: pmake, jobs: 3 }} }}\n  \
         - {{ id: server, count: 1, memory: 48 MiB, network: {{ name: lan }},\n      \
           disks: [{{ image: base }}], workload: {{ name: fileserver, clients: 2 }} }}\n  \
         - {{ id: remote, count: 2, vcpus: 2, memory: 32 MiB, network: {{ name: lan }},\n      \
           disks: [{{ image: base, scratch: 8 MiB }}],\n      \
           workload: {{ name: pmake, source: network, cache: 75 % }} }}\n\
         sharing: {{ disk: on, zero: off, content: off }}\n",
        sources.display()
    )
}

#[test]
fn a_make_over_the_network_makes_what_one_from_the_disk_makes() {
    if !guests_can_run("a_make_over_the_network_makes_what_one_from_the_disk_makes") {
        return;
    }
    let (sources, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_sources(sources.path(), 40);
    let finished = run(builders(sources.path()), output.path());
    let causes = &finished.summary.causes;
    assert_eq!(finished.exit_code, exit::OK, "{causes:?}");
    let checksums = &run_file(&finished.folder)["runs"][0]["checksums"];
    let of = |group: &str| &checksums[group];
    assert!(!of("local").is_null(), "{checksums}");
    assert_eq!(of("local"), of("remote"), "{checksums}");
    check_categories(&finished.summary);
}

fn check_categories(summary: &Summary) {
    let Figures {
        memory,
        by_mechanism,
        by_category,
        ..
    } = &summary.cells[0].figures;
    assert!(by_mechanism.network.unwrap() > 0, "nothing was mapped");
    let parts = [&by_category.text, &by_category.data, &by_category.cache];
    let sum = |value: fn(&&mirrorball_experiments::output::summary::Footprint) -> Option<u64>| {
        parts.iter().map(|part| value(part).unwrap()).sum::<u64>()
    };
    assert_eq!(Some(sum(|part| part.touched)), memory.touched);
    let machine = sum(|part| part.machine) + by_category.kept.unwrap();
    assert_eq!(Some(machine), memory.machine_used);
    // The two that are alike have one boot image, the others have vCPUs or memory of their own.
    let (touched, machine) = (by_category.text.touched, by_category.text.machine);
    assert_eq!(touched.unwrap() * 3, machine.unwrap() * 4);
    assert!(by_category.cache.machine < by_category.cache.touched);
}

#[test]
fn short_exchange_finds_no_wrong_byte_and_loses_no_message() {
    if !guests_can_run("short_exchange_finds_no_wrong_byte_and_loses_no_message") {
        return;
    }
    let output = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("exchange-short.yaml");
    let finished = run(std::fs::read_to_string(file).unwrap(), output.path());
    let causes = &finished.summary.causes;
    assert_eq!(finished.exit_code, exit::OK, "{causes:?}");
    let cell = &finished.summary.cells[0];
    let integrity = &cell.figures.integrity;
    assert!(integrity.verified_pages.unwrap() >= 80_000, "{integrity:?}");
    assert_eq!(integrity.mismatches, Some(0));
    let mut warnings = cell.warnings.iter();
    let lost = warnings.find(|warning| warning.contains("packets lost"));
    assert_eq!(lost, None);
}

#[test]
fn a_tap_device_that_can_t_be_had_is_told_before_any_guest_starts() {
    let output = tempfile::tempdir().unwrap();
    // The loopback interface is there on every host, and no TAP device.
    let text = "version: 1\nname: test\nmachine: { memory: 1 GiB }\n\
                networks: { lan: { uplink: lo } }\n\
                guests:\n  - { id: a, count: 1, memory: 16 MiB, network: { name: lan },\n      \
                workload: { name: touch, duration: 10 ms } }\n";
    if !guests_can_run("a_tap_device_that_can_t_be_had_is_told_before_any_guest_starts") {
        return;
    }
    let finished = run(text.into(), output.path());
    assert_eq!(finished.exit_code, exit::HOST);
    let causes = finished.summary.causes.join("\n");
    assert!(
        causes.contains("the TAP device lo can't be used"),
        "{causes}"
    );
}
