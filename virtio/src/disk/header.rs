//! The first block of a persistent overlay's file: what it is and which disk it belongs to.

use super::image::ImageDigest;
use super::{BLOCK_BYTES, BaseImage, DiskError};
use sha2::{Digest, Sha256};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const MAGIC: [u8; 8] = *b"MBOVERLY";
const VERSION: u64 = 1;

/// The header as it is in the file; the bitmap follows in the next block, then the data.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub(super) struct Header {
    magic: [u8; 8],
    version: U64,
    block_bytes: U64,
    blocks: U64,
    base_bytes: U64,
    base_digest: ImageDigest,
    /// SHA-256 of everything before it.
    check: [u8; 32],
}

impl Header {
    /// Bytes of the header's structure.
    pub(super) const BYTES: usize = size_of::<Self>();

    /// The header of a disk of `blocks` blocks over `image`.
    pub(super) fn new(image: &BaseImage, blocks: u64) -> Result<Self, DiskError> {
        let mut header = Self {
            magic: MAGIC,
            version: VERSION.into(),
            block_bytes: BLOCK_BYTES.into(),
            blocks: blocks.into(),
            base_bytes: image.bytes().into(),
            base_digest: image.digest()?,
            check: [0; 32],
        };
        header.check = header.digest();
        Ok(header)
    }

    /// Why a file that begins with `bytes` is no overlay that this version can use.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let (header, _) = Self::read_from_prefix(bytes).map_err(|_| "it is too short")?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Err("it was never finished (it has no header); delete it to make it anew");
        }
        if header.magic != MAGIC {
            return Err("it does not begin like one");
        }
        if header.version.get() != VERSION || header.block_bytes.get() != BLOCK_BYTES {
            return Err("it was made by another version");
        }
        if header.check != header.digest() {
            return Err("its header is damaged");
        }
        Ok(header)
    }

    /// What about the disk this overlay was made for differs from the `wanted` one.
    pub(super) fn mismatch(&self, wanted: &Self) -> Option<String> {
        if self.base_bytes != wanted.base_bytes {
            return Some(format!(
                "its base image had {} bytes, this one has {}",
                self.base_bytes, wanted.base_bytes
            ));
        }
        if self.base_digest != wanted.base_digest {
            return Some("its base image had another content (SHA-256 differs)".to_owned());
        }
        (self.blocks != wanted.blocks).then(|| {
            format!(
                "it is for a disk of {} blocks with its scratch space, this one has {}",
                self.blocks, wanted.blocks
            )
        })
    }

    fn digest(&self) -> [u8; 32] {
        let covered = Self::BYTES - self.check.len();
        Sha256::digest(&self.as_bytes()[..covered]).into()
    }
}
