//! Kernel features and limits that the pmap and many VMs need.

use std::io;

use rustix::process::Rlimit;

use super::{Check, CheckState, Root};

/// Linux 6.7's scan for written pages, actually tried.
pub(super) fn pagemap_scan(tried: io::Result<()>) -> Check {
    const ID: &str = "pagemap-scan";
    match tried {
        Ok(()) => Check::pass(ID, "PAGEMAP_SCAN works"),
        Err(error) => Check::new(
            ID,
            CheckState::Warn,
            format!("PAGEMAP_SCAN fails: {error}"),
            "written pages can't be tracked: every scan pass reads all guest memory",
            "use Linux 6.7 or newer with CONFIG_PROC_PAGE_MONITOR",
        ),
    }
}

/// Write tracking is asked for through a userfaultfd.
pub(super) fn userfaultfd(tried: io::Result<()>) -> Check {
    const ID: &str = "userfaultfd";
    match tried {
        Ok(()) => Check::pass(ID, "userfaultfd tracks writes"),
        Err(error) => Check::new(
            ID,
            CheckState::Warn,
            format!("userfaultfd is refused: {error}"),
            "written pages can't be tracked: every scan pass reads all guest memory",
            "run as root, or: sysctl vm.unprivileged_userfaultfd=1",
        ),
    }
}

/// Enough for some gigabytes of guests whose pages are shared in runs.
const GOOD_MAP_COUNT: u64 = 262_144;

pub(super) fn max_map_count(root: &Root) -> Check {
    const ID: &str = "max-map-count";
    const SOURCE: &str = "proc/sys/vm/max_map_count";
    match root.number(SOURCE) {
        None => Check::unknown(ID, SOURCE),
        Some(count) if count >= GOOD_MAP_COUNT => {
            Check::pass(ID, format!("vm.max_map_count is {count}"))
        }
        Some(count) => Check::new(
            ID,
            CheckState::Warn,
            format!("vm.max_map_count is {count}"),
            "scattered pages stop being shared when the process has that many mappings",
            "sysctl vm.max_map_count=1048576",
        ),
    }
}

/// Descriptors of a thousand VMs of one vCPU with disk and console, and some for the machine.
const GOOD_FILES: u64 = 8_192;

/// The soft limit does not matter: the machine raises it.
pub(super) fn open_files(limit: Rlimit) -> Check {
    const ID: &str = "open-files";
    match limit.maximum {
        None => Check::pass(ID, "no limit of open files"),
        Some(hard) if hard >= GOOD_FILES => Check::pass(ID, format!("up to {hard} open files")),
        Some(hard) => Check::new(
            ID,
            CheckState::Warn,
            format!("at most {hard} open files"),
            &format!("about {} VMs at a time", hard.saturating_sub(64) / 6),
            "raise the hard limit: ulimit -Hn 1048576 as root, or LimitNOFILE= of the service",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::root;
    use super::*;

    #[test]
    fn refused_features_name_the_way_out() {
        let refused = || Err(io::Error::from_raw_os_error(libc::ENOTTY));
        let check = pagemap_scan(refused());
        assert_eq!(check.state, CheckState::Warn);
        assert!(check.remedy.contains("6.7"));
        let check = userfaultfd(Err(io::Error::from_raw_os_error(libc::EPERM)));
        assert_eq!(check.state, CheckState::Warn);
        assert!(check.remedy.contains("unprivileged_userfaultfd"));
        assert_eq!(pagemap_scan(Ok(())).state, CheckState::Pass);
        assert_eq!(userfaultfd(Ok(())).state, CheckState::Pass);
    }

    #[test]
    fn map_count_low_high_and_unreadable() {
        let (_folder, none) = root(&[]);
        assert_eq!(max_map_count(&none).state, CheckState::Unknown);
        let (_folder, low) = root(&[("proc/sys/vm/max_map_count", "65530\n")]);
        assert_eq!(max_map_count(&low).state, CheckState::Warn);
        let (_folder, high) = root(&[("proc/sys/vm/max_map_count", "1048576\n")]);
        assert_eq!(max_map_count(&high).state, CheckState::Pass);
    }

    #[test]
    fn a_low_hard_limit_of_files() {
        let state = |hard| {
            open_files(Rlimit {
                current: Some(1024),
                maximum: hard,
            })
            .state
        };
        assert_eq!(state(Some(1024)), CheckState::Warn);
        assert_eq!(state(Some(1 << 20)), CheckState::Pass);
        assert_eq!(state(None), CheckState::Pass);
    }
}
