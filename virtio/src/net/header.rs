//! The header before each packet (virtio 1.2, clause 5.1.6), and what it says of work left undone.

use mirrorball_vnet::{Checksum, Offload};
use virtio_bindings::virtio_net::{VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE};

/// Bytes of the header; modern devices always have all of it.
pub(super) const HEADER: usize = 12;

/// `struct virtio_net_hdr`, as bytes.
pub(super) type Raw = [u8; HEADER];

/// What a sender's header says; `None` when it says what this device has not offered.
pub(super) fn parse(raw: &Raw) -> Option<Offload> {
    let [
        flags,
        kind,
        _,
        _,
        _,
        _,
        start0,
        start1,
        offset0,
        offset1,
        _,
        _,
    ] = *raw;
    if u32::from(kind) != VIRTIO_NET_HDR_GSO_NONE {
        return None;
    }
    let wanted = u32::from(flags) & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0;
    let checksum = wanted.then(|| Checksum {
        start: u16::from_le_bytes([start0, start1]),
        offset: u16::from_le_bytes([offset0, offset1]),
    });
    Some(Offload {
        checksum,
        segments: None,
    })
}

/// The header for a receiver, over `buffers` chains.
pub(super) fn build(offload: Offload, buffers: u16) -> Raw {
    let mut raw = [0; HEADER];
    if let Some(Checksum { start, offset }) = offload.checksum {
        raw[0] = u8::try_from(VIRTIO_NET_HDR_F_NEEDS_CSUM).unwrap_or(0);
        raw[6..8].copy_from_slice(&start.to_le_bytes());
        raw[8..10].copy_from_slice(&offset.to_le_bytes());
    }
    raw[10..].copy_from_slice(&buffers.to_le_bytes());
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_left_undone_is_passed_on() {
        let raw = [1, 0, 9, 9, 9, 9, 34, 0, 16, 0, 7, 7];
        let offload = parse(&raw).unwrap();
        let checksum = Checksum {
            start: 34,
            offset: 16,
        };
        assert_eq!(offload.checksum, Some(checksum));
        assert_eq!(build(offload, 3), [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 3, 0]);
        let nothing = parse(&[0; HEADER]).unwrap();
        assert_eq!(nothing, Offload::default());
        assert_eq!(parse(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
