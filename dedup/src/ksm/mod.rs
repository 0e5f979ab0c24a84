//! The baseline: the same guests' memory given to Linux KSM (Arcangeli, Eidus
//! and Wright, "Increasing memory density by using KSM", 2009).
//!
//! KSM is one for the whole host and its settings are global. So only one run
//! at a time may use it (a lock file), only when nobody else does, and what
//! it changes is on file before it is changed and restored afterwards: when
//! the run ends, when it panics, or, after a kill, by whoever comes next.

mod host;
mod journal;
mod ksmd;
mod settings;

pub use host::KsmHost;
pub use settings::KsmSettings;

use journal::Journal;
use ksmd::Ksmd;
use mirrorball_pmap::AddressSpace;
use settings::TUNABLES;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Why KSM can't be used here.
#[derive(Debug, thiserror::Error)]
pub enum KsmUnavailable {
    /// The kernel was built without it, or sysfs is not mounted.
    #[error("this kernel has no KSM ({} does not exist)", .0.display())]
    NotInKernel(PathBuf),
    /// No permission, or a read-only sysfs (containers).
    #[error("KSM can't be set up: {} is not writable ({source}); it takes root on the host", path.display())]
    NotWritable {
        /// What could not be opened for writing.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else merges pages; our figures and theirs would mix.
    #[error("KSM is in use by {0}")]
    InUse(String),
    /// ksmd can't be seen, so its CPU time could not be told.
    #[error("the kernel thread ksmd is not visible in {}", .0.display())]
    NoDaemon(PathBuf),
    /// A file of KSM could not be read or written.
    #[error("KSM's settings could not be changed: {0}")]
    Io(#[from] io::Error),
}

/// KSM's own counters, in pages unless said otherwise
/// (Documentation/admin-guide/mm/ksm.rst, section 4). They are the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KsmCounters {
    /// Merged pages in memory.
    pub pages_shared: u64,
    /// Pages saved: references to merged pages beyond the first.
    pub pages_sharing: u64,
    /// Unique pages that are checked again and again.
    pub pages_unshared: u64,
    /// Pages that change too fast.
    pub pages_volatile: u64,
    /// Pages merged with the kernel's zero page (Linux 6.6).
    pub ksm_zero_pages: u64,
    /// Scans of all mergeable memory (number).
    pub full_scans: u64,
    /// Memory saved less KSM's own, in bytes (Linux 6.4).
    pub general_profit: i64,
    /// CPU time of ksmd since the start of this run, in seconds.
    pub cpu_seconds: f64,
}

impl KsmCounters {
    /// Pages saved, comparable with `Totals::reclaimed`.
    #[must_use]
    pub fn reclaimed(&self) -> u64 {
        self.pages_sharing + self.ksm_zero_pages
    }
}

/// KSM at work for this process. Dropping it unmerges all pages and restores
/// the host's settings; unmerging takes the memory that merging saved, so
/// where that is more than the host has, the VMs have to go first.
#[derive(Debug)]
pub struct Ksm {
    host: KsmHost,
    before: Journal,
    ksmd: Ksmd,
    cpu_at_start: f64,
    restored: bool,
    _lock: OwnedFd,
}

impl Ksm {
    /// Whether KSM could be started here and now, changing nothing.
    ///
    /// # Errors
    /// Why not.
    pub fn available() -> Result<(), KsmUnavailable> {
        let host = KsmHost::default();
        host.check()?;
        // What a killed run left behind is no obstacle: the start restores it.
        if !host.journal.exists() {
            idle(&host)?;
        }
        Ksmd::find(&host)?
            .map(|_| ())
            .ok_or(KsmUnavailable::NoDaemon(host.proc))
    }

    /// Starts KSM with these settings. Restores first what a killed run left.
    ///
    /// # Errors
    /// KSM is not there, not ours to set, or in use.
    pub fn start(settings: &KsmSettings) -> Result<Self, KsmUnavailable> {
        Self::start_on(KsmHost::default(), settings)
    }

