//! Which of this machine's folders the command may write to, and what it can't see.
//!
//! A folder has the same path outside and inside. Everything else that the command writes goes to
//! memory and is forgotten with the machine.

use std::fs;
use std::path::{Path, PathBuf};

use crate::HostError;

/// What the emulated machine has of its own.
const ITS_OWN: [&str; 3] = ["/dev", "/proc", "/sys"];

/// A folder that is written through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Its name on the way in.
    pub(crate) tag: String,
    /// Where it is, without symbolic links: they would be resolved in another root.
    pub(crate) path: PathBuf,
}

/// Makes the folders that are missing; one share for folders that lie in each other.
pub(crate) fn prepare(folders: &[PathBuf]) -> Result<Vec<Share>, HostError> {
    let mut paths = Vec::new();
    for folder in folders {
        fs::create_dir_all(folder).map_err(|error| HostError::path(folder, error))?;
        let path = fs::canonicalize(folder).map_err(|error| HostError::path(folder, error))?;
        if path == Path::new("/") {
            let reason = "an emulated host can't write results to the root of the file system";
            return Err(HostError::path(&path, reason));
        }
        paths.push(path);
    }
    // A folder comes right before those below it.
    paths.sort();
    let mut shares: Vec<Share> = Vec::new();
    for path in paths {
        if !shares
            .last()
            .is_some_and(|share| path.starts_with(&share.path))
        {
            let tag = format!("out{}", shares.len());
            shares.push(Share { tag, path });
        }
    }
    Ok(shares)
}

/// Whether the command will find this file where it is here.
///
/// # Errors
/// It is not there, or it lies where the emulated machine has files of its own.
pub fn check_visible(file: &Path) -> Result<(), HostError> {
    let path = fs::canonicalize(file).map_err(|error| HostError::path(file, error))?;
    if ITS_OWN.iter().any(|own| path.starts_with(own)) {
        let reason = "an emulated host does not see this file; copy it to a folder of a disk";
        return Err(HostError::path(file, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_followed_and_shared_once() {
        let place = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(place.path()).unwrap();
        fs::create_dir(place.join("real")).unwrap();
        std::os::unix::fs::symlink(place.join("real"), place.join("link")).unwrap();
        let wanted = [
            place.join("real/deep/er"),
            place.join("link"),
            place.join("real-not"),
        ];
        let shares = prepare(&wanted).unwrap();
        assert!(place.join("real/deep/er").is_dir());
        let shared = shares.iter().map(|s| (s.tag.as_str(), s.path.clone()));
        let expected = [
            ("out0", place.join("real")),
            ("out1", place.join("real-not")),
        ];
        assert_eq!(shared.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_root_and_a_file_are_no_folders_for_results() {
        assert!(prepare(&["/".into()]).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = prepare(&[file.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn what_the_emulated_machine_has_of_its_own_is_not_seen() {
        for hidden in ["/dev/null", "/proc/self/cmdline", "/no/such/file"] {
            assert!(check_visible(Path::new(hidden)).is_err(), "{hidden}");
        }
        let file = tempfile::NamedTempFile::new_in("/tmp").unwrap();
        check_visible(file.path()).unwrap();
    }
}
