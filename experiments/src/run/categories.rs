//! What guests' memory is used for: figure 6 of the Disco paper splits footprints so.
//!
//! Which pages are code the monitor knows, since it loaded them; where the buffer cache lies the guest
//! says. A guest that lies makes this figure wrong and nothing else.

use std::collections::HashSet;
use std::sync::Arc;

use mirrorball_abi::layout::PAGE_SIZE;
use mirrorball_monitor::Vm;
use mirrorball_pmap::{Mpn, PAGE_BYTES, PageState, Ppn, PpnRun};

use crate::output::summary::{ByCategory, Footprint};

/// Text, data, buffer cache: the order in which a frame counts that is used for several.
const CATEGORIES: usize = 3;
const TEXT: usize = 0;
const DATA: usize = 1;
const CACHE: usize = 2;

/// Pages of one category.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pages {
    touched: u64,
    machine: u64,
}

/// Counts over these guests, of which all must be thin; `used` is what they take of the machine, in
/// pages.
pub(super) fn count(vms: &[Arc<Vm>], used: u64) -> ByCategory {
    let texts: Option<Vec<Vec<PpnRun>>> = vms.iter().map(|vm| vm.text()).collect();
    let Some(texts) = texts.filter(|texts| !texts.is_empty()) else {
        return ByCategory::default();
    };
    let mut counted = [Pages::default(); CATEGORIES];
    let mut seen = HashSet::new();
    for category in [TEXT, DATA, CACHE] {
        for (vm, text) in vms.iter().zip(&texts) {
            let space = vm.space();
            let whole = PpnRun::new(Ppn(0), space.pages());
            let pages = whole.iter().zip(space.states(whole));
            let cache = cache_start(vm.status().cache_start);
            let pages = pages.filter(|(ppn, _)| category_of(*ppn, text, cache) == category);
            add(
                &mut counted[category],
                &mut seen,
                pages.map(|(_, state)| state),
            );
        }
    }
    let machine: u64 = counted.iter().map(|pages| pages.machine).sum();
    let [text, data, cache] = counted.map(|pages| Footprint {
        touched: Some(pages.touched * PAGE_BYTES),
        machine: Some(pages.machine * PAGE_BYTES),
    });
    ByCategory {
        text,
        data,
        cache,
        kept: Some(used.saturating_sub(machine) * PAGE_BYTES),
    }
}

/// First page of the buffer cache; behind all pages where there is none.
fn cache_start(address: u64) -> Ppn {
    let page = u32::try_from(address / PAGE_SIZE as u64).ok();
    Ppn(page.filter(|page| *page > 0).unwrap_or(u32::MAX))
}

fn category_of(ppn: Ppn, text: &[PpnRun], cache: Ppn) -> usize {
    if text.iter().any(|run| run.start <= ppn && ppn < run.end()) {
        TEXT
    } else if ppn >= cache {
        CACHE
    } else {
        DATA
    }
}

fn add(pages: &mut Pages, seen: &mut HashSet<Mpn>, states: impl Iterator<Item = PageState>) {
    for state in states {
        let machine = match state {
            PageState::Untouched | PageState::Ballooned | PageState::Swapped => continue,
            PageState::Zero => false,
            PageState::Private => true,
            PageState::Mapped(frame, _) => seen.insert(frame),
        };
        pages.touched += 1;
        pages.machine += u64::from(machine);
    }
}

#[cfg(test)]
mod tests {
    use mirrorball_pmap::Mechanism;

    use super::*;

    #[test]
    fn a_frame_counts_once_and_zeros_take_nothing() {
        let frame = |number| PageState::Mapped(Mpn(number), Mechanism::Disk);
        let (mut first, mut second) = (Pages::default(), Pages::default());
        let mut seen = HashSet::new();
        let states = [frame(1), frame(2), PageState::Private, PageState::Untouched];
        add(&mut first, &mut seen, states.into_iter());
        let states = [
            frame(2),
            frame(2),
            frame(3),
            PageState::Zero,
            PageState::Ballooned,
        ];
        add(&mut second, &mut seen, states.into_iter());
        assert_eq!((first.touched, first.machine), (3, 3));
        assert_eq!((second.touched, second.machine), (4, 1));
    }

    #[test]
    fn the_cache_is_what_lies_above_its_start_but_for_code() {
        let text = [PpnRun::new(Ppn(10), 5)];
        let cache = cache_start(0x14_000);
        let categories =
            [9, 10, 14, 15, 19, 20, 100].map(|ppn| category_of(Ppn(ppn), &text, cache));
        assert_eq!(categories, [DATA, TEXT, TEXT, DATA, DATA, CACHE, CACHE]);
        assert_eq!(
            category_of(Ppn(100), &text, cache_start(0)),
            DATA,
            "no cache"
        );
        assert_eq!(category_of(Ppn(100), &text, cache_start(u64::MAX)), DATA);
    }
}
