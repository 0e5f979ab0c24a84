//! What this host offers, what is in the way, and what would help.
//!
//! Every check is a function of what it read, so that each finding can be forced in a test. A
//! check never fails to give an answer: a source that is not there is a finding of its own.

mod host;
mod kernel;
mod kvm;
pub(crate) mod real_mode;
mod sharing;

use std::io;
use std::path::{Path, PathBuf};

use mirrorball_pmap::TrackingSupport;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// As it should be.
    Pass,
    /// Works, with the effect named.
    Warn,
    /// Experiments can't run, or a mechanism is missing.
    Fail,
    /// The host does not tell.
    Unknown,
}

/// One thing about the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Short stable name, for scripts.
    pub id: &'static str,
    /// How it came out.
    pub state: CheckState,
    /// What was found.
    pub finding: String,
    /// What it does to experiments; empty when all is well.
    pub effect: String,
    /// What to do about it; empty when all is well.
    pub remedy: String,
}

impl Check {
    fn pass(id: &'static str, finding: impl Into<String>) -> Self {
        let (effect, remedy) = (String::new(), String::new());
        Self {
            id,
            state: CheckState::Pass,
            finding: finding.into(),
            effect,
            remedy,
        }
    }

    fn new(
        id: &'static str,
        state: CheckState,
        finding: impl Into<String>,
        effect: &str,
        remedy: &str,
    ) -> Self {
        let (effect, remedy) = (effect.to_owned(), remedy.to_owned());
        Self {
            id,
            state,
            finding: finding.into(),
            effect,
            remedy,
        }
    }

    fn unknown(id: &'static str, source: &str) -> Self {
        let finding = format!("not available (/{source} can't be read)");
        Self::new(id, CheckState::Unknown, finding, "", "")
    }
}

/// What kind of KVM the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvmKind {
    /// None, or not KVM.
    None,
    /// There, but not for this user.
    NoPermission,
    /// Ring 0 of guests is emulated: thin guests run natively, kernels crawl.
    Software,
    /// Guests run on the processor.
    Hardware,
}

/// All checks of this host.
#[derive(Clone, Debug)]
pub struct HostReport {
    /// In the order in which they matter.
    pub checks: Vec<Check>,
    /// The kind of KVM.
    pub kvm: KvmKind,
}

/// Looks at this host. Takes some tens of milliseconds and changes nothing.
#[must_use]
pub fn host() -> HostReport {
    let root = Root::default();
    let (kvm_check, kvm) = kvm::check(&root, Path::new(crate::kvm::DEVICE));
    let tracking = TrackingSupport::probe();
    let mut checks = vec![kvm_check];
    checks.extend([
        kernel::pagemap_scan(tracking.pagemap_scan),
        kernel::userfaultfd(tracking.userfaultfd),
        kernel::max_map_count(&root),
        kernel::open_files(rustix::process::getrlimit(
            rustix::process::Resource::Nofile,
        )),
        sharing::ksm(&root),
        sharing::ksmtuned(&root),
        sharing::huge_pages(&root),
        host::free_memory(&root),
        host::swap(&root),
        host::load(&root),
        host::steal(&root),
        host::governor(&root),
        host::pressure(&root),
    ]);
    HostReport { checks, kvm }
}

/// What keeps Linux guests from a host with this KVM device; `None` when nothing does.
pub(crate) fn linux_obstacle(device: &Path) -> Option<String> {
    let (check, kind) = kvm::check(&Root::default(), device);
    (kind != KvmKind::Hardware).then_some(check.finding)
}

/// Where the files under `/proc` and `/sys` are read from.
#[derive(Clone, Debug)]
struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Self(PathBuf::from("/"))
    }
}

impl Root {
    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// A file's text, trimmed.
    fn read(&self, path: &str) -> io::Result<String> {
        std::fs::read_to_string(self.path(path)).map(|text| text.trim().to_owned())
    }

    /// A file that holds one number.
    fn number(&self, path: &str) -> Option<u64> {
        self.read(path).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod testing {
    use super::Root;

    /// A root whose files are these and no others.
    pub(super) fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = Root(folder.path().to_owned());
        (folder, root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_complete_and_every_bad_finding_has_a_remedy() {
        let report = host();
        let mut ids: Vec<_> = report.checks.iter().map(|check| check.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), report.checks.len(), "names are unique");
        for check in &report.checks {
            assert!(!check.finding.is_empty(), "{}", check.id);
            if matches!(check.state, CheckState::Fail | CheckState::Warn) {
                assert!(
                    !check.effect.is_empty() && !check.remedy.is_empty(),
                    "{}",
                    check.id
                );
            }
        }
    }
}
