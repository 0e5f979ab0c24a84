//! A disk against a plain vector of bytes: any mix of reads, writes, zeroes, flushes and reopens.

use crate::driver::*;
use mirrorball_pmap::{AddressSpace, GroupId, VmId};
use mirrorball_virtio::queue::{Buffer, Buffers};
use mirrorball_virtio::{Disk, OverlayMode};
use proptest::prelude::*;

const IMAGE_BYTES: usize = 11 * 4096 + 777;
const SCRATCH: u64 = 3 * PAGE;
const SECTORS: u64 = 15 * 8;

#[derive(Clone, Copy, Debug)]
enum Op {
    Read {
        sector: u64,
        sectors: u64,
        at: u64,
        sharing: bool,
    },
    Write {
        sector: u64,
        sectors: u64,
        at: u64,
        fill: u8,
    },
    Zero {
        sector: u64,
        sectors: u64,
    },
    Discard {
        sector: u64,
        sectors: u64,
    },
    Flush,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let range = prop_oneof![
        (0..SECTORS, 1..40_u64),
        (0..SECTORS / 8, 1..5_u64).prop_map(|(block, blocks)| (block * 8, blocks * 8)),
    ]
    .prop_map(|(sector, sectors)| (sector, sectors.min(SECTORS - sector)));
    let at = prop_oneof![Just(0_u64), Just(PAGE), 0..2 * PAGE];
    prop_oneof![
        3 => (range.clone(), at.clone(), any::<bool>()).prop_map(|((sector, sectors), at, sharing)| {
            Op::Read { sector, sectors, at, sharing }
        }),
        3 => (range.clone(), at, any::<u8>()).prop_map(|((sector, sectors), at, fill)| {
            Op::Write { sector, sectors, at, fill }
        }),
        1 => range.clone().prop_map(|(sector, sectors)| Op::Zero { sector, sectors }),
        1 => range.prop_map(|(sector, sectors)| Op::Discard { sector, sectors }),
        1 => Just(Op::Flush),
        1 => Just(Op::Reopen),
    ]
}

fn span(sector: u64, sectors: u64) -> std::ops::Range<usize> {
    let start = usize::try_from(sector * 512).unwrap();
    start..start + usize::try_from(sectors * 512).unwrap()
}

/// Two buffers with a gap between them, cut at an odd place.
fn scattered(at: u64, bytes: u64) -> Buffers {
    let first = (bytes / 2).next_multiple_of(PAGE).min(bytes);
    let buffer = |address, bytes: u64| Buffer {
        address,
        len: u32::try_from(bytes).unwrap(),
    };
    [
        buffer(DATA + at, first),
        buffer(DATA + at + first + 3 * PAGE, bytes - first),
    ]
    .into_iter()
    .collect()
}

fn get(space: &AddressSpace, buffers: &Buffers) -> Vec<u8> {
    let mut data = vec![0; usize::try_from(buffers.bytes()).unwrap()];
    buffers.read(space.access().memory(), &mut data).unwrap();
    data
}

/// Applies one operation to the disk and to the model, and compares what can be compared.
fn apply(disk: &Disk, space: &AddressSpace, model: &mut [u8], op: Op) -> Result<(), TestCaseError> {
    let access = space.access();
    match op {
        Op::Read {
            sector,
            sectors,
            at,
            sharing,
        } => {
            let buffers = scattered(at, sectors * 512);
            disk.read(sector * 512, &buffers, &access, sharing).unwrap();
            drop(access);
            prop_assert!(
                get(space, &buffers) == model[span(sector, sectors)],
                "{op:?}"
            );
        }
        Op::Write {
            sector,
            sectors,
            at,
            fill,
        } => {
            let buffers = scattered(at, sectors * 512);
            let data: Vec<u8> = (0..sectors * 512)
                .map(|i| fill.wrapping_add((i % 199) as u8))
                .collect();
            buffers.write(access.memory(), &data).unwrap();
            disk.write(sector * 512, &buffers, &access).unwrap();
            model[span(sector, sectors)].copy_from_slice(&data);
        }
        Op::Zero { sector, sectors } => {
            disk.write_zeroes(sector * 512, sectors * 512).unwrap();
            model[span(sector, sectors)].fill(0);
        }
        Op::Discard { sector, sectors } => {
            disk.discard(sector * 512, sectors * 512).unwrap();
            let (first, end) = (sector.next_multiple_of(8), (sector + sectors) / 8 * 8);
            if first < end {
                model[span(first, end - first)].fill(0);
            }
        }
        Op::Flush => disk.flush().unwrap(),
        Op::Reopen => {}
    }
    Ok(())
}