    /// [`Self::start`] on a host of which all places are given.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn start_on(host: KsmHost, settings: &KsmSettings) -> Result<Self, KsmUnavailable> {
        host.check()?;
        let lock = host.lock()?;
        if let Some(journal) = Journal::load(&host)? {
            journal.restore(&host)?;
        }
        idle(&host)?;
        let ksmd = Ksmd::find(&host)?.ok_or_else(|| KsmUnavailable::NoDaemon(host.proc.clone()))?;
        let before = Journal::of(&host)?;
        before.save(&host)?;
        let cpu_at_start = ksmd.cpu_seconds(&host)?;
        // From here on, whatever fails, dropping this restores.
        let ksm = Self {
            host,
            before,
            ksmd,
            cpu_at_start,
            restored: false,
            _lock: lock,
        };
        for name in TUNABLES {
            if let (Some(value), Some(_)) = (settings.value(name), ksm.host.read(name)?) {
                ksm.host.write(name, &value)?;
            }
        }
        ksm.host.write("run", "1")?;
        Ok(ksm)
    }

    /// Gives a VM's memory to KSM.
    ///
    /// # Errors
    /// What `madvise` says.
    pub fn mark(&self, space: &AddressSpace) -> io::Result<()> {
        space.set_mergeable(true)
    }

    /// Holds ksmd still; what is merged stays merged. Returns when ksmd has ended its batch, so that
    /// counters and the kernel's account of memory read next are of one state.
    ///
    /// # Errors
    /// `run` can't be written.
    pub fn hold(&self) -> io::Result<()> {
        self.host.write("run", "0")
    }

    /// The counters now.
    ///
    /// # Errors
    /// A counter can't be read.
    pub fn counters(&self) -> io::Result<KsmCounters> {
        let host = &self.host;
        Ok(KsmCounters {
            pages_shared: host.count("pages_shared")?,
            pages_sharing: host.count("pages_sharing")?,
            pages_unshared: host.count("pages_unshared")?,
            pages_volatile: host.count("pages_volatile")?,
            ksm_zero_pages: host.count("ksm_zero_pages")?,
            full_scans: host.count("full_scans")?,
            general_profit: host.count("general_profit")?,
            cpu_seconds: self.ksmd.cpu_seconds(host)? - self.cpu_at_start,
        })
    }

    /// Unmerges all pages and restores the settings, telling what goes wrong.
    ///
    /// # Errors
    /// A setting could not be restored; the journal stays for another try.
    pub fn stop(mut self) -> io::Result<()> {
        self.restored = true;
        self.before.restore(&self.host)
    }
}

impl Drop for Ksm {
    fn drop(&mut self) {
        if !self.restored
            && let Err(error) = self.before.restore(&self.host)
        {
            tracing::error!(%error, journal = %self.host.journal.display(), "KSM's settings are not restored");
        }
    }
}

/// Restores what a killed run left behind; true if there was anything.
///
/// # Errors
/// A run is using KSM now, or the settings can't be restored.
pub fn restore_from_journal() -> Result<bool, KsmUnavailable> {
    restore_on(&KsmHost::default())
}

/// [`restore_from_journal`] on a host of which all places are given.
///
/// # Errors
/// As for [`restore_from_journal`].
pub fn restore_on(host: &KsmHost) -> Result<bool, KsmUnavailable> {
    if !host.journal.exists() {
        return Ok(false);
    }
    let _lock = host.lock()?;
    match Journal::load(host)? {
        Some(journal) => journal.restore(host).map(|()| true).map_err(Into::into),
        None => Ok(false),
    }
}

/// Fails if KSM merges pages already.
fn idle(host: &KsmHost) -> Result<(), KsmUnavailable> {
    let run: u32 = host.count("run")?;
    let merged: u64 = host.count("pages_shared")?;
    if run == 1 || merged > 0 {
        return Err(KsmUnavailable::InUse(format!(
            "others (run is {run}, {merged} pages are merged)"
        )));
    }
    Ok(())
}
