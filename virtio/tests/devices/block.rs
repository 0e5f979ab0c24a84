//! Every kind of request: data, status byte, used length.

use crate::driver::*;
use mirrorball_virtio::OverlayMode;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

#[test]
fn reads_bring_the_images_bytes_however_they_are_cut() {
    let content = pattern(10 * 4096 + 1000);
    let image = file(&content);
    let machine = Machine::new();
    let (guest, block) = machine.guest(1, &open(image.path()));
    let padded = [content, vec![0; 4096 - 1000]].concat();
    let d = DATA;
    let cuts: [(u64, &[(u64, u32)]); 6] = [
        (0, &[(d, 4096)]),
        (1, &[(d, 512)]),
        (8, &[(d, 8192), (d + 0x8000, 4096)]),
        (3, &[(d + 100, 512 * 9), (d + 0x9000, 512 * 20)]),
        (8, &[(d + 0x200, 5000), (d + 0x5000, 3192)]),
        (80, &[(d + 0xc000, 4096)]),
    ];
    for (sector, data) in cuts {
        let total: u32 = data.iter().map(|(_, len)| len).sum();
        assert_eq!(
            guest.request(IN, sector, data),
            (OK, total + 1),
            "sector {sector}"
        );
        let got: Vec<u8> = data
            .iter()
            .flat_map(|&(at, len)| guest.read(at, len as usize))
            .collect();
        let start = usize::try_from(sector).unwrap() * 512;
        assert!(
            got == padded[start..start + got.len()],
            "sector {sector}, {data:?}"
        );
    }
    let stats = block.stats();
    assert_eq!((stats.reads, stats.errors, stats.latency.len()), (6, 0, 6));
    assert!(
        stats.mapped_pages >= 5 && stats.copied_pages > 0,
        "{stats:?}"
    );
}

#[test]
fn a_page_that_is_read_into_again_at_once_gets_a_copy() {
    let content = pattern(2 * 4096);
    let image = file(&content);
    let machine = Machine::new();
    let (guest, block) = machine.guest(1, &open(image.path()));
    for (sector, block) in [(0, &content[..4096]), (8, &content[4096..])] {
        assert_eq!(guest.request(IN, sector, &[(DATA, 4096)]), (OK, 4097));
        assert!(guest.read(DATA, 4096) == block, "sector {sector}");
    }
    let stats = block.stats();
    assert_eq!((stats.mapped_pages, stats.copied_pages), (1, 1));
}

#[test]
fn writes_are_read_back_and_the_image_keeps_its_bytes() {
    let content = pattern(8 * 4096);
    let image = file(&content);
    let machine = Machine::new();
    let (guest, block) = machine.guest(1, &open(image.path()));
    let mut expected = content.clone();
    for (sector, len) in [(8, 4096), (17, 512), (30, 512 * 12)] {
        let data: Vec<u8> = (0..len)
            .map(|i| u8::try_from(i % 7).unwrap() + 100)
            .collect();
        guest.write(DATA + 77, &data);
        let len32 = u32::try_from(len).unwrap();
        assert_eq!(guest.request(OUT, sector, &[(DATA + 77, len32)]), (OK, 1));
        let start = usize::try_from(sector).unwrap() * 512;
        expected[start..start + len].copy_from_slice(&data);
    }
    assert_eq!(guest.request(FLUSH, 0, &[]), (OK, 1));
    assert_eq!(guest.request(IN, 0, &[(DATA, 8 * 4096)]).0, OK);
    assert!(guest.read(DATA, 8 * 4096) == expected);
    assert_eq!(std::fs::read(image.path()).unwrap(), content);
    assert_eq!((block.stats().writes, block.stats().flushes), (3, 1));
}

