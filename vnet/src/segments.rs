//! Packets that stand for several (segmentation offload), cut for receivers that can't take them whole.
//!
//! Between guests that can, such a packet travels as it is: its headers once, its payload in one piece
//! (virtio 1.2, clause 5.1.6). Whether it can be cut is found out when it is sent, so that nobody gets
//! what only its sender understands.

use crate::offload::internet_checksum;
use crate::{Offload, Packet, Piece, Segments, Transport};

/// Most packets that one stands for: one that asks for more is a flood in small change.
const MOST_SEGMENTS: usize = 1024;

/// Bytes in which all headers must end.
const LOOKED_AT: usize = 256;
/// The Ethernet types of IPv4 and IPv6 (IEEE 802), and of tags before them.
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TAGS: [u16; 2] = [0x8100, 0x88a8];
/// Bytes of an IPv6 header without extensions (RFC 8200).
const IPV6_HEADER: usize = 40;
/// Protocols over IP, and where each has its checksum (RFC 9293, RFC 768).
const TCP: (u8, u16) = (6, 16);
const UDP: (u8, u16) = (17, 6);
/// Flags of TCP that belong to the last segment (FIN, PSH), and to the first (CWR).
const LAST: u8 = 0x09;
const FIRST: u8 = 0x80;

/// Where a packet's headers are, from its start, and how it is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    network: usize,
    transport: usize,
    payload: usize,
    protocol: u8,
    checksum: usize,
    size: usize,
}

impl Packet {
    /// Whether what its header says of segments is true; of packets that stand for themselves it is.
    #[must_use]
    pub fn segments_are_sound(&self) -> bool {
        let offload = self.offload();
        (offload.segments).is_none_or(|segments| self.layout(segments).is_some())
    }

    /// The packets that it stands for, complete in themselves; `None` if it stands for itself alone.
    #[must_use]
    pub fn segmented(&self) -> Option<Vec<Self>> {
        let layout = self.layout(self.offload().segments?)?;
        let mut bytes = vec![0; self.bytes()];
        self.copy_to(&mut bytes);
        let (head, payload) = bytes.split_at_checked(layout.payload)?;
        let last = payload.len().div_ceil(layout.size).max(1) - 1;
        let segment = |index: usize| {
            let part = payload.chunks(layout.size).nth(index).unwrap_or_default();
            let mut bytes = [head, part].concat();
            layout.complete(&mut bytes, index, index == last);
            Self::new(vec![Piece::Bytes(bytes)], Offload::default()).ok()
        };
        (0..=last).map(segment).collect()
    }

    fn layout(&self, segments: Segments) -> Option<Layout> {
        let mut head = [0; LOOKED_AT];
        let len = self.copy_to(&mut head);
        let layout = Layout::find(head.get(..len)?, segments)?;
        let checksum = self.offload().checksum?;
        let summed = usize::from(checksum.start) == layout.transport
            && layout.transport + usize::from(checksum.offset) == layout.checksum;
        let count = (self.bytes() - layout.payload).div_ceil(layout.size);
        (summed && count <= MOST_SEGMENTS).then_some(layout)
    }
}

impl Layout {
    fn find(head: &[u8], segments: Segments) -> Option<Self> {
        let mut network = 14;
        while TAGS.contains(&word(head, network - 2)?) {
            network += 4;
        }
        let kind = word(head, network - 2)?;
        let (protocol, checksum) = match segments.transport {
            Transport::Tcp4 | Transport::Tcp6 => TCP,
            Transport::Udp => UDP,
        };
        let version = head.get(network)? >> 4;
        let transport = match (segments.transport, kind, version) {
            (Transport::Tcp4 | Transport::Udp, IPV4, 4) => {
                let words = usize::from(head.get(network)? & 15);
                let right = words >= 5 && *head.get(network + 9)? == protocol;
                right.then_some(network + 4 * words)
            }
            (Transport::Tcp6 | Transport::Udp, IPV6, 6) => {
                after_extensions(head, network, protocol)
            }
            _ => None,
        }?;
        let header = match segments.transport {
            Transport::Udp => 8,
            _ => usize::from(head.get(transport + 12)? >> 4) * 4,
        };
        let least = if protocol == TCP.0 { 20 } else { 8 };
        let (payload, size) = (transport + header, usize::from(segments.size));
        let long = payload - network + size > usize::from(u16::MAX);
        (header >= least && payload <= head.len() && size > 0 && !long).then_some(Self {
            network,
            transport,
            payload,
            protocol,
            checksum: transport + usize::from(checksum),
            size,
        })
    }

