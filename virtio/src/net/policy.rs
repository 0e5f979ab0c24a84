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
    /// Each as it pays by what was measured: pages that stay with the receiver are mapped, others are
    /// copied. Frames that exist are handed on, new ones are made for receivers that map them.
    #[default]
    Cost,
}

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

    /// The shortest run that is mapped, or made frames, before anything was measured.
    pub(super) const fn least_run(self) -> u32 {
        match self {
            Self::Always | Self::Cost => 1,
            Self::Never => u32::MAX,
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