fn run(machine: &Machine, ops: &[Op], persistent: bool) -> Result<(), TestCaseError> {
    let content = pattern(IMAGE_BYTES);
    let file = file(&content);
    let image = open(file.path());
    let directory = tempfile::tempdir().unwrap();
    let mode = if persistent {
        OverlayMode::Persistent(directory.path().join("overlay"))
    } else {
        OverlayMode::Nonpersistent
    };
    let vm = VmId(1);
    let space = machine.pmap.create_space(vm, GroupId(0), MEMORY).unwrap();
    let mut model = content.clone();
    model.resize(span(0, SECTORS).end, 0);
    let mut disk = Some(machine.disk(&image, mode.clone(), SCRATCH));
    for &op in ops {
        if matches!(op, Op::Reopen) && persistent {
            disk = None;
        }
        let disk = disk.get_or_insert_with(|| machine.disk(&image, mode.clone(), SCRATCH));
        apply(disk, &space, &mut model, op)?;
    }
    let whole = Op::Read {
        sector: 0,
        sectors: SECTORS,
        at: 0,
        sharing: true,
    };
    let disk = disk.get_or_insert_with(|| machine.disk(&image, mode.clone(), SCRATCH));
    apply(disk, &space, &mut model, whole)?;
    prop_assert!(std::fs::read(file.path()).unwrap() == content);
    machine.pmap.remove_space(vm);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_temporary_disk_behaves_like_a_vector(ops in prop::collection::vec(op(), 1..40)) {
        run(&Machine::new(), &ops, false)?;
    }

    #[test]
    fn a_persistent_disk_behaves_like_a_vector(ops in prop::collection::vec(op(), 1..40)) {
        run(&Machine::new(), &ops, true)?;
    }
}

/// What a crash leaves: the file as it is while the disk is still open.
#[test]
fn flushed_writes_survive_a_crash_and_unflushed_new_blocks_do_not_show() {
    let content = pattern(8 * 4096);
    let file = file(&content);
    let image = open(file.path());
    let machine = Machine::new();
    let directory = tempfile::tempdir().unwrap();
    let (live, crashed) = (
        directory.path().join("live"),
        directory.path().join("crashed"),
    );
    let disk = machine.disk(&image, OverlayMode::Persistent(live.clone()), 0);
    let (guest, _) = machine.guest_of(1, disk);
    let mut expected = content;
    guest.write(DATA, &[1; 1024]);
    assert_eq!(guest.request(OUT, 15, &[(DATA, 1024)]).0, 0);
    expected[15 * 512..17 * 512].fill(1);
    assert_eq!(guest.request(FLUSH, 0, &[]).0, 0);
    guest.write(DATA, &[2; 4096]);
    assert_eq!(guest.request(OUT, 40, &[(DATA, 4096)]).0, 0);
    std::fs::copy(&live, &crashed).unwrap();
    let disk = machine.disk(&image, OverlayMode::Persistent(crashed), 0);
    let (after, _) = machine.guest_of(2, disk);
    assert_eq!(after.request(IN, 0, &[(DATA, 8 * 4096)]).0, 0);
    assert!(after.read(DATA, 8 * 4096) == expected);
}

/// A block that was dropped from the bitmap in a crash must not show its old bytes when a part of
/// it is written later.
#[test]
fn a_partial_write_never_uncovers_what_a_crash_left_in_the_file() {
    let file = file(&pattern(4096));
    let image = open(file.path());
    let machine = Machine::new();
    let directory = tempfile::tempdir().unwrap();
    let (live, crashed) = (
        directory.path().join("live"),
        directory.path().join("crashed"),
    );
    let disk = machine.disk(&image, OverlayMode::Persistent(live.clone()), PAGE);
    let (guest, _) = machine.guest_of(1, disk);
    guest.write(DATA, &[0xaa; 4096]);
    assert_eq!(guest.request(OUT, 8, &[(DATA, 4096)]).0, 0);
    std::fs::copy(&live, &crashed).unwrap();
    let disk = machine.disk(&image, OverlayMode::Persistent(crashed), PAGE);
    let (after, _) = machine.guest_of(2, disk);
    after.write(DATA, &[5; 512]);
    assert_eq!(after.request(OUT, 9, &[(DATA, 512)]).0, 0);
    assert_eq!(after.request(IN, 8, &[(DATA, 4096)]).0, 0);
    let block = after.read(DATA, 4096);
    assert!(block[512..1024].iter().all(|&byte| byte == 5));
    assert!(
        block[..512]
            .iter()
            .chain(&block[1024..])
            .all(|&byte| byte == 0)
    );
}