#[test]
fn scratch_space_reads_zeros_until_it_is_written() {
    let image = file(&pattern(4096 + 10));
    let machine = Machine::new();
    let disk = machine.disk(&open(image.path()), OverlayMode::Nonpersistent, 3 * PAGE);
    let (guest, _) = machine.guest_of(1, disk);
    assert_eq!(guest.get(0x100), 5 * 8, "capacity in sectors");
    guest.write(DATA, &[9; 3 * 4096]);
    assert_eq!(guest.request(IN, 16, &[(DATA, 3 * 4096)]).0, OK);
    assert!(guest.read(DATA, 3 * 4096).iter().all(|&byte| byte == 0));
    guest.write(DATA, &[5; 512]);
    assert_eq!(guest.request(OUT, 39, &[(DATA, 512)]), (OK, 1));
    assert_eq!(guest.request(IN, 32, &[(DATA, 4096)]).0, OK);
    let block = guest.read(DATA, 4096);
    assert!(block[..3584].iter().all(|&byte| byte == 0));
    assert!(block[3584..].iter().all(|&byte| byte == 5));
}

#[test]
fn zeroes_and_discards_change_the_overlay_only() {
    let content = pattern(6 * 4096);
    let image = file(&content);
    let machine = Machine::new();
    let (guest, _) = machine.guest(1, &open(image.path()));
    let range = |sector: u64, sectors: u32, flags: u32| {
        let mut raw = Vec::from(sector.to_le_bytes());
        raw.extend(sectors.to_le_bytes());
        raw.extend(flags.to_le_bytes());
        raw
    };
    let mut expected = content.clone();
    guest.write(DATA, &range(3, 18, 1));
    assert_eq!(guest.request(WRITE_ZEROES, 0, &[(DATA, 16)]), (OK, 1));
    expected[3 * 512..21 * 512].fill(0);
    // Only block 4 is covered whole.
    guest.write(DATA, &range(30, 13, 0));
    assert_eq!(guest.request(DISCARD, 0, &[(DATA, 16)]), (OK, 1));
    expected[4 * 4096..5 * 4096].fill(0);
    for (bad, status) in [
        (range(0, 8, 2), UNSUPP),
        (range(40, 9, 0), IOERR),
        (range(u64::MAX, 1, 0), IOERR),
        (range(0, u32::MAX, 0), IOERR),
        (range(0, 0, 0), IOERR),
    ] {
        guest.write(DATA, &bad);
        assert_eq!(
            guest.request(WRITE_ZEROES, 0, &[(DATA, 16)]),
            (status, 1),
            "{bad:?}"
        );
    }
    guest.write(DATA, &range(0, 8, 1));
    assert_eq!(guest.request(DISCARD, 0, &[(DATA, 16)]), (UNSUPP, 1));
    assert_eq!(guest.request(WRITE_ZEROES, 0, &[(DATA, 32)]), (IOERR, 1));
    assert_eq!(guest.request(IN, 0, &[(DATA, 6 * 4096)]).0, OK);
    assert!(guest.read(DATA, 6 * 4096) == expected);
    assert_eq!(std::fs::read(image.path()).unwrap(), content);
}

#[test]
fn the_serial_number_is_cut_to_the_room_there_is() {
    let image = file(&pattern(4096));
    let machine = Machine::new();
    let (guest, _) = machine.guest(1, &open(image.path()));
    assert_eq!(guest.request(GET_ID, 0, &[(DATA, 20)]), (OK, 21));
    assert_eq!(&guest.read(DATA, 20), b"serial\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    guest.write(DATA, &[7; 8]);
    assert_eq!(guest.request(GET_ID, 0, &[(DATA, 3)]), (OK, 4));
    assert_eq!(guest.read(DATA, 5), [b's', b'e', b'r', 7, 7]);
}

/// Kind, sector, data; status and used length.
type Refused<'a> = (u32, u64, &'a [(u64, u32)], (u8, u32));

