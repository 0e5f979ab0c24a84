//! When pages are handed on and mapped, and when their bytes are copied.

use std::fmt;
use std::str::FromStr;

/// What becomes of a packet's whole pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// Each is handed on as a frame, and mapped wherever it meets a whole page of the receiver's.
    Always,
    /// All bytes are copied.
    Never,
    /// Frames that exist are handed on. New ones are made, and mappings changed, only for runs that
    /// are long enough to be worth it.
    #[default]
    Cost,
}

/// Pages from which on a change of the mappings costs less than it saves: one change and the faults
/// after it against the copies.
const LEAST_MAPPED: u32 = 4;
/// Pages from which on a sender's private pages are made frames, which its next write undoes.
const LEAST_MADE: u32 = 8;

impl Transfer {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 3] = [
        ("always", Self::Always),
        ("never", Self::Never),
        ("cost", Self::Cost),
    ];

    /// Whether pages are handed on at all.
    pub(super) const fn hands_on(self) -> bool {
        !matches!(self, Self::Never)
    }

    /// Whether frames are made of so many private pages in a row.
    pub(super) const fn makes(self, pages: u32) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Cost => pages >= LEAST_MADE,
        }
    }

    /// Whether so many frames in a row are mapped into the receiver.
    pub(super) const fn maps(self, pages: u32) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Cost => pages >= LEAST_MAPPED,
        }
    }
}

/// The text names no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a transfer is always, never or cost")]
pub struct UnknownTransfer;

impl FromStr for Transfer {
    type Err = UnknownTransfer;

    fn from_str(text: &str) -> Result<Self, UnknownTransfer> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, transfer)| *transfer).ok_or(UnknownTransfer)
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::ALL.iter().find(|(_, transfer)| transfer == self);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}
