//! Sets of pages as sorted, disjoint, maximal runs.
//!
//! What the guests write comes in runs and is passed on in runs, so a pass
//! costs by the number of runs written, never by the size of memory.

use mirrorball_pmap::{Ppn, PpnRun};

/// A set of pages of one VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunSet(Vec<PpnRun>);

impl RunSet {
    /// The set of all pages in `runs`, cut off at `limit` pages.
    pub(crate) fn new(mut runs: Vec<PpnRun>, limit: u32) -> Self {
        runs.sort_unstable();
        let mut set = Self(Vec::with_capacity(runs.len()));
        for run in runs {
            let start = run.start.0.min(limit);
            let end = run.start.0.saturating_add(run.pages).min(limit);
            set.append(start, end);
        }
        set
    }

    /// Adds the pages `start..end`; no run of the set may start after `start`.
    fn append(&mut self, start: u32, end: u32) {
        if start >= end {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.end().0 >= start => {
                last.pages = last.end().0.max(end) - last.start.0;
            }
            _ => self.0.push(PpnRun::new(Ppn(start), end - start)),
        }
    }

    /// Adds one page that comes after all others.
    pub(crate) fn push(&mut self, ppn: Ppn) {
        self.append(ppn.0, ppn.0.saturating_add(1));
    }

    pub(crate) fn runs(&self) -> &[PpnRun] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn pages(&self) -> u64 {
        self.0.iter().map(|run| u64::from(run.pages)).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Ppn> {
        self.0.iter().flat_map(|run| run.iter())
    }

    /// Adds all pages of `other`.
    pub(crate) fn union(&mut self, other: &Self) {
        if self.is_empty() {
            self.0.clone_from(&other.0);
        } else if !other.is_empty() {
            let mut all = std::mem::take(&mut self.0);
            all.extend_from_slice(&other.0);
            *self = Self::new(all, u32::MAX);
        }
    }

    /// Takes all pages of `other` away.
    pub(crate) fn subtract(&mut self, other: &Self) {
        if self.is_empty() || other.is_empty() {
            return;
        }
        let mut left = Self(Vec::with_capacity(self.0.len()));
        let mut cuts = other.0.iter().copied().peekable();
        for run in &self.0 {
            let mut start = run.start.0;
            let end = run.end().0;
            while let Some(cut) = cuts.peek() {
                if cut.start.0 >= end {
                    break;
                }
                if cut.end().0 > start {
                    left.append(start, cut.start.0.max(start));
                    start = cut.end().0;
                }
                if cut.end().0 >= end {
                    break;
                }
                cuts.next();
            }
            left.append(start.min(end), end);
        }
        *self = left;
    }

    /// Removes and returns the first `pages` pages.
    pub(crate) fn take_front(&mut self, pages: u32) -> Self {
        let mut front = Self::default();
        let mut room = pages;
        let mut whole = 0;
        for run in &mut self.0 {
            let taken = run.pages.min(room);
            if taken == 0 {
                break;
            }
            front.append(run.start.0, run.start.0 + taken);
            room -= taken;
            if taken == run.pages {
                whole += 1;
            } else {
                *run = PpnRun::new(run.start.plus(taken), run.pages - taken);
            }
        }
        self.0.drain(..whole);
        front
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn sets() -> impl Strategy<Value = Vec<PpnRun>> {
        proptest::collection::vec((0u32..60, 1u32..9), 0..12)
            .prop_map(|v| v.into_iter().map(|(s, n)| PpnRun::new(Ppn(s), n)).collect())
    }

    fn model(runs: &[PpnRun]) -> BTreeSet<u32> {
        runs.iter()
            .flat_map(|run| run.iter())
            .map(|p| p.0)
            .collect()
    }

    fn maximal(set: &RunSet) -> bool {
        set.0.windows(2).all(|w| w[0].end() < w[1].start) && set.0.iter().all(|r| r.pages > 0)
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(a in sets(), b in sets(), n in 0u32..80) {
            let (first, second) = (RunSet::new(a.clone(), 1000), RunSet::new(b.clone(), 1000));
            let (ma, mb) = (model(&a), model(&b));
            let mut union = first.clone();
            union.union(&second);
            prop_assert!(maximal(&union));
            prop_assert_eq!(model(union.runs()), &ma | &mb);
            let mut less = first.clone();
            less.subtract(&second);
            prop_assert!(maximal(&less));
            prop_assert_eq!(model(less.runs()), &ma - &mb);
            let mut rest = first.clone();
            let front = rest.take_front(n);
            let expect: BTreeSet<u32> = ma.iter().copied().take(n as usize).collect();
            prop_assert_eq!(model(front.runs()), expect.clone());
            prop_assert_eq!(model(rest.runs()), &ma - &expect);
            prop_assert_eq!(first.pages(), ma.len() as u64);
        }
    }

    #[test]
    fn pages_past_the_end_of_memory_are_cut_off() {
        let set = RunSet::new(
            vec![PpnRun::new(Ppn(u32::MAX - 1), 1), PpnRun::new(Ppn(8), 10)],
            10,
        );
        assert_eq!(set.runs(), [PpnRun::new(Ppn(8), 2)]);
    }
}
