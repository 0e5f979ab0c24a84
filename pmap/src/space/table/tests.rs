use super::*;

#[test]
fn mappings_are_counted_as_the_kernel_merges_them() {
    let mut table = Table::new(100);
    let mut released = Vec::new();
    assert_eq!(table.totals().vmas, 1);
    table.set_mapped(
        PpnRun::new(Ppn(10), 4),
        Mpn(50),
        Mechanism::Disk,
        &mut released,
    );
    assert_eq!(table.totals().vmas, 3);
    table.set_mapped(
        PpnRun::new(Ppn(14), 4),
        Mpn(54),
        Mechanism::Disk,
        &mut released,
    );
    assert_eq!(table.totals().vmas, 3, "consecutive frames merge");
    assert_eq!(table.overlay_around(Ppn(12)), PpnRun::new(Ppn(10), 8));
    table.set_mapped(
        PpnRun::new(Ppn(12), 1),
        Mpn(7),
        Mechanism::Content,
        &mut released,
    );
    assert_eq!(table.totals().vmas, 5);
    assert_eq!(released.len(), 1);
    assert_eq!(table.change_by_covering(PpnRun::new(Ppn(14), 2)), 2);
    assert_eq!(table.change_by_covering(PpnRun::new(Ppn(12), 1)), 0);
    assert_eq!(table.change_by_covering(PpnRun::new(Ppn(10), 8)), -4);
    table.set_empty(PpnRun::new(Ppn(10), 8), Empty::Zero, true, &mut released);
    assert_eq!(table.totals().vmas, 1);
    assert_eq!(released.len(), 9);
}

#[test]
fn the_balloon_counts_each_page_once_and_zeros_do_not_leave_it() {
    let mut table = Table::new(16);
    let mut released = Vec::new();
    let (all, some) = (PpnRun::new(Ppn(0), 16), PpnRun::new(Ppn(4), 4));
    table.set_private(some, &mut released);
    for _ in 0..2 {
        table.set_empty(some, Empty::Ballooned, false, &mut released);
    }
    assert_eq!((table.totals().ballooned, table.totals().private), (4, 0));
    table.set_empty(all, Empty::Zero, false, &mut released);
    assert_eq!((table.totals().ballooned, table.totals().zero), (4, 12));
    table.set_private(PpnRun::new(Ppn(4), 1), &mut released);
    assert_eq!(table.leave_balloon(all), 3);
    assert_eq!(table.leave_balloon(all), 0);
    let totals = table.totals();
    assert_eq!((totals.ballooned, totals.private, totals.zero), (0, 1, 12));
    assert_eq!(totals.touched, 13);
}

#[test]
fn overlays_at_the_edges_of_memory_are_found_whole() {
    let mut table = Table::new(8);
    table.set_mapped(
        PpnRun::new(Ppn(0), 8),
        Mpn(0),
        Mechanism::Disk,
        &mut Vec::new(),
    );
    for page in 0..8 {
        assert_eq!(table.overlay_around(Ppn(page)), PpnRun::new(Ppn(0), 8));
    }
}

#[test]
fn pages_take_turns_when_not_all_may_be_taken() {
    let mut table = Table::new(100);
    let run = |start, pages| PpnRun::new(Ppn(start), pages);
    let written = [run(10, 4), run(20, 2), run(90, 3)];
    assert_eq!(table.take_turns(&written, 5), [run(10, 4), run(20, 1)]);
    assert_eq!(table.take_turns(&written, 3), [run(21, 1), run(90, 2)]);
    assert_eq!(
        table.take_turns(&written, 4),
        [run(10, 3), run(92, 1)],
        "and round again"
    );
    assert_eq!(table.take_turns(&written, 0), []);
    let mut all = table.take_turns(&written, 100);
    all.dedup_by(|run, before| {
        let joined = run.start == before.end();
        before.pages += if joined { run.pages } else { 0 };
        joined
    });
    assert_eq!(all, written);
}
