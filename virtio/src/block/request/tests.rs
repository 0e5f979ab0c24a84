use super::*;
use crate::queue::Buffer;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

const MEMORY: u64 = 64 << 20;

fn memory() -> GuestMemoryMmap {
    let bytes = usize::try_from(MEMORY).unwrap();
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), bytes)]).unwrap()
}

fn header(memory: &GuestMemoryMmap, kind: u32, sector: u64) {
    let header = Header {
        kind: kind.into(),
        reserved: 0.into(),
        sector: sector.into(),
    };
    memory
        .write_slice(header.as_bytes(), GuestAddress(0))
        .unwrap();
}

fn buffers(list: &[(u64, u32)]) -> Buffers {
    list.iter()
        .map(|&(address, len)| Buffer { address, len })
        .collect()
}

fn parse(
    memory: &GuestMemoryMmap,
    readable: &[(u64, u32)],
    writable: &[(u64, u32)],
    disk_bytes: u64,
) -> Result<Request, DeviceError> {
    let chain = Chain {
        head: 3,
        readable: buffers(readable),
        writable: buffers(writable),
    };
    Request::parse(chain, memory, disk_bytes)
}

#[test]
fn header_data_and_status_may_share_descriptors() {
    let memory = memory();
    header(&memory, VIRTIO_BLK_T_OUT, 2);
    let request = parse(&memory, &[(0, 5), (5, 11 + 512)], &[(0x2000, 1)], 4096).unwrap();
    let data = buffers(&[(16, 512)]);
    assert_eq!(
        request.operation,
        Operation::Write {
            offset: 1024,
            buffers: data
        }
    );
    assert_eq!((request.status, request.failed_length()), (0x2000, 1));

    header(&memory, VIRTIO_BLK_T_IN, 7);
    let request = parse(&memory, &[(0, 16)], &[(0x2000, 100), (0x3000, 413)], 4096).unwrap();
    let data = buffers(&[(0x2000, 100), (0x3000, 412)]);
    assert_eq!(
        request.operation,
        Operation::Read {
            offset: 3584,
            buffers: data
        }
    );
    assert_eq!((request.status, request.failed_length()), (0x3000 + 412, 0));
}

#[test]
fn a_request_has_a_largest_size() {
    let memory = memory();
    header(&memory, VIRTIO_BLK_T_IN, 0);
    let most = u32::try_from(MAX_DATA_BYTES).unwrap();
    let fits = parse(&memory, &[(0, 16)], &[(4096, most + 1)], 1 << 40).unwrap();
    assert!(matches!(fits.operation, Operation::Read { .. }));
    let over = parse(&memory, &[(0, 16)], &[(4096, most + 513)], 1 << 40).unwrap();
    assert_eq!(over.operation, Operation::Refuse(Refusal::TooLarge));
}

#[test]
fn data_the_wrong_way_round_is_refused() {
    let memory = memory();
    header(&memory, VIRTIO_BLK_T_IN, 0);
    let odd = parse(&memory, &[(0, 16 + 512)], &[(4096, 513)], 4096).unwrap();
    assert_eq!(odd.operation, Operation::Refuse(Refusal::BadSize));
    header(&memory, VIRTIO_BLK_T_OUT, 0);
    let odd = parse(&memory, &[(0, 16 + 512)], &[(4096, 2)], 4096).unwrap();
    assert_eq!(odd.operation, Operation::Refuse(Refusal::BadSize));
}

/// Lengths around everything that matters.
fn lens() -> impl Strategy<Value = Vec<(u64, u32)>> {
    let len = prop_oneof![0..20_u32, 500..520_u32, Just(4096_u32), 0..20_000_u32];
    prop::collection::vec((0..MEMORY - 20_000, len), 0..6)
}

proptest! {
    /// Whatever the guest writes: what is parsed lies on the disk, keeps every byte of the chain
    /// in its place, and has its status byte last.
    #[test]
    fn what_is_parsed_is_in_bounds(
        kind in prop_oneof![0..16_u32, any::<u32>()],
        sector in prop_oneof![0..40_u64, any::<u64>()],
        range in prop_oneof![
            (0..40_u64, 0..40_u32, 0..3_u32),
            (any::<u64>(), any::<u32>(), any::<u32>()),
        ],
        readable in lens(),
        writable in lens(),
        blocks in 1..6_u64,
    ) {
        let memory = memory();
        let disk = blocks * 4096;
        header(&memory, kind, sector);
        let body = Range { sector: range.0.into(), sectors: range.1.into(), flags: range.2.into() };
        memory.write_slice(body.as_bytes(), GuestAddress(16)).unwrap();
        let ranged = kind == VIRTIO_BLK_T_DISCARD || kind == VIRTIO_BLK_T_WRITE_ZEROES;
        let readable = if ranged { vec![(0, 32)] } else { [vec![(0, 16)], readable].concat() };
        let input = buffers(&writable);
        let Ok(request) = parse(&memory, &readable, &writable, disk) else {
            prop_assert_eq!(input.bytes(), 0);
            return Ok(());
        };
        let last = input.iter().last().unwrap();
        prop_assert_eq!(request.status, last.address + u64::from(last.len) - 1);
        match request.operation {
            Operation::Read { offset, buffers } => {
                prop_assert_eq!((kind, offset), (VIRTIO_BLK_T_IN, sector * 512));
                prop_assert_eq!(buffers.bytes(), input.bytes() - 1);
                prop_assert!(buffers.bytes() % 512 == 0 && offset + buffers.bytes() <= disk);
            }
            Operation::Write { offset, buffers } => {
                prop_assert_eq!((kind, offset), (VIRTIO_BLK_T_OUT, sector * 512));
                prop_assert_eq!(buffers.bytes() % 512, 0);
                prop_assert!(offset + buffers.bytes() <= disk);
            }
            Operation::WriteZeroes { offset, bytes } | Operation::Discard { offset, bytes } => {
                prop_assert!(ranged && bytes > 0 && offset == range.0 * 512);
                prop_assert!(bytes == u64::from(range.1) * 512 && offset + bytes <= disk);
            }
            Operation::Flush | Operation::Identify { .. } | Operation::Refuse(_) => {}
        }
    }
}
