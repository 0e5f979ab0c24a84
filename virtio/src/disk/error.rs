//! What can be wrong with a disk, said so that its owner knows which file and what to do.

use std::io;
use std::path::PathBuf;
use vm_memory::GuestMemoryError;

/// Why a disk can't be opened or can't serve a request.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The base image can't be opened or read.
    #[error("{}: {source}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The base image is not a regular file.
    #[error("{}: a disk image must be a regular file, this is {kind}", path.display())]
    NotAFile {
        /// The image.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The base image has no bytes.
    #[error("{}: the disk image is empty", path.display())]
    Empty {
        /// The image.
        path: PathBuf,
    },
    /// The base image is not what it was when it was opened.
    #[error("{}: the disk image changed while in use: {what}", path.display())]
    ImageChanged {
        /// The image.
        path: PathBuf,
        /// What changed, from and to.
        what: String,
    },
    /// The image's ext4 file system is larger than the image.
    #[error(
        "{}: the disk image is cut short: its ext4 file system has {file_system} bytes, the image {image}",
        path.display()
    )]
    Ext4Short {
        /// The image.
        path: PathBuf,
        /// Bytes that the superblock promises.
        file_system: u64,
        /// Bytes that are there.
        image: u64,
    },
    /// The overlay's file can't be opened, read or written.
    #[error("{}: {action}: {source}{}", path.display(), remedy(source))]
    Overlay {
        /// The overlay, or the directory of an unlinked one.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The file is no overlay, or a damaged one.
    #[error("{}: not a usable disk overlay: {reason}", path.display())]
    OverlayInvalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another disk has this overlay open.
    #[error("{}: this disk overlay is in use by another VM", path.display())]
    OverlayInUse {
        /// The overlay.
        path: PathBuf,
    },
    /// The overlay was made over another base image or for another disk size.
    #[error("{}: this disk overlay belongs to another disk: {reason}", path.display())]
    WrongBase {
        /// The overlay.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// A flush failed earlier, so what was written may be lost.
    #[error("{}: an earlier flush failed; writes since then may be lost", path.display())]
    Lost {
        /// The overlay.
        path: PathBuf,
    },
    /// A page of the request could not be brought back from swap: nobody knows what it said.
    #[error("a page of the request is lost: it can't be read from swap")]
    PageLost,
    /// A buffer is not in guest memory; requests are checked, so this is a fault of the monitor.
    #[error("guest memory: {0}")]
    Guest(#[source] GuestMemoryError),
}

/// What the owner of an overlay can do, where there is a thing to do.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room there, or set TMPDIR to a folder with room for what guests write"
        }
        _ => "",
    }
}

impl DiskError {
    /// Whether the VM must stop, since what its disk says can't be trusted any more.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::ImageChanged { .. } | Self::Guest(_))
    }
}
