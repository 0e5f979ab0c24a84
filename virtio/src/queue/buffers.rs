//! Guest buffers as one stream of bytes.
//!
//! The specification lets a driver cut a request into descriptors wherever it likes (virtio 1.2,
//! clause 2.7.4), so devices look at a chain as two streams and never at single descriptors.

use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

/// Consecutive guest-physical bytes, checked to lie in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Guest-physical address of the first byte.
    pub address: u64,
    /// Bytes, not 0.
    pub len: u32,
}

/// Buffers in the order of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffers(Vec<Buffer>);

impl Buffers {
    /// Adds a buffer at the end; empty ones vanish.
    pub fn push(&mut self, buffer: Buffer) {
        if buffer.len > 0 {
            self.0.push(buffer);
        }
    }

    /// Bytes in all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|buffer| u64::from(buffer.len)).sum()
    }

    /// Whether there is no byte at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The buffers in order.
    pub fn iter(&self) -> impl Iterator<Item = Buffer> + '_ {
        self.0.iter().copied()
    }

    /// Cuts into the first `bytes` bytes and the rest; `None` if there are fewer.
    #[must_use]
    pub fn split_at(self, bytes: u64) -> Option<(Self, Self)> {
        let (mut front, mut back) = (Self::default(), Self::default());
        let mut wanted = bytes;
        for buffer in self.0 {
            let taken = u32::try_from(wanted).map_or(buffer.len, |left| left.min(buffer.len));
            wanted -= u64::from(taken);
            front.push(Buffer {
                address: buffer.address,
                len: taken,
            });
            back.push(Buffer {
                address: buffer.address + u64::from(taken),
                len: buffer.len - taken,
            });
        }
        (wanted == 0).then_some((front, back))
    }

    /// Copies from the buffers' start into `data`; answers how many bytes there were.
    ///
    /// # Errors
    /// If a buffer doesn't lie in `memory`.
    pub fn read(
        &self,
        memory: &GuestMemoryMmap,
        data: &mut [u8],
    ) -> Result<usize, GuestMemoryError> {
        let mut done = 0;
        for buffer in &self.0 {
            let rest = &mut data[done..];
            let bytes = rest.len().min(buffer.len as usize);
            memory.read_slice(&mut rest[..bytes], GuestAddress(buffer.address))?;
            done += bytes;
        }
        Ok(done)
    }

    /// Copies `data` to the buffers' start; answers how many bytes found room.
    ///
    /// # Errors
    /// If a buffer doesn't lie in `memory`.
    pub fn write(&self, memory: &GuestMemoryMmap, data: &[u8]) -> Result<usize, GuestMemoryError> {
        let mut done = 0;
        for buffer in &self.0 {
            let rest = &data[done..];
            let bytes = rest.len().min(buffer.len as usize);
            memory.write_slice(&rest[..bytes], GuestAddress(buffer.address))?;
            done += bytes;
        }
        Ok(done)
    }
}

impl FromIterator<Buffer> for Buffers {
    fn from_iter<I: IntoIterator<Item = Buffer>>(buffers: I) -> Self {
        let mut all = Self::default();
        buffers.into_iter().for_each(|buffer| all.push(buffer));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffers(lens: &[u32]) -> Buffers {
        let mut address = 0x1000;
        lens.iter()
            .map(|&len| {
                address += 0x1000;
                Buffer { address, len }
            })
            .collect()
    }

    #[test]
    fn a_cut_inside_a_buffer_keeps_every_byte_in_order() {
        let (front, back) = buffers(&[16, 100, 7]).split_at(50).unwrap();
        assert_eq!(
            front.iter().collect::<Vec<_>>(),
            [
                Buffer {
                    address: 0x2000,
                    len: 16
                },
                Buffer {
                    address: 0x3000,
                    len: 34
                }
            ]
        );
        assert_eq!(
            back.iter().collect::<Vec<_>>(),
            [
                Buffer {
                    address: 0x3022,
                    len: 66
                },
                Buffer {
                    address: 0x4000,
                    len: 7
                }
            ]
        );
    }

    #[test]
    fn a_cut_at_an_edge_leaves_no_empty_buffer() {
        let (front, back) = buffers(&[16, 100]).split_at(16).unwrap();
        assert_eq!((front.iter().count(), back.iter().count()), (1, 1));
        let (front, back) = buffers(&[16]).split_at(16).unwrap();
        assert_eq!((front.bytes(), back.iter().count()), (16, 0));
        assert!(buffers(&[16]).split_at(17).is_none());
    }

    #[test]
    fn bytes_go_through_buffers_in_chain_order() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x8000)]).unwrap();
        let scattered = buffers(&[3, 1, 5]);
        assert_eq!(scattered.write(&memory, b"abcdefghijkl").unwrap(), 9);
        let mut back = [0; 9];
        assert_eq!(scattered.read(&memory, &mut back).unwrap(), 9);
        assert_eq!(&back, b"abcdefghi");
        let mut second = [0; 1];
        memory
            .read_slice(&mut second, GuestAddress(0x3000))
            .unwrap();
        assert_eq!(&second, b"d");
    }
}
