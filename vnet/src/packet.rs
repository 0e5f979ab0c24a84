//! An Ethernet frame on its way: copied bytes and pages that were not.

use crate::Mac;
use mirrorball_pmap::{PAGE_SIZE, PinnedFrames};
use std::fmt;

/// Bytes of an Ethernet header: destination, source, type.
pub const ETHERNET_HEADER: usize = 14;

/// Longest packet, in bytes. No standard knows frames so long; guests that agree may use them.
pub const MOST_BYTES: usize = (1 << 20) + PAGE_SIZE;

/// A part of a packet.
pub enum Piece {
    /// Bytes that were copied out of the sender's memory.
    Bytes(Vec<u8>),
    /// Whole pages.
    Frames(PinnedFrames),
}

impl Piece {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Frames(frames) => frames.bytes(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Frames(frames) => frames.pages() as usize * PAGE_SIZE,
        }
    }
}

/// Guests' bytes are nobody's to read in a log.
impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Frames(frames) => {
                write!(f, "{} frames from {:?}", frames.pages(), frames.start())
            }
        }
    }
}

/// A checksum that the sender left to others (virtio 1.2, clause 5.1.6.2): the Internet checksum
/// from `start` to the packet's end, to be put `offset` bytes after `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// First byte that is summed, from the packet's start.
    pub start: u16,
    /// Where the sum belongs, from `start`.
    pub offset: u16,
}

/// A protocol whose packet can stand for several smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over either.
    Udp,
}

/// A packet that stands for several (segmentation offload).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Its protocol.
    pub transport: Transport,
    /// Whether the first segment alone has the CWR flag (TCP's congestion notification).
    pub congestion: bool,
    /// Bytes of all headers, as the sender says: a hint.
    pub header: u16,
    /// Payload bytes of each segment but the last.
    pub size: u16,
}

/// What the sender left undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// A checksum to be completed.
    pub checksum: Option<Checksum>,
    /// Segments to be made.
    pub segments: Option<Segments>,
}

/// What can't be a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// No room for an Ethernet header.
    #[error("{bytes} bytes are less than an Ethernet header")]
    Short {
        /// The packet's bytes.
        bytes: usize,
    },
    /// Longer than [`MOST_BYTES`].
    #[error("{bytes} bytes are more than {MOST_BYTES}")]
    Long {
        /// The packet's bytes.
        bytes: usize,
    },
}

/// An Ethernet frame without its check sequence.
#[derive(Debug)]
pub struct Packet {
    pieces: Vec<Piece>,
    bytes: usize,
    source: Mac,
    destination: Mac,
    offload: Offload,
}

impl Packet {
    /// A packet of these pieces, in order.
    ///
    /// # Errors
    /// It is shorter than an Ethernet header or longer than [`MOST_BYTES`].
    pub fn new(pieces: Vec<Piece>, offload: Offload) -> Result<Self, PacketError> {
        let bytes = pieces.iter().map(Piece::len).sum();
        if bytes < ETHERNET_HEADER {
            return Err(PacketError::Short { bytes });
        }
        if bytes > MOST_BYTES {
            return Err(PacketError::Long { bytes });
        }
        let mut packet = Self {
            pieces,
            bytes,
            source: Mac([0; 6]),
            destination: Mac([0; 6]),
            offload,
        };
        let mut header = [0; 12];
        packet.copy_to(&mut header);
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = header;
        packet.destination = Mac([d0, d1, d2, d3, d4, d5]);
        packet.source = Mac([s0, s1, s2, s3, s4, s5]);
        Ok(packet)
    }

    /// Bytes in all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Who sent it, as the packet says.
    #[must_use]
    pub fn source(&self) -> Mac {
        self.source
    }

    /// Whom it is for.
    #[must_use]
    pub fn destination(&self) -> Mac {
        self.destination
    }

    /// What the sender left undone.
    #[must_use]
    pub fn offload(&self) -> Offload {
        self.offload
    }

    /// A number that packets of one connection have in common, others hardly: of their Ethernet
    /// addresses, and of the addresses, protocol and ports of IP where there is one.
    #[must_use]
    pub fn flow(&self) -> u32 {
        let mut head = [0; 64];
        let len = self.copy_to(&mut head);
        let head = head.get(..len).unwrap_or_default();
        let part = |from: usize, to: usize| head.get(from..to).unwrap_or_default();
        let (addresses, ports) = match (part(12, 14), part(14, 15)) {
            // Headers without options; those with some are told apart by their addresses alone.
            ([8, 0], [0x45]) => (part(23, 24), part(26, 38)),
            ([0x86, 0xdd], _) => (part(20, 21), part(22, 58)),
            _ => (&[][..], &[][..]),
        };
        let all = part(0, 12).iter().chain(addresses).chain(ports);
        // Fowler, Noll and Vo's hash, 1a.
        all.fold(0x811c_9dc5, |hash: u32, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        })
    }

    /// Its parts, in order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Where the packet's first frames begin, from its start, and which they are.
    #[must_use]
    pub fn first_frames(&self) -> Option<(usize, &PinnedFrames)> {
        let mut before = 0;
        self.pieces.iter().find_map(|piece| match piece {
            Piece::Bytes(bytes) => {
                before += bytes.len();
                None
            }
            Piece::Frames(frames) => Some((before, frames)),
        })
    }

    /// Copies the packet's start to `to`; answers how many bytes that were.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in &self.pieces {
            let (rest, bytes) = (&mut to[done..], piece.bytes());
            let len = rest.len().min(bytes.len());
            rest[..len].copy_from_slice(&bytes[..len]);
            done += len;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(bytes: &[u8]) -> Piece {
        Piece::Bytes(bytes.to_vec())
    }

    #[test]
    fn addresses_are_found_wherever_the_pieces_are_cut() {
        let header: Vec<u8> = (1..=14).collect();
        for cut in 0..=14 {
            let (front, back) = header.split_at(cut);
            let packet = Packet::new(vec![piece(front), piece(back)], Offload::default()).unwrap();
            assert_eq!(packet.destination(), Mac([1, 2, 3, 4, 5, 6]));
            assert_eq!(packet.source(), Mac([7, 8, 9, 10, 11, 12]));
            assert_eq!(packet.bytes(), 14);
            let mut copy = [0; 20];
            assert_eq!(packet.copy_to(&mut copy), 14);
            assert_eq!(copy[..14], header);
        }
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        let short = Packet::new(vec![piece(&[0; 13])], Offload::default());
        assert_eq!(short.unwrap_err(), PacketError::Short { bytes: 13 });
        let half = MOST_BYTES / 2;
        let long = vec![piece(&vec![0; half]), piece(&vec![0; half + 1])];
        let long = Packet::new(long, Offload::default());
        assert_eq!(
            long.unwrap_err(),
            PacketError::Long {
                bytes: MOST_BYTES + 1
            }
        );
    }
}
