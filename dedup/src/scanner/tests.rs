//! A pass under limits that its pace sets.

use super::pace::{Pace, Work};
use super::{Scanner, ScannerConfig, ScannerStats};
use mirrorball_pmap::{GroupId, Pmap, PmapConfig, VmId};
use vm_memory::{Bytes, GuestAddress};

/// Lets so many pages of a VM be protected in a pass.
struct Portions(u64);

impl Pace for Portions {
    fn slice(&self) -> u32 {
        16
    }
    fn protectable(&self) -> Option<u64> {
        Some(self.0)
    }
    fn go_on(&mut self, work: Work, _stats: &ScannerStats) -> bool {
        assert!(work.protected <= self.0, "{work:?}");
        true
    }
}

#[test]
fn pages_that_had_to_wait_are_shared_in_later_passes() {
    const PAGES: u64 = 100;
    let pmap = Pmap::new(&PmapConfig::default()).unwrap();
    if !pmap.tracking() {
        eprintln!("not run: writes can't be tracked here");
        return;
    }
    for vm in 0..2 {
        let space = pmap.create_space(VmId(vm), GroupId(0), PAGES * 4096);
        let access = space.as_ref().unwrap().access();
        for page in 0..PAGES {
            let content = [u8::try_from(page + 1).unwrap(); 4096];
            let memory = access.memory();
            memory
                .write_slice(&content, GuestAddress(page * 4096))
                .unwrap();
        }
    }
    let mut scanner = Scanner::new(pmap.clone(), &ScannerConfig::default());
    scanner.pass_at(&mut Portions(40));
    scanner.pass_at(&mut Portions(40));
    assert_eq!(pmap.totals().mapped, 80, "the first portion has settled");
    assert_eq!(
        (scanner.stats().passes, scanner.stats().whole_passes),
        (2, 0)
    );
    for _ in 0..2 {
        scanner.pass_at(&mut Portions(40));
    }
    assert_eq!(pmap.totals().mapped, 2 * PAGES);
    assert_eq!(
        (scanner.stats().passes, scanner.stats().whole_passes),
        (4, 2)
    );
    assert_eq!(scanner.stats().different, 0);
}
