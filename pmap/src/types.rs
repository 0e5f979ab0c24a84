//! The vocabulary: page numbers, runs, identities.

use std::fmt;

/// Bytes in a page, guest-physical and machine alike.
pub const PAGE_SIZE: usize = 4096;

/// [`PAGE_SIZE`] as `u64`, for address arithmetic.
pub const PAGE_BYTES: u64 = 4096;

/// One page's bytes.
pub type Page = [u8; PAGE_SIZE];

/// A guest-physical page number of one VM (Disco's and ESX's PPN).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ppn(pub u32);

/// A machine page number: a page of the frame store (ESX's MPN).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mpn(pub u32);

/// A VM's number, unique in one machine's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VmId(pub u32);

/// A sharing group (security domain): pages are shared only inside one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupId(pub u32);

macro_rules! number {
    ($type:ident, $name:literal) => {
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($name, " {:#x}"), self.0)
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
        impl $type {
            /// The number as an index.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}
number!(Ppn, "ppn");
number!(Mpn, "mpn");
number!(VmId, "vm");
number!(GroupId, "group");

impl Ppn {
    /// The page that many pages further on.
    #[must_use]
    pub const fn plus(self, pages: u32) -> Self {
        Self(self.0 + pages)
    }

    /// Guest-physical address of the page's first byte.
    #[must_use]
    pub const fn address(self) -> u64 {
        self.0 as u64 * PAGE_BYTES
    }
}

impl Mpn {
    /// The frame that many frames further on.
    #[must_use]
    pub const fn plus(self, pages: u32) -> Self {
        Self(self.0 + pages)
    }
}

/// Consecutive guest-physical pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PpnRun {
    /// First page.
    pub start: Ppn,
    /// Number of pages, not 0.
    pub pages: u32,
}

impl PpnRun {
    /// The run of `pages` pages from `start`.
    #[must_use]
    pub const fn new(start: Ppn, pages: u32) -> Self {
        Self { start, pages }
    }

    /// The page after the last.
    #[must_use]
    pub const fn end(self) -> Ppn {
        Ppn(self.start.0 + self.pages)
    }

    /// All pages of the run, in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Ppn> + ExactSizeIterator {
        (self.start.0..self.start.0 + self.pages).map(Ppn)
    }
}

/// What made a guest page name a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// The virtual disk: a block's frame was mapped, or a boot image's (Disco 4.2).
    Disk,
    /// The virtual network: a page moved from another guest (Disco 4.3).
    Network,
    /// Content scanning found it equal (ESX 4).
    Content,
}

impl Mechanism {
    /// All mechanisms that map frames.
    pub const ALL: [Self; 3] = [Self::Disk, Self::Network, Self::Content];

    /// Position in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Disk => 0,
            Self::Network => 1,
            Self::Content => 2,
        }
    }
}
