//! What else on this host shares or reshapes memory, and would disturb what is measured.

use super::{Check, CheckState, Root};

/// The kernel's same-page merging: the baseline needs it there and nobody else using it.
pub(super) fn ksm(root: &Root) -> Check {
    const ID: &str = "ksm";
    let Some(run) = root.number("sys/kernel/mm/ksm/run") else {
        return Check::new(
            ID,
            CheckState::Warn,
            "this kernel has no KSM",
            "the KSM baseline can't be measured",
            "use a kernel with CONFIG_KSM",
        );
    };
    let sharing = root.number("sys/kernel/mm/ksm/pages_sharing").unwrap_or(0);
    if run == 0 && sharing == 0 {
        return Check::pass(ID, "KSM is there and idle");
    }
    Check::new(
        ID,
        CheckState::Warn,
        format!("KSM is in use (run is {run}, {sharing} pages merged)"),
        "its CPU time and its counters mix with those of the KSM baseline",
        "echo 2 > /sys/kernel/mm/ksm/run, then 0, when no one else on the host needs it",
    )
}

/// A daemon that turns KSM on and off by itself.
pub(super) fn ksmtuned(root: &Root) -> Check {
    const ID: &str = "ksmtuned";
    let Ok(processes) = std::fs::read_dir(root.path("proc")) else {
        return Check::unknown(ID, "proc");
    };
    let running = processes.flatten().any(|process| {
        std::fs::read_to_string(process.path().join("comm"))
            .is_ok_and(|name| name.trim() == "ksmtuned")
    });
    if !running {
        return Check::pass(ID, "ksmtuned is not running");
    }
    Check::new(
        ID,
        CheckState::Warn,
        "ksmtuned is running",
        "it changes KSM's settings while experiments run",
        "systemctl stop ksmtuned",
    )
}

/// Transparent huge pages for all memory would hide single pages from sharing.
pub(super) fn huge_pages(root: &Root) -> Check {
    const ID: &str = "transparent-huge-pages";
    const SOURCE: &str = "sys/kernel/mm/transparent_hugepage/enabled";
    let Ok(modes) = root.read(SOURCE) else {
        return Check::pass(ID, "no transparent huge pages");
    };
    let mode = modes
        .split(['[', ']'])
        .nth(1)
        .unwrap_or("unknown")
        .to_owned();
    if mode != "always" {
        return Check::pass(ID, format!("transparent huge pages: {mode}"));
    }
    Check::new(
        ID,
        CheckState::Warn,
        "transparent huge pages: always",
        "guests touch 2 MiB at a time where the pmap does not opt out, and figures differ",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::root;
    use super::*;

    #[test]
    fn ksm_missing_busy_and_idle() {
        let (_folder, none) = root(&[]);
        assert_eq!(ksm(&none).state, CheckState::Warn);
        let (_folder, busy) = root(&[("sys/kernel/mm/ksm/run", "1\n")]);
        assert!(ksm(&busy).finding.contains("run is 1"));
        let left = [
            ("sys/kernel/mm/ksm/run", "0"),
            ("sys/kernel/mm/ksm/pages_sharing", "7"),
        ];
        let (_folder, left) = root(&left);
        assert!(ksm(&left).finding.contains("7 pages"));
        let (_folder, idle) = root(&[("sys/kernel/mm/ksm/run", "0\n")]);
        assert_eq!(ksm(&idle).state, CheckState::Pass);
    }

    #[test]
    fn ksmtuned_running_or_not() {
        let (_folder, running) = root(&[("proc/1/comm", "init\n"), ("proc/77/comm", "ksmtuned\n")]);
        assert_eq!(ksmtuned(&running).state, CheckState::Warn);
        let (_folder, other) = root(&[("proc/1/comm", "init\n")]);
        assert_eq!(ksmtuned(&other).state, CheckState::Pass);
        let (_folder, none) = root(&[]);
        assert_eq!(ksmtuned(&none).state, CheckState::Unknown);
    }

    #[test]
    fn huge_pages_always_or_on_request() {
        let path = "sys/kernel/mm/transparent_hugepage/enabled";
        let (_folder, always) = root(&[(path, "[always] madvise never\n")]);
        assert_eq!(huge_pages(&always).state, CheckState::Warn);
        let (_folder, madvise) = root(&[(path, "always [madvise] never\n")]);
        assert_eq!(huge_pages(&madvise).state, CheckState::Pass);
        let (_folder, none) = root(&[]);
        assert_eq!(huge_pages(&none).state, CheckState::Pass);
    }
}
