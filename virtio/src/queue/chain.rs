//! One descriptor chain, walked with every rule of virtio 1.2, clause 2.7 that can be broken.

use super::buffers::{Buffer, Buffers};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// Bytes of one descriptor in a table.
const DESCRIPTOR_BYTES: u32 = 16;

/// Longest chain in bytes (clause 2.7.4.2).
const MAX_BYTES: u64 = 1 << 32;

/// A chain whose buffers all lie in guest memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Index of its first descriptor, by which it is given back.
    pub head: u16,
    /// What the device may read.
    pub readable: Buffers,
    /// What the device may write.
    pub writable: Buffers,
}

/// What can be wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// An index points past the table's end.
    #[error("descriptor {index} of a table of {entries}")]
    Index {
        /// The index followed.
        index: u16,
        /// Descriptors in the table.
        entries: u16,
    },
    /// A descriptor table lies outside guest memory.
    #[error("descriptor at {address:#x} is outside guest memory")]
    Table {
        /// Guest-physical address of the descriptor.
        address: u64,
    },
    /// A buffer lies outside guest memory or wraps around.
    #[error("buffer of {len} bytes at {address:#x} is outside guest memory")]
    Buffer {
        /// Guest-physical address of the buffer.
        address: u64,
        /// Its length in bytes.
        len: u32,
    },
    /// More descriptors than the table has: the chain runs in a circle.
    #[error("the chain from descriptor {head} never ends")]
    Loop {
        /// Where the chain began.
        head: u16,
    },
    /// The buffers add up to more than 4 GiB.
    #[error("the chain from descriptor {head} is longer than 4 GiB")]
    Overlong {
        /// Where the chain began.
        head: u16,
    },
    /// A buffer for the device to read follows one for it to write.
    #[error("a readable buffer follows a writable one in the chain from descriptor {head}")]
    Order {
        /// Where the chain began.
        head: u16,
    },
    /// An indirect table of no whole number of descriptors, of none or of more than the queue has.
    #[error("an indirect table of {len} bytes")]
    IndirectLength {
        /// The table's length in bytes.
        len: u32,
    },
    /// An indirect table inside an indirect table.
    #[error("an indirect table inside an indirect table")]
    Nested,
    /// A descriptor that is indirect and has a successor.
    #[error("an indirect descriptor with a successor")]
    IndirectNext,
}

/// A descriptor table: the queue's own, or an indirect one.
#[derive(Clone, Copy)]
struct Table {
    address: u64,
    entries: u16,
    indirect: bool,
}

impl Table {
    fn get(self, memory: &GuestMemoryMmap, index: u16) -> Result<Descriptor, ChainError> {
        if index >= self.entries {
            return Err(ChainError::Index {
                index,
                entries: self.entries,
            });
        }
        let offset = u64::from(index) * u64::from(DESCRIPTOR_BYTES);
        let address = self.address.saturating_add(offset);
        memory
            .read_obj(GuestAddress(address))
            .map_err(|_| ChainError::Table { address })
    }

    /// The table that an indirect descriptor of this table names.
    fn follow(self, descriptor: &Descriptor, most: u16) -> Result<Self, ChainError> {
        let len = descriptor.len();
        let fault = ChainError::IndirectLength { len };
        if self.indirect {
            return Err(ChainError::Nested);
        }
        if descriptor.has_next() {
            return Err(ChainError::IndirectNext);
        }
        let entries = u16::try_from(len / DESCRIPTOR_BYTES).map_err(|_| fault)?;
        if !len.is_multiple_of(DESCRIPTOR_BYTES) || entries == 0 || entries > most {
            return Err(fault);
        }
        Ok(Self {
            address: descriptor.addr().0,
            entries,
            indirect: true,
        })
    }
}

impl Chain {
    /// Reads the chain that begins at descriptor `head`.
    ///
    /// The chain is read once: what the guest changes afterwards changes nothing here.
    ///
    /// # Errors
    /// The first rule that the chain breaks.
    pub fn read(ring: &Queue, memory: &GuestMemoryMmap, head: u16) -> Result<Self, ChainError> {
        let mut chain = Self {
            head,
            readable: Buffers::default(),
            writable: Buffers::default(),
        };
        let mut table = Table {
            address: ring.desc_table(),
            entries: ring.size(),
            indirect: false,
        };
        let (mut index, mut left, mut bytes) = (head, table.entries, 0);
        loop {
            if left == 0 {
                return Err(ChainError::Loop { head });
            }
            left -= 1;
            let descriptor = table.get(memory, index)?;
            if descriptor.refers_to_indirect_table() {
                table = table.follow(&descriptor, ring.max_size())?;
                (index, left) = (0, table.entries);
                continue;
            }
            bytes += u64::from(descriptor.len());
            if bytes > MAX_BYTES {
                return Err(ChainError::Overlong { head });
            }
            chain.push(&descriptor, memory)?;
            if !descriptor.has_next() {
                return Ok(chain);
            }
            index = descriptor.next();
        }
    }

    fn push(
        &mut self,
        descriptor: &Descriptor,
        memory: &GuestMemoryMmap,
    ) -> Result<(), ChainError> {
        let (address, len) = (descriptor.addr().0, descriptor.len());
        if len > 0 && !memory.check_range(GuestAddress(address), len as usize) {
            return Err(ChainError::Buffer { address, len });
        }
        if descriptor.is_write_only() {
            self.writable.push(Buffer { address, len });
        } else if len > 0 && !self.writable.is_empty() {
            return Err(ChainError::Order { head: self.head });
        } else {
            self.readable.push(Buffer { address, len });
        }
        Ok(())
    }
}
