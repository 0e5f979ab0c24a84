//! The header before each packet (virtio 1.2, clause 5.1.6), and what it says of work left undone.

use mirrorball_vnet::{Checksum, Offload, Segments, Transport};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6,
    VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN, VIRTIO_NET_HDR_GSO_NONE,
    VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4,
};

/// Bytes of the header; modern devices always have all of it.
pub(super) const HEADER: usize = 12;

/// `struct virtio_net_hdr`, as bytes.
pub(super) type Raw = [u8; HEADER];

/// What a sender's header says; `None` when it says what no header may.
pub(super) fn parse(raw: &Raw) -> Option<Offload> {
    let [flags, kind, header @ .., _, _] = *raw;
    let [
        header0,
        header1,
        size0,
        size1,
        start0,
        start1,
        offset0,
        offset1,
    ] = header;
    let wanted = u32::from(flags) & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0;
    let checksum = wanted.then(|| Checksum {
        start: u16::from_le_bytes([start0, start1]),
        offset: u16::from_le_bytes([offset0, offset1]),
    });
    let kind = u32::from(kind);
    let transport = match kind & !VIRTIO_NET_HDR_GSO_ECN {
        VIRTIO_NET_HDR_GSO_NONE => None,
        VIRTIO_NET_HDR_GSO_TCPV4 => Some(Transport::Tcp4),
        VIRTIO_NET_HDR_GSO_TCPV6 => Some(Transport::Tcp6),
        VIRTIO_NET_HDR_GSO_UDP_L4 => Some(Transport::Udp),
        _ => return None,
    };
    let segments = transport.map(|transport| Segments {
        transport,
        congestion: kind & VIRTIO_NET_HDR_GSO_ECN != 0,
        header: u16::from_le_bytes([header0, header1]),
        size: u16::from_le_bytes([size0, size1]),
    });
    Some(Offload { checksum, segments })
}

/// The header for a receiver, over `buffers` chains.
pub(super) fn build(offload: Offload, buffers: u16) -> Raw {
    let mut raw = [0; HEADER];
    let byte = |word: u32| u8::try_from(word).unwrap_or(0);
    if let Some(Checksum { start, offset }) = offload.checksum {
        raw[0] = byte(VIRTIO_NET_HDR_F_NEEDS_CSUM);
        raw[6..8].copy_from_slice(&start.to_le_bytes());
        raw[8..10].copy_from_slice(&offset.to_le_bytes());
    }
    if let Some(segments) = offload.segments {
        let kind = match segments.transport {
            Transport::Tcp4 => VIRTIO_NET_HDR_GSO_TCPV4,
            Transport::Tcp6 => VIRTIO_NET_HDR_GSO_TCPV6,
            Transport::Udp => VIRTIO_NET_HDR_GSO_UDP_L4,
        };
        let marked = u32::from(segments.congestion) * VIRTIO_NET_HDR_GSO_ECN;
        raw[1] = byte(kind | marked);
        raw[2..4].copy_from_slice(&segments.header.to_le_bytes());
        raw[4..6].copy_from_slice(&segments.size.to_le_bytes());
    }
    raw[10..].copy_from_slice(&buffers.to_le_bytes());
    raw
}

/// What a receiver does itself, by its driver's features.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Abilities(pub(super) u64);

impl Abilities {
    fn has(self, feature: u32) -> bool {
        self.0 & (1 << feature) != 0
    }

    /// Whether it completes checksums.
    pub(super) fn checksums(self) -> bool {
        self.has(VIRTIO_NET_F_GUEST_CSUM)
    }

    /// Whether it takes a packet that stands for these.
    pub(super) fn takes(self, segments: Segments) -> bool {
        let kinds: &[u32] = match segments.transport {
            Transport::Tcp4 => &[VIRTIO_NET_F_GUEST_TSO4],
            Transport::Tcp6 => &[VIRTIO_NET_F_GUEST_TSO6],
            // The header doesn't say which of the two it is.
            Transport::Udp => &[VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6],
        };
        let marked = !segments.congestion || self.has(VIRTIO_NET_F_GUEST_ECN);
        marked && kinds.iter().all(|kind| self.has(*kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_undone_is_passed_on() {
        let raw = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 7, 7];
        let offload = parse(&raw).unwrap();
        let checksum = Checksum {
            start: 34,
            offset: 16,
        };
        assert_eq!(offload.checksum, Some(checksum));
        assert_eq!(build(offload, 3), [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 3, 0]);
        let nothing = parse(&[0; HEADER]).unwrap();
        assert_eq!(nothing, Offload::default());
        for (kind, known) in [
            (1, true),
            (4, true),
            (5, true),
            (0x81, true),
            (3, false),
            (2, false),
        ] {
            let raw = [1, kind, 66, 0, 0x40, 5, 34, 0, 16, 0, 1, 0];
            let offload = parse(&raw);
            assert_eq!(offload.is_some(), known, "{kind}");
            if let Some(offload) = offload {
                assert_eq!(build(offload, 1), raw);
            }
        }
    }

    #[test]
    fn a_receiver_takes_whole_what_it_said_it_can() {
        let segments = |transport, congestion| Segments {
            transport,
            congestion,
            header: 0,
            size: 1400,
        };
        let four = Abilities(1 << VIRTIO_NET_F_GUEST_TSO4 | 1 << VIRTIO_NET_F_GUEST_USO4);
        assert!(four.takes(segments(Transport::Tcp4, false)));
        assert!(!four.takes(segments(Transport::Tcp4, true)));
        assert!(!four.takes(segments(Transport::Tcp6, false)));
        assert!(!four.takes(segments(Transport::Udp, false)));
        let both = Abilities(four.0 | 1 << VIRTIO_NET_F_GUEST_USO6 | 1 << VIRTIO_NET_F_GUEST_ECN);
        assert!(both.takes(segments(Transport::Udp, false)));
        assert!(both.takes(segments(Transport::Tcp4, true)));
    }
}
