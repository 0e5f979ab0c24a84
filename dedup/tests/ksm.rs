//! The KSM baseline on a host made of files, and on the real one where that
//! can be used.
#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod guest;

use guest::{Machine, page};
use mirrorball_dedup::ksm::{Ksm, KsmHost, KsmSettings, KsmUnavailable, restore_on};
use mirrorball_pmap::PmapConfig;
use std::fs;
use std::path::Path;

/// A host whose kernel knows neither advisor nor smart scan.
fn host(root: &Path) -> KsmHost {
    let sysfs = root.join("ksm");
    fs::create_dir(&sysfs).unwrap();
    for (name, value) in [
        ("run", "0"),
        ("pages_to_scan", "100"),
        ("sleep_millisecs", "20"),
        ("use_zero_pages", "0"),
        ("max_page_sharing", "256"),
        ("merge_across_nodes", "1"),
        ("pages_shared", "0"),
        ("pages_sharing", "0"),
        ("full_scans", "3"),
    ] {
        fs::write(sysfs.join(name), format!("{value}\n")).unwrap();
    }
    fs::create_dir_all(root.join("proc/37")).unwrap();
    fs::write(root.join("proc/37/comm"), "ksmd\n").unwrap();
    fs::write(root.join("proc/37/schedstat"), "2000000000 5 6\n").unwrap();
    KsmHost {
        sysfs,
        proc: root.join("proc"),
        lock: root.join("lock"),
        journal: root.join("journal"),
    }
}

fn read(host: &KsmHost, name: &str) -> String {
    fs::read_to_string(host.sysfs.join(name))
        .unwrap()
        .trim()
        .to_owned()
}

fn settings() -> KsmSettings {
    KsmSettings {
        smart_scan: Some(true),
        max_page_sharing: Some(1000),
        ..KsmSettings::default()
    }
}

#[test]
fn settings_are_made_and_restored() {
    let root = tempfile::tempdir().unwrap();
    let host = host(root.path());
    let ksm = Ksm::start_on(host.clone(), &settings()).unwrap();
    assert_eq!(
        (read(&host, "run"), read(&host, "pages_to_scan")),
        ("1".into(), "4000".into())
    );
    assert_eq!(read(&host, "max_page_sharing"), "1000");
    assert!(
        !host.sysfs.join("smart_scan").exists(),
        "what the kernel does not know is not made up"
    );
    assert!(host.journal.exists());
    fs::write(root.path().join("proc/37/schedstat"), "3500000000 5 6\n").unwrap();
    fs::write(host.sysfs.join("pages_sharing"), "12\n").unwrap();
    let counters = ksm.counters().unwrap();
    assert!((counters.cpu_seconds - 1.5).abs() < 1e-9);
    assert_eq!((counters.reclaimed(), counters.full_scans), (12, 3));
    ksm.hold().unwrap();
    assert_eq!(read(&host, "run"), "0");
    drop(ksm);
    assert_eq!(
        (read(&host, "run"), read(&host, "pages_to_scan")),
        ("0".into(), "100".into())
    );
    assert_eq!(
        (
            read(&host, "max_page_sharing"),
            read(&host, "use_zero_pages")
        ),
        ("256".into(), "0".into())
    );
    assert!(!host.journal.exists());
}

#[test]
fn saved_are_the_references_beyond_the_first_and_the_zero_pages() {
    let root = tempfile::tempdir().unwrap();
    let host = host(root.path());
    for (name, value) in [
        ("pages_unshared", "6\n"),
        ("pages_volatile", "2\n"),
        ("general_profit", "-4096\n"),
    ] {
        fs::write(host.sysfs.join(name), value).unwrap();
    }
    let ksm = Ksm::start_on(host.clone(), &settings()).unwrap();
    for (name, value) in [("pages_shared", "3\n"), ("pages_sharing", "12\n")] {
        fs::write(host.sysfs.join(name), value).unwrap();
    }
    // A kernel that does not count its zero pages.
    let old = ksm.counters().unwrap();
    assert_eq!((old.ksm_zero_pages, old.reclaimed()), (0, 12));
    fs::write(host.sysfs.join("ksm_zero_pages"), "5\n").unwrap();
    let now = ksm.counters().unwrap();
    assert_eq!((now.pages_shared, now.pages_sharing), (3, 12));
    assert_eq!((now.pages_unshared, now.pages_volatile), (6, 2));
    assert_eq!((now.ksm_zero_pages, now.reclaimed()), (5, 17));
    assert_eq!(now.general_profit, -4096, "KSM can cost more than it saves");
}

#[test]
fn one_run_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let host = host(root.path());
    let first = Ksm::start_on(host.clone(), &settings()).unwrap();
    let second = Ksm::start_on(host.clone(), &settings());
    assert!(
        matches!(second, Err(KsmUnavailable::InUse(_))),
        "{second:?}"
    );
    assert!(
        matches!(restore_on(&host), Err(KsmUnavailable::InUse(_))),
        "not under a run's feet"
    );
    assert_eq!(read(&host, "run"), "1", "the first goes on");
    first.stop().unwrap();
    Ksm::start_on(host, &settings()).unwrap();
}

