//! Random bytes where there is room for them, and nowhere else.

use crate::driver::*;
use mirrorball_virtio::Rng;
use std::collections::HashSet;
use std::sync::Arc;

fn guest() -> Guest {
    let guest = Guest::new(&Machine::new().pmap, 1, Arc::new(Rng::new()));
    guest.start(MODERN, 16);
    guest
}

#[test]
fn chains_are_filled_with_bytes_that_differ() {
    let guest = guest();
    assert_eq!((guest.get(8), guest.get(0x100)), (4, 0));
    guest.describe(
        0,
        &[
            Desc(DATA, 60, WRITE | NEXT, 1),
            Desc(DATA + 100, 4, WRITE, 0),
        ],
    );
    let mut seen = HashSet::new();
    for round in 1..=16 {
        guest.offer(0);
        guest.kick().unwrap();
        assert_eq!(guest.used().len(), round);
        assert_eq!(guest.used().last(), Some(&(0, 64)));
        seen.insert(guest.read(DATA, 60));
        seen.insert(guest.read(DATA + 100, 4));
    }
    // Four bytes may be alike by chance, once in many runs; not twice.
    assert!(seen.len() >= 31, "{}", seen.len());
    assert_eq!(guest.read(DATA + 60, 40), [0; 40]);
}

#[test]
fn a_request_for_all_of_memory_is_cut() {
    let guest = guest();
    let all = u32::try_from(MEMORY - DATA).unwrap();
    guest.describe(0, &[Desc(DATA, all, WRITE, 0)]);
    guest.offer(0);
    guest.kick().unwrap();
    assert_eq!(guest.used(), [(0, 4096)]);
    assert_eq!(guest.read(DATA + 4096, 4096), [0; 4096]);
}

#[test]
fn a_request_without_room_is_a_fault() {
    let guest = guest();
    guest.describe(0, &[Desc(DATA, 64, 0, 0)]);
    guest.offer(0);
    let fault = guest.kick().unwrap_err().to_string();
    assert!(fault.starts_with("virtio entropy, queue 0: "), "{fault}");
    assert!(fault.contains("no room"), "{fault}");
}
