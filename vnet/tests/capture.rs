//! Captures as somebody else's parser reads them.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use mirrorball_pmap::{GroupId, PAGE_SIZE, Pmap, PmapConfig};
use mirrorball_vnet::*;
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, PcapNGReader};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a parser found of one packet: its time in nanoseconds, its length, the bytes that were kept.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    time: u64,
    length: usize,
    kept: Vec<u8>,
}

/// All blocks, by the parser: the interface's link type, snapshot length and name, and the packets.
fn parse(file: &[u8]) -> ((Linktype, u32, String), Vec<Found>) {
    let mut reader = PcapNGReader::new(1 << 16, file).unwrap();
    let (mut interface, mut packets) = (None, Vec::new());
    loop {
        let size = match reader.next() {
            Ok((size, PcapBlockOwned::NG(block))) => {
                match block {
                    Block::SectionHeader(header) => {
                        assert_eq!((header.major_version, header.minor_version), (1, 0));
                    }
                    Block::InterfaceDescription(about) => {
                        assert_eq!(about.if_tsresol, 9, "nanoseconds");
                        let name = about.options.iter().find(|option| option.code.0 == 2);
                        let name = name.unwrap();
                        let name = name.value[..usize::from(name.len)].to_vec();
                        let name = String::from_utf8(name).unwrap();
                        interface = Some((about.linktype, about.snaplen, name));
                    }
                    Block::EnhancedPacket(packet) => packets.push(Found {
                        time: u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low),
                        length: packet.origlen as usize,
                        kept: packet.data[..packet.caplen as usize].to_vec(),
                    }),
                    other => panic!("{other:?}"),
                }
                size
            }
            Ok(_) => panic!("a block of the older format"),
            Err(PcapError::Eof) => break,
            Err(PcapError::Incomplete(_)) => {
                reader.refill().unwrap();
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        reader.consume(size);
    }
    (interface.unwrap(), packets)
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}

#[test]
fn a_foreign_parser_finds_every_packet_of_a_network_with_its_bytes() {
    let pmap = Pmap::new(&PmapConfig::default()).unwrap();
    let network = Network::new("lan", &NetworkConfig::default());
    let file = Shared::default();
    let capture = Capture::begin(Box::new(file.clone()), "lan", 256).unwrap();
    network.set_capture(Arc::new(capture));
    let ports = [1, 2].map(|number| {
        let config = PortConfig::station(Mac::numbered(number));
        network.attach(config, || {}).unwrap()
    });
    let before = now();
    let mut sent = Vec::new();
    for length in [14, 15, 60, 255, 256, 257, 1514] {
        let mut bytes = [&ports[1].mac().0[..], &ports[0].mac().0].concat();
        bytes.extend((12..length).map(|at| u8::try_from(at % 251).unwrap()));
        let pieces = vec![Piece::Bytes(bytes.clone())];
        ports[0].send(Packet::new(pieces, Offload::default()).unwrap());
        sent.push(bytes);
    }
    // Pages that were not copied are in the capture, too.
    let mut new = pmap.frames().allocate(1, GroupId(0)).unwrap();
    new.bytes_mut().fill(7);
    let mut bytes = [&ports[0].mac().0[..], &ports[1].mac().0].concat();
    let pieces = vec![Piece::Bytes(bytes.clone()), Piece::Frames(new.publish())];
    ports[1].send(Packet::new(pieces, Offload::default()).unwrap());
    bytes.extend([7; PAGE_SIZE]);
    sent.push(bytes);

    let ((kind, most, name), packets) = parse(&file.0.lock().unwrap());
    assert_eq!((kind, most, &*name), (Linktype::ETHERNET, 256, "lan"));
    let found = packets
        .iter()
        .map(|packet| (packet.length, &packet.kept[..]));
    let wanted = sent
        .iter()
        .map(|bytes| (bytes.len(), &bytes[..bytes.len().min(256)]));
    assert_eq!(found.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    let times: Vec<_> = packets.iter().map(|packet| packet.time).collect();
    assert!(times.is_sorted() && times[0] >= before && times[7] <= now());
}