    /// Makes the headers of segment `index` its own. All places are inside, as [`find`](Self::find) saw.
    fn complete(&self, bytes: &mut [u8], index: usize, last: bool) {
        let (ip, len) = (self.network, bytes.len());
        let four = bytes.get(ip).is_some_and(|byte| byte >> 4 == 4);
        // A segment's sizes and numbers are counted modulo their fields.
        if four {
            put(bytes, ip + 2, low(len - ip));
            let id = word(bytes, ip + 4).unwrap_or(0).wrapping_add(low(index));
            put(bytes, ip + 4, id);
            put(bytes, ip + 10, 0);
            let header = bytes.get(ip..self.transport).unwrap_or_default();
            put(bytes, ip + 10, internet_checksum(header));
        } else {
            put(bytes, ip + 4, low(len - ip - IPV6_HEADER));
        }
        if self.protocol == TCP.0 {
            self.number(bytes, index, last);
        } else {
            put(bytes, self.transport + 4, low(len - self.transport));
        }
        put(bytes, self.checksum, 0);
        // The pseudo-header: addresses, protocol and length.
        let addresses = if four {
            ip + 12..ip + 20
        } else {
            ip + 8..ip + 40
        };
        let mut summed = bytes.get(addresses).unwrap_or_default().to_vec();
        summed.extend([0, self.protocol]);
        summed.extend(low(len - self.transport).to_be_bytes());
        summed.extend_from_slice(bytes.get(self.transport..).unwrap_or_default());
        put(bytes, self.checksum, internet_checksum(&summed));
    }

    fn number(&self, bytes: &mut [u8], index: usize, last: bool) {
        let sequence = self.transport + 4;
        if let Some(field) = bytes.get_mut(sequence..sequence + 4) {
            let first = field
                .iter()
                .fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
            let before = u32::try_from(index * self.size).unwrap_or(0);
            field.copy_from_slice(&first.wrapping_add(before).to_be_bytes());
        }
        if let Some(flags) = bytes.get_mut(self.transport + 13) {
            *flags &= if last { 0xff } else { !LAST };
            *flags &= if index == 0 { 0xff } else { !FIRST };
        }
    }
}

