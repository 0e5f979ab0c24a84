//! Where runs in progress are found: a folder with one socket for each, named by process number.
//!
//! `$XDG_RUNTIME_DIR/mirrorball`, or a folder of the user's own below the folder for temporary
//! files. Nobody else may enter it: who can talk to a run can pause its VMs.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::LiveError;

/// End of a socket's name.
const SUFFIX: &str = ".live";

/// A run in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of its process.
    pub process: u32,
    /// Its socket.
    pub socket: PathBuf,
}

impl Place {
    /// The place of this process in that folder.
    pub(crate) fn ours(folder: &Path) -> Self {
        let process = std::process::id();
        let socket = folder.join(format!("{process}{SUFFIX}"));
        Self { process, socket }
    }
}

/// The folder, not looked at yet.
fn folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(folder) if folder.is_absolute() => folder.join("mirrorball"),
        _ => {
            let user = rustix::process::geteuid().as_raw();
            std::env::temp_dir().join(format!("mirrorball-{user}"))
        }
    }
}

/// The folder, made if it is not there, and this user's alone.
///
/// # Errors
/// It can't be made, or it is not this user's.
pub(crate) fn own_folder() -> Result<PathBuf, LiveError> {
    let folder = folder();
    let failed = |error| LiveError::Socket {
        path: folder.clone(),
        error,
    };
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(failed(error));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(&folder).map_err(failed)?;
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    if !found.is_dir() || !ours || found.mode() & 0o077 != 0 {
        return Err(LiveError::Foreign(folder));
    }
    Ok(folder)
}

/// This user's runs in progress, the newest last. Sockets of processes that were killed are removed.
///
/// # Errors
/// The folder for sockets is somebody else's.
pub fn in_progress() -> Result<Vec<Place>, LiveError> {
    if !folder().exists() {
        return Ok(Vec::new());
    }
    Ok(in_folder(&own_folder()?))
}

fn in_folder(folder: &Path) -> Vec<Place> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let process = name.to_str()?.strip_suffix(SUFFIX)?.parse().ok()?;
            let socket = entry.path();
            if UnixStream::connect(&socket).is_err() {
                let _ = fs::remove_file(&socket);
                return None;
            }
            let made = entry.metadata().and_then(|data| data.modified()).ok();
            Some((made, Place { process, socket }))
        })
        .collect();
    found.sort_by_key(|(made, place)| (*made, place.process));
    found.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn sockets_that_nobody_listens_on_are_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        let dead = folder.path().join(format!("7{SUFFIX}"));
        drop(UnixListener::bind(&dead).unwrap());
        let alive = folder.path().join(format!("8{SUFFIX}"));
        let _listener = UnixListener::bind(&alive).unwrap();
        fs::write(folder.path().join("other"), "").unwrap();
        let found = in_folder(folder.path());
        let expected = Place {
            process: 8,
            socket: alive,
        };
        assert_eq!(found, [expected]);
        assert!(!dead.exists());
        assert!(folder.path().join("other").exists());
    }
}
