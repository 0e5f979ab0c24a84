//! From a descriptor chain to a checked request (virtio 1.2, clause 5.2.6).
//!
//! Everything a guest can get wrong is decided here, before anything is done: what comes out of
//! [`Request::parse`] lies on the disk, lies in guest memory, and is of bounded size.

use crate::device::DeviceError;
use crate::queue::{Buffers, Chain};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use vm_memory::GuestMemoryMmap;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Unit of addresses on the disk, whatever its block size (clause 5.2.5).
pub const SECTOR_BYTES: u64 = 512;
/// Most bytes of data in one request; more is refused, so that no request holds a worker long.
pub const MAX_DATA_BYTES: u64 = 16 << 20;
/// Most sectors that one discard or write-zeroes range has (1 GiB).
pub const MAX_RANGE_SECTORS: u32 = 1 << 21;

/// `struct virtio_blk_req` up to its data.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// What to do.
    pub kind: U32,
    /// Reserved.
    pub reserved: U32,
    /// First sector.
    pub sector: U64,
}

/// `struct virtio_blk_discard_write_zeroes`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Range {
    /// First sector.
    pub sector: U64,
    /// Number of sectors.
    pub sectors: U32,
    /// Bit 0: the space may be given back.
    pub flags: U32,
}

/// A request that can be executed without further checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Guest-physical address of the status byte.
    pub status: u64,
    /// Whether data for the guest comes before the status byte.
    pub has_input: bool,
    /// What to do.
    pub operation: Operation,
}

/// What a request asks for; offsets and lengths in bytes, inside the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Disk to guest.
    Read {
        /// Where on the disk.
        offset: u64,
        /// To where in the guest.
        buffers: Buffers,
    },
    /// Guest to disk.
    Write {
        /// Where on the disk.
        offset: u64,
        /// From where in the guest.
        buffers: Buffers,
    },
    /// Make completed writes durable.
    Flush,
    /// The serial number.
    Identify {
        /// To where in the guest.
        buffers: Buffers,
    },
    /// Zeros to the disk.
    WriteZeroes {
        /// Where on the disk.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// Content no longer needed.
    Discard {
        /// Where on the disk.
        offset: u64,
        /// How much.
        bytes: u64,
    },
    /// Nothing: it gets an error status.
    Refuse(Refusal),
}

/// Why a request gets an error status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The device has no such operation, or not with these flags.
    #[error("unsupported request")]
    Unsupported,
    /// It goes past the disk's end.
    #[error("request past the end of the disk")]
    PastEnd,
    /// The data is no whole number of sectors, or of no size that the operation has.
    #[error("request with data of an impossible size")]
    BadSize,
    /// More than [`MAX_DATA_BYTES`].
    #[error("request of more than 16 MiB")]
    TooLarge,
}

impl Request {
    /// Checks what `chain` asks of a disk of `disk_bytes` bytes.
    ///
    /// # Errors
    /// When the chain has no room for header and status, so that the guest can't even be told.
    pub fn parse(
        chain: Chain,
        memory: &GuestMemoryMmap,
        disk_bytes: u64,
    ) -> Result<Self, DeviceError> {
        let head = chain.head;
        let bad = |reason| DeviceError::Request { head, reason };
        let header_bytes = size_of::<Header>() as u64;
        let (header, output) = chain
            .readable
            .split_at(header_bytes)
            .ok_or(bad("no whole header to read"))?;
        let header: Header = fetch(&header, memory)?;
        let input_bytes = chain
            .writable
            .bytes()
            .checked_sub(1)
            .ok_or(bad("no room for the status byte"))?;
        let (input, status) = chain
            .writable
            .split_at(input_bytes)
            .ok_or(bad("no room for the status byte"))?;
        let status = status
            .iter()
            .next()
            .ok_or(bad("no room for the status byte"))?
            .address;
        let has_input = input_bytes > 0;
        let operation = Operation::check(&header, output, input, memory, disk_bytes)?;
        Ok(Self {
            status,
            has_input,
            operation,
        })
    }