#[test]
fn impossible_requests_get_an_error_status_and_the_device_goes_on() {
    let image = file(&pattern(4 * 4096));
    let machine = Machine::new();
    let (guest, block) = machine.guest(1, &open(image.path()));
    let whole = u32::try_from(MEMORY - DATA).unwrap();
    let many: Vec<_> = (0..9)
        .map(|_| (0, u32::try_from(MEMORY).unwrap()))
        .collect();
    let refused: [Refused<'_>; 9] = [
        (IN, 32, &[(DATA, 512)], (IOERR, 0)),
        (IN, 31, &[(DATA, 1024)], (IOERR, 0)),
        (IN, u64::MAX, &[(DATA, 512)], (IOERR, 0)),
        (IN, u64::MAX / 512, &[(DATA, 512)], (IOERR, 0)),
        (IN, 0, &[(DATA, 513)], (IOERR, 0)),
        (IN, 0, &[], (IOERR, 1)),
        (OUT, 0, &[(DATA, whole)], (IOERR, 1)),
        (OUT, 0, &many, (IOERR, 1)),
        (99, 0, &[(DATA, 512)], (UNSUPP, 1)),
    ];
    for (kind, sector, data, expected) in refused {
        assert_eq!(
            guest.request(kind, sector, data),
            expected,
            "{kind} {sector} {data:?}"
        );
    }
    assert_eq!(block.stats().errors, 9);
    assert_eq!(
        block.stats().last_error.as_deref(),
        Some("unsupported request")
    );
    assert_eq!(guest.request(IN, 0, &[(DATA, 512)]), (OK, 513));
}

#[test]
fn an_indirect_chain_is_one_descriptor_of_the_ring() {
    let content = pattern(2 * 4096);
    let image = file(&content);
    let machine = Machine::new();
    let (guest, _) = machine.guest(1, &open(image.path()));
    guest.write(HEADERS, &[0; 16]);
    let table = DATA + 0x8000;
    let chain = [
        Desc(HEADERS, 7, NEXT, 3),
        Desc(STATUSES, 1, WRITE, 0),
        Desc(DATA, 4096, NEXT | WRITE, 1),
        Desc(HEADERS + 7, 9, NEXT, 2),
    ];
    for (index, descriptor) in (0..).zip(chain) {
        guest.write(table + 16 * index, &descriptor.bytes());
    }
    guest.describe(5, &[Desc(table, 64, INDIRECT, 0)]);
    guest.offer(5);
    guest.kick().unwrap();
    assert_eq!(guest.used(), [(5, 4097)]);
    assert!(guest.read(DATA, 4096) == content[..4096]);
}

#[test]
fn what_a_driver_builds_requests_by_is_in_the_configuration() {
    let image = file(&pattern(3 * 4096));
    let machine = Machine::new();
    let (guest, _) = machine.guest(1, &open(image.path()));
    let field = |offset: u64, bytes: usize| {
        let mut data = [0; 8];
        guest.transport.read(0x100 + offset, &mut data[..bytes]);
        u64::from_le_bytes(data)
    };
    guest.set(0x14, 0);
    let features = guest.get(0x10);
    for bit in [1, 2, 6, 9, 10, 13, 14] {
        assert_ne!(features & 1 << bit, 0, "feature {bit}");
    }
    assert_eq!(field(0, 8), 24, "capacity in sectors");
    let (size_max, seg_max) = (field(8, 4), field(12, 4));
    assert!(seg_max + 2 <= 256 && size_max >= 4096);
    assert!(
        size_max * seg_max <= 16 << 20,
        "the largest request is served"
    );
    assert_eq!(field(20, 4), 512, "logical block");
    assert_eq!(
        field(24, 1),
        3,
        "logical blocks in a physical one, exponent"
    );
    assert_eq!((field(25, 1), field(26, 2)), (0, 8));
    assert_eq!((field(36, 4), field(40, 4), field(44, 4)), (1 << 21, 1, 8));
    assert_eq!((field(48, 4), field(52, 4), field(56, 1)), (1 << 21, 1, 1));
    // Nothing there is the driver's to write.
    guest.transport.write(0x100, &[0xff; 8]);
    assert_eq!(field(0, 8), 24);
}
