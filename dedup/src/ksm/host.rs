//! Where KSM lives on a host: its directory in sysfs, and the places where a
//! run leaves its lock and its journal. Another root makes all of it testable
//! without privilege.

use super::KsmUnavailable;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The places of one host.
#[derive(Clone, Debug)]
pub struct KsmHost {
    /// KSM's directory in sysfs.
    pub sysfs: PathBuf,
    /// The process directory.
    pub proc: PathBuf,
    /// Held by the one run that uses KSM.
    pub lock: PathBuf,
    /// The settings to be restored; exists from the first change on until
    /// they are.
    pub journal: PathBuf,
}

impl Default for KsmHost {
    /// This host. The journal is in `/run`, which does not outlive a boot,
    /// just as the settings do not.
    fn default() -> Self {
        Self {
            sysfs: "/sys/kernel/mm/ksm".into(),
            proc: "/proc".into(),
            lock: std::env::temp_dir().join("mirrorball-ksm.lock"),
            journal: "/run/mirrorball-ksm.journal".into(),
        }
    }
}

impl KsmHost {
    /// Whether KSM can be used: it is there and may be set.
    pub(super) fn check(&self) -> Result<(), KsmUnavailable> {
        let run = self.sysfs.join("run");
        if !run.exists() {
            return Err(KsmUnavailable::NotInKernel(self.sysfs.clone()));
        }
        OpenOptions::new()
            .write(true)
            .open(&run)
            .map_err(|source| KsmUnavailable::NotWritable { path: run, source })?;
        Ok(())
    }

    /// The value of a file, without the brackets of a choice
    /// (`[none] scan-time`). `None` if this kernel has no such file.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<String>> {
        let text = match fs::read_to_string(self.sysfs.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let chosen = text
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'));
        Ok(Some(
            chosen.map_or(text.trim(), |(value, _)| value).to_owned(),
        ))
    }

    /// A counter; 0 if this kernel has none such.
    pub(super) fn count<T: std::str::FromStr + Default>(&self, name: &str) -> io::Result<T> {
        Ok(self
            .read(name)?
            .and_then(|text| text.parse().ok())
            .unwrap_or_default())
    }

    /// Writes a value unless it is there already: some files refuse any write
    /// while pages are merged.
    pub(super) fn write(&self, name: &str, value: &str) -> io::Result<()> {
        if self.read(name)?.as_deref() == Some(value) {
            return Ok(());
        }
        fs::write(self.sysfs.join(name), value)
    }

    /// Takes the lock; it is given back when the file is closed, whatever
    /// ends the process.
    pub(super) fn lock(&self) -> Result<OwnedFd, KsmUnavailable> {
        let failed = |source: rustix::io::Errno| KsmUnavailable::NotWritable {
            path: self.lock.clone(),
            source: source.into(),
        };
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&self.lock, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(KsmUnavailable::InUse("another run of this tool".into()))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// Writes a file so that it is there whole or not at all, also after a crash.
pub(super) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = File::create(&draft)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}