#[test]
fn what_a_killed_run_left_is_restored() {
    let root = tempfile::tempdir().unwrap();
    let host = host(root.path());
    assert!(!restore_on(&host).unwrap());
    // As after SIGKILL: settings changed, the journal there, the lock free.
    for (name, value) in [
        ("run", "1"),
        ("pages_to_scan", "4000"),
        ("max_page_sharing", "1000"),
    ] {
        fs::write(host.sysfs.join(name), value).unwrap();
    }
    let journal = "pages_to_scan 100\nmax_page_sharing 256\n../evil 1\nrun 0\n";
    fs::write(&host.journal, journal).unwrap();
    // The next run does it before it writes down the settings itself.
    drop(Ksm::start_on(host.clone(), &settings()).unwrap());
    assert_eq!(
        (read(&host, "run"), read(&host, "pages_to_scan")),
        ("0".into(), "100".into())
    );
    assert!(!root.path().join("evil").exists());
    // So does the doctor.
    fs::write(host.sysfs.join("run"), "1").unwrap();
    fs::write(&host.journal, journal).unwrap();
    assert!(restore_on(&host).unwrap());
    assert_eq!(read(&host, "run"), "0");
    assert!(!host.journal.exists());
}

#[test]
fn unusable_hosts_are_told_apart() {
    let root = tempfile::tempdir().unwrap();
    let good = host(root.path());
    let none = KsmHost {
        sysfs: root.path().join("nothing"),
        ..good.clone()
    };
    assert!(matches!(
        Ksm::start_on(none, &settings()),
        Err(KsmUnavailable::NotInKernel(_))
    ));
    let blind = KsmHost {
        proc: root.path().join("ksm"),
        ..good.clone()
    };
    assert!(matches!(
        Ksm::start_on(blind, &settings()),
        Err(KsmUnavailable::NoDaemon(_))
    ));
    fs::write(good.sysfs.join("run"), "1").unwrap();
    let busy = Ksm::start_on(good.clone(), &settings());
    assert!(matches!(busy, Err(KsmUnavailable::InUse(_))));
    assert!(!good.journal.exists(), "nothing was changed");
    assert_eq!(read(&good, "pages_to_scan"), "100");
}

#[test]
fn the_advisors_choice_is_read_without_brackets() {
    let root = tempfile::tempdir().unwrap();
    let host = host(root.path());
    fs::write(host.sysfs.join("advisor_mode"), "none [scan-time]\n").unwrap();
    let ksm = Ksm::start_on(host.clone(), &settings()).unwrap();
    assert_eq!(read(&host, "advisor_mode"), "none");
    drop(ksm);
    assert_eq!(read(&host, "advisor_mode"), "scan-time");
}

#[test]
fn the_real_ksm_merges_equal_pages_of_two_vms() {
    if let Err(why) = Ksm::available() {
        println!("skipped 1 of 1 tests with the real KSM: {why}");
        return;
    }
    let machine = Machine::of(
        &[96, 96],
        PmapConfig {
            tracking: false,
            frame_capacity: 1 << 20,
            ..PmapConfig::default()
        },
    );
    for vm in 0..2 {
        machine.fill(vm, 0..64, |n| page(n.into()));
        machine.fill(vm, 64..80, |_| [0; 4096]);
        machine.fill(vm, 80..96, |n| page((vm * 1000 + n).into()));
    }
    let before: Vec<_> = ["run", "pages_to_scan", "advisor_mode"]
        .map(|name| fs::read_to_string(format!("/sys/kernel/mm/ksm/{name}")).ok())
        .into();
    let ksm = match Ksm::start(&KsmSettings {
        sleep_millisecs: 1,
        ..KsmSettings::default()
    }) {
        Err(KsmUnavailable::InUse(whom)) => {
            return println!("skipped 1 of 1 tests with the real KSM: in use by {whom}");
        }
        other => other.unwrap(),
    };
    for space in machine.pmap.spaces() {
        ksm.mark(&space).unwrap();
    }
    let account = || machine.pmap.kernel_account().unwrap().total() / 4096;
    assert_eq!(account(), 192, "nothing is merged yet");
    // Kernels before 6.6 merge zero pages and do not count them.
    let counts_zero = Path::new("/sys/kernel/mm/ksm/ksm_zero_pages").exists();
    let zero = if counts_zero { 32 } else { 0 };
    let merged = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let now = ksm.counters().unwrap();
        now.pages_sharing >= 64 && now.ksm_zero_pages >= zero
    });
    assert!(merged, "{:?}", ksm.counters());
    ksm.hold().unwrap();
    let now = ksm.counters().unwrap();
    assert!(now.cpu_seconds > 0.0);
    assert_eq!(
        (now.pages_shared, now.ksm_zero_pages),
        (64, zero),
        "{now:?}"
    );
    if counts_zero {
        assert_eq!(
            account(),
            192 - now.reclaimed(),
            "the kernel gave back what its counters say: {now:?}"
        );
    }
    machine.verify();
    ksm.stop().unwrap();
    let after: Vec<_> = ["run", "pages_to_scan", "advisor_mode"]
        .map(|name| fs::read_to_string(format!("/sys/kernel/mm/ksm/{name}")).ok())
        .into();
    assert_eq!(after, before);
    assert!(!Path::new("/run/mirrorball-ksm.journal").exists());
    machine.verify();
}
