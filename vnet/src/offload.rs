//! Work that senders leave to others, done for receivers that can't do it.

use crate::{Checksum, Offload, Packet, Piece};

impl Packet {
    /// The packet with the checksum that its sender left out; `None` when it has it already. Where
    /// the sender names a place that is not in the packet, there is nothing to be completed.
    #[must_use]
    pub fn with_checksum(&self) -> Option<Self> {
        let Checksum { start, offset } = self.offload().checksum?;
        let mut bytes = vec![0; self.bytes()];
        self.copy_to(&mut bytes);
        let start = usize::from(start);
        let sum = bytes.get(start..).map(internet_checksum);
        let place = start + usize::from(offset);
        if let (Some(sum), Some(to)) = (sum, bytes.get_mut(place..place + 2)) {
            to.copy_from_slice(&sum.to_be_bytes());
        }
        let offload = Offload {
            checksum: None,
            ..self.offload()
        };
        Self::new(vec![Piece::Bytes(bytes)], offload).ok()
    }
}

/// The Internet checksum (RFC 1071); never 0, which would mean none in UDP.
pub(crate) fn internet_checksum(bytes: &[u8]) -> u16 {
    let (words, last) = bytes.as_chunks::<2>();
    let words = words
        .iter()
        .map(|word| u64::from(u16::from_be_bytes(*word)));
    let odd = last.first().map_or(0, |&byte| u64::from(byte) << 8);
    let mut sum = words.sum::<u64>() + odd;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !u16::try_from(sum).unwrap_or(0) {
        0 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(bytes: &[u8], checksum: Checksum) -> Packet {
        let offload = Offload {
            checksum: Some(checksum),
            segments: None,
        };
        let pieces = bytes.chunks(7).map(|piece| Piece::Bytes(piece.to_vec()));
        Packet::new(pieces.collect(), offload).unwrap()
    }

    #[test]
    fn a_checksum_is_completed_where_the_sender_says() {
        // The example of RFC 1071, section 3: 0001 f203 f4f5 f6f7 sum to ddf2.
        let mut bytes = vec![0xaa; 14];
        bytes.extend([0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7, 0, 0]);
        let whole = packet(
            &bytes,
            Checksum {
                start: 14,
                offset: 8,
            },
        );
        let whole = whole.with_checksum().unwrap();
        assert_eq!(whole.offload(), Offload::default());
        assert!(whole.with_checksum().is_none());
        let mut copy = vec![0; 24];
        whole.copy_to(&mut copy);
        assert_eq!(copy[..22], bytes[..22]);
        assert_eq!(copy[22..], [0x22, 0x0d]);
    }

    #[test]
    fn a_place_outside_the_packet_changes_nothing() {
        let bytes = [7; 20];
        for (start, offset) in [(30, 0), (14, 5), (14, 6), (u16::MAX, u16::MAX)] {
            let whole = packet(&bytes, Checksum { start, offset });
            let mut copy = [0; 20];
            whole.with_checksum().unwrap().copy_to(&mut copy);
            assert_eq!(copy, bytes, "{start} {offset}");
        }
    }
}