/// Where the `protocol` begins after an IPv6 header and its extensions; `None` if it does not.
fn after_extensions(head: &[u8], network: usize, protocol: u8) -> Option<usize> {
    /// Hop-by-hop options, routing, destination options: all with their length in words of 8 bytes.
    const KNOWN: [u8; 3] = [0, 43, 60];
    let (mut next, mut at) = (*head.get(network + 6)?, network + IPV6_HEADER);
    while KNOWN.contains(&next) {
        let words = usize::from(*head.get(at + 1)?);
        (next, at) = (*head.get(at)?, at + 8 * (words + 1));
    }
    (next == protocol).then_some(at)
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(word.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// The number's low 16 bits.
fn low(number: usize) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checksum;

    /// An Ethernet header, tagged or not, an IP header, and 20 or 8 bytes of TCP or UDP.
    fn headers(transport: Transport, four: bool, tagged: bool) -> (Vec<u8>, Checksum) {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if tagged {
            bytes.extend([0x81, 0, 0, 7]);
        }
        let udp = transport == Transport::Udp;
        let protocol = if udp { 17 } else { 6 };
        if four {
            bytes.extend([
                8, 0, 0x45, 0, 0xff, 0xff, 0, 250, 0x40, 0, 64, protocol, 9, 9,
            ]);
            bytes.extend([10, 77, 0, 1, 10, 77, 0, 2]);
        } else {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0xff, 0xff, 0, 64]);
            bytes.extend(1..=32);
            // Options for the destination first.
            bytes.extend([protocol, 0, 1, 4, 0, 0, 0, 0]);
            let next = bytes.len() - 8 - IPV6_HEADER + 6;
            bytes[next] = 60;
        }
        let start = u16::try_from(bytes.len()).unwrap();
        if udp {
            bytes.extend([0, 7, 0, 8, 0xee, 0xee, 0xee, 0xee]);
            return (bytes, Checksum { start, offset: 6 });
        }
        bytes.extend([0, 7, 0, 8, 0xff, 0xff, 0xff, 0xf0, 1, 2, 3, 4, 0x50, 0x99]);
        bytes.extend([1, 0, 0xee, 0xee, 0, 0]);
        (bytes, Checksum { start, offset: 16 })
    }

    fn packet(bytes: &[u8], checksum: Checksum, transport: Transport, size: u16) -> Packet {
        let segments = Segments {
            transport,
            congestion: true,
            header: 0,
            size,
        };
        let offload = Offload {
            checksum: Some(checksum),
            segments: Some(segments),
        };
        let pieces = bytes.chunks(33).map(|part| Piece::Bytes(part.to_vec()));
        Packet::new(pieces.collect(), offload).unwrap()
    }

    /// Sums to all ones if the checksum is right.
    fn sums(addresses: &[u8], protocol: u8, segment: &[u8]) -> bool {
        let len = u16::try_from(segment.len()).unwrap().to_be_bytes();
        let all = [addresses, &[0, protocol], &len, segment].concat();
        internet_checksum(&all) == 0xffff
    }

    #[test]
    fn each_segment_is_a_packet_of_its_own_with_its_part_of_the_payload() {
        let kinds = [
            (Transport::Tcp4, true),
            (Transport::Tcp6, false),
            (Transport::Udp, true),
            (Transport::Udp, false),
        ];
        for ((transport, four), tagged) in kinds
            .into_iter()
            .flat_map(|kind| [(kind, false), (kind, true)])
        {
            let (head, checksum) = headers(transport, four, tagged);
            let payload: Vec<u8> = (0..2500_u32).map(|number| (number % 251) as u8).collect();
            let whole = packet(&[&head[..], &payload].concat(), checksum, transport, 1000);
            assert!(whole.segments_are_sound());
            let parts = whole.segmented().unwrap();
            assert_eq!(parts.len(), 3);
            let mut seen = Vec::new();
            for (index, part) in parts.iter().enumerate() {
                assert_eq!(part.offload(), Offload::default());
                let mut bytes = vec![0; part.bytes()];
                part.copy_to(&mut bytes);
                let (ip, start) = (if tagged { 18 } else { 14 }, usize::from(checksum.start));
                let segment = &bytes[start..];
                if four {
                    assert_eq!(usize::from(word(&bytes, ip + 2).unwrap()), bytes.len() - ip);
                    assert_eq!(usize::from(word(&bytes, ip + 4).unwrap()), 250 + index);
                    assert_eq!(internet_checksum(&bytes[ip..ip + 20]), 0xffff);
                    assert!(sums(&bytes[ip + 12..ip + 20], bytes[ip + 9], segment));
                } else {
                    let told = usize::from(word(&bytes, ip + 4).unwrap());
                    assert_eq!(told, bytes.len() - ip - IPV6_HEADER);
                    assert!(sums(&bytes[ip + 8..ip + 40], bytes[ip + 40], segment));
                }
                if transport == Transport::Udp {
                    assert_eq!(usize::from(word(segment, 4).unwrap()), segment.len());
                } else {
                    let flags = [0x90, 0x10, 0x19][index];
                    assert_eq!(segment[13], flags, "CWR first, PSH and FIN last");
                    let number = 0xffff_fff0_u32.wrapping_add(1000 * u32::try_from(index).unwrap());
                    assert_eq!(segment[4..8], number.to_be_bytes());
                }
                seen.extend_from_slice(&bytes[head.len()..]);
            }
            assert_eq!(seen, payload);
        }
    }

    #[test]
    fn what_is_not_as_its_sender_says_can_not_be_cut() {
        let (head, checksum) = headers(Transport::Tcp4, true, false);
        let bytes = [&head[..], &[7; 3000]].concat();
        let sound = |bytes: &[u8], checksum, transport, size| {
            packet(bytes, checksum, transport, size).segments_are_sound()
        };
        assert!(sound(&bytes, checksum, Transport::Tcp4, 100));
        assert!(!sound(&bytes, checksum, Transport::Tcp6, 100));
        assert!(!sound(&bytes, checksum, Transport::Udp, 100));
        assert!(!sound(&bytes, checksum, Transport::Tcp4, 0));
        assert!(!sound(&bytes, checksum, Transport::Tcp4, 2), "a flood");
        assert!(!sound(&bytes, checksum, Transport::Tcp4, u16::MAX));
        let elsewhere = Checksum {
            start: 30,
            ..checksum
        };
        assert!(!sound(&bytes, elsewhere, Transport::Tcp4, 100));
        for len in 14..head.len() {
            assert!(
                !sound(&bytes[..len], checksum, Transport::Tcp4, 100),
                "{len}"
            );
        }
        for (at, value) in [
            (12, 9),
            (14, 0x65),
            (14, 0x44),
            (23, 17),
            (46, 0x40),
            (46, 0xf0),
        ] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            let right = at == 46 && value == 0xf0;
            assert_eq!(sound(&wrong, checksum, Transport::Tcp4, 100), right, "{at}");
        }
        let none = Packet::new(vec![Piece::Bytes(bytes)], Offload::default()).unwrap();
        assert!(none.segments_are_sound() && none.segmented().is_none());
    }

    #[test]
    fn headers_alone_are_one_segment() {
        let (head, checksum) = headers(Transport::Tcp4, true, false);
        let parts = packet(&head, checksum, Transport::Tcp4, 100).segmented();
        assert_eq!(parts.map(|parts| parts.len()), Some(1));
    }
}
