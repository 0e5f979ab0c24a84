//! Scanner and oracle against brute force over generated histories.
#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod guest;

use guest::{Machine, config, page};
use mirrorball_dedup::{Order, Scanner, ScannerConfig, oracle};
use mirrorball_pmap::GroupId;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const PAGES: u32 = 24;

/// What happens between two passes.
#[derive(Clone, Debug)]
enum Event {
    /// A VM writes `contents` to its pages from `at` on; content 0 is zeros.
    Write {
        vm: u32,
        at: u32,
        contents: Vec<u8>,
    },
    /// A VM goes, and one without memory of it comes in its place.
    Replace {
        vm: u32,
    },
    Pass,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let write = (
        0..3_u32,
        0..PAGES,
        prop_oneof![
            proptest::collection::vec(0..5_u8, 1..8),
            // The same run in several VMs.
            (10..14_u8, 1..10_u8).prop_map(|(start, n)| (start..start + n).collect()),
        ],
    );
    let event = prop_oneof![
        6 => write.prop_map(|(vm, at, contents)| Event::Write { vm, at, contents }),
        1 => (0..3_u32).prop_map(|vm| Event::Replace { vm }),
        3 => Just(Event::Pass),
    ];
    proptest::collection::vec(event, 1..40)
}

fn configs() -> impl Strategy<Value = ScannerConfig> {
    let order = prop_oneof![
        Just(Order::DirtyAware),
        Just(Order::Sequential),
        Just(Order::EsxRandom)
    ];
    (order, 0..3_u32, 1..3_usize, any::<u64>()).prop_map(|(order, settle, threads, seed)| {
        ScannerConfig {
            order,
            settle,
            threads,
            seed,
            ..config()
        }
    })
}

/// Zero pages and surplus duplicates, by going through all of them.
fn brute_force(contents: &BTreeMap<(u32, u32), u8>, group: impl Fn(u32) -> u32) -> (u64, u64, u64) {
    let data: Vec<_> = contents
        .iter()
        .filter(|(_, content)| **content != 0)
        .collect();
    let distinct: BTreeSet<_> = data
        .iter()
        .map(|((vm, _), content)| (group(*vm), **content))
        .collect();
    let zero = contents.len() - data.len();
    (
        zero as u64,
        distinct.len() as u64,
        (data.len() - distinct.len()) as u64,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn scanner_and_oracle_equal_brute_force(events in events(), config in configs(), groups in 1..3_u32) {
        let machine = Machine::new(&[]);
        let mut ids = [0, 1, 2];
        for id in ids {
            machine.add(id, GroupId(id % groups), u64::from(PAGES));
        }
        let mut contents = BTreeMap::new();
        let mut scanner = Scanner::new(machine.pmap.clone(), &config);
        for event in events {
            match event {
                Event::Write { vm, at, contents: new } => {
                    let id = ids[vm as usize];
                    let end = PAGES.min(at + u32::try_from(new.len()).unwrap());
                    let content = |n: u32| new[(n - at) as usize];
                    machine.fill(id, at..end, |n| if content(n) == 0 { [0; 4096] } else { page(content(n).into()) });
                    contents.extend((at..end).map(|n| ((id, n), content(n))));
                }
                Event::Replace { vm } => {
                    let id = &mut ids[vm as usize];
                    machine.remove(*id);
                    contents.retain(|(owner, _), _| owner != id);
                    *id += 3;
                    machine.add(*id, GroupId(*id % 3 % groups), u64::from(PAGES));
                }
                Event::Pass => {
                    let report = scanner.pass();
                    prop_assert!(report.complete);
                    machine.verify();
                }
            }
            let (zero, distinct, duplicate) = brute_force(&contents, |id| id % 3 % groups);
            let report = oracle::count(&machine.pmap);
            prop_assert_eq!((report.zero, report.distinct, report.duplicate), (zero, distinct, duplicate));
            prop_assert_eq!(report.pages, contents.len() as u64);
        }
        // Quiet: the wait for settling, and the pass after it.
        let passes = if config.order == Order::EsxRandom { 24 } else { config.settle + 1 };
        for _ in 0..passes.max(2) {
            scanner.pass();
        }
        machine.verify();
        let (zero, distinct, duplicate) = brute_force(&contents, |id| id % 3 % groups);
        let totals = machine.pmap.totals();
        if config.order == Order::EsxRandom {
            prop_assert!(totals.reclaimed * 100 >= (zero + duplicate) * 99);
        } else {
            prop_assert_eq!(totals.zero, zero);
            prop_assert_eq!(totals.reclaimed, zero + duplicate);
            prop_assert_eq!(totals.frames + totals.private, distinct);
        }
    }
}