    /// Used length of this request if it fails: the bytes certainly written from the first
    /// writable buffer on (clause 2.7.8.2), none if the status byte comes after data.
    #[must_use]
    pub fn failed_length(&self) -> u32 {
        u32::from(!self.has_input)
    }
}

impl Operation {
    fn check(
        header: &Header,
        output: Buffers,
        input: Buffers,
        memory: &GuestMemoryMmap,
        disk_bytes: u64,
    ) -> Result<Self, DeviceError> {
        let kind = header.kind.get();
        let (data, unused) = match kind {
            VIRTIO_BLK_T_IN => (input.bytes(), output.bytes()),
            VIRTIO_BLK_T_OUT => (output.bytes(), input.bytes()),
            _ => (0, 0),
        };
        let sector = header.sector.get();
        Ok(match kind {
            VIRTIO_BLK_T_IN | VIRTIO_BLK_T_OUT => match place(sector, data, disk_bytes) {
                Err(refusal) => Self::Refuse(refusal),
                Ok(_) if unused > 0 || data == 0 => Self::Refuse(Refusal::BadSize),
                Ok(_) if data > MAX_DATA_BYTES => Self::Refuse(Refusal::TooLarge),
                Ok(offset) if kind == VIRTIO_BLK_T_IN => Self::Read {
                    offset,
                    buffers: input,
                },
                Ok(offset) => Self::Write {
                    offset,
                    buffers: output,
                },
            },
            VIRTIO_BLK_T_FLUSH => Self::Flush,
            VIRTIO_BLK_T_GET_ID => Self::Identify { buffers: input },
            VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => {
                if output.bytes() == size_of::<Range>() as u64 {
                    Self::range(kind, &fetch(&output, memory)?, disk_bytes)
                } else {
                    Self::Refuse(Refusal::BadSize)
                }
            }
            _ => Self::Refuse(Refusal::Unsupported),
        })
    }

    /// Flags other than "unmap" are unsupported, and discard has none at all (clause 5.2.6.2).
    fn range(kind: u32, range: &Range, disk_bytes: u64) -> Self {
        let flags = range.flags.get();
        let zeroes = kind == VIRTIO_BLK_T_WRITE_ZEROES;
        if flags & !VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0 || !zeroes && flags != 0 {
            return Self::Refuse(Refusal::Unsupported);
        }
        if range.sectors.get() > MAX_RANGE_SECTORS {
            return Self::Refuse(Refusal::TooLarge);
        }
        let bytes = u64::from(range.sectors.get()) * SECTOR_BYTES;
        match place(range.sector.get(), bytes, disk_bytes) {
            Err(refusal) => Self::Refuse(refusal),
            Ok(_) if bytes == 0 => Self::Refuse(Refusal::BadSize),
            Ok(offset) if zeroes => Self::WriteZeroes { offset, bytes },
            Ok(offset) => Self::Discard { offset, bytes },
        }
    }
}

/// The byte offset of a range on the disk, if it has whole sectors and lies on it.
fn place(sector: u64, bytes: u64, disk_bytes: u64) -> Result<u64, Refusal> {
    if !bytes.is_multiple_of(SECTOR_BYTES) {
        return Err(Refusal::BadSize);
    }
    let offset = sector.checked_mul(SECTOR_BYTES).ok_or(Refusal::PastEnd)?;
    let end = offset.checked_add(bytes).ok_or(Refusal::PastEnd)?;
    if end <= disk_bytes {
        Ok(offset)
    } else {
        Err(Refusal::PastEnd)
    }
}

/// Copies a structure out of guest memory, once.
fn fetch<T: FromBytes + IntoBytes>(
    buffers: &Buffers,
    memory: &GuestMemoryMmap,
) -> Result<T, DeviceError> {
    let mut value = T::new_zeroed();
    buffers
        .read(memory, value.as_mut_bytes())
        .map_err(virtio_queue::Error::GuestMemory)?;
    Ok(value)
}

#[cfg(test)]
mod tests;
