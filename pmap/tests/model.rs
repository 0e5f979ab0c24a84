//! The pmap against a model of plain byte arrays: whatever is mapped, shared, broken, given back
//! or removed, in any order, every VM reads what it wrote, and the books agree with the kernel.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use common::check_kernel;
use mirrorball_pmap::*;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use vm_memory::{Bytes, GuestAddress};

const PAGES: u32 = 48;
const VMS: u32 = 3;

#[derive(Clone, Copy, Debug)]
enum Give {
    In,
    Out,
    Free,
}

#[derive(Clone, Debug)]
enum Step {
    /// The guest writes one word of a page.
    Write {
        vm: u32,
        ppn: u32,
        value: u8,
    },
    /// The guest fills pages with one value (0: zeros).
    Fill {
        vm: u32,
        ppn: u32,
        pages: u32,
        value: u8,
    },
    /// A device maps new frames.
    Map {
        vm: u32,
        ppn: u32,
        pages: u32,
        value: u8,
    },
    /// Pages of one VM become frames, offered to pages of another (or the same).
    Share {
        from: u32,
        source: u32,
        to: u32,
        target: u32,
        pages: u32,
    },
    Zero {
        vm: u32,
        ppn: u32,
        pages: u32,
    },
    /// The guest puts pages into its balloon, takes them out, or reports them free.
    Give {
        vm: u32,
        ppn: u32,
        pages: u32,
        how: Give,
    },
    /// Pages go to swap.
    Swap {
        vm: u32,
        pages: u32,
        seed: u64,
    },
    Settle {
        vm: u32,
    },
    TakeWritten {
        vm: u32,
    },
    /// The VM goes and a new one comes in its place.
    Replace {
        vm: u32,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let (vm, ppn, pages, value) = (0..VMS, 0..PAGES, 1..12u32, 0..4u8);
    prop_oneof![
        4 => (vm.clone(), ppn.clone(), value.clone()).prop_map(|(vm, ppn, value)| Step::Write { vm, ppn, value }),
        3 => (vm.clone(), ppn.clone(), pages.clone(), value.clone())
            .prop_map(|(vm, ppn, pages, value)| Step::Fill { vm, ppn, pages, value }),
        2 => (vm.clone(), ppn.clone(), pages.clone(), value)
            .prop_map(|(vm, ppn, pages, value)| Step::Map { vm, ppn, pages, value }),
        4 => (vm.clone(), ppn.clone(), vm.clone(), ppn.clone(), pages.clone())
            .prop_map(|(from, source, to, target, pages)| Step::Share { from, source, to, target, pages }),
        2 => (vm.clone(), ppn.clone(), pages.clone()).prop_map(|(vm, ppn, pages)| Step::Zero { vm, ppn, pages }),
        4 => (vm.clone(), ppn, pages, prop_oneof![Just(Give::In), Just(Give::Out), Just(Give::Free)])
            .prop_map(|(vm, ppn, pages, how)| Step::Give { vm, ppn, pages, how }),
        3 => (vm.clone(), 1..40u32, 0..1000u64).prop_map(|(vm, pages, seed)| Step::Swap { vm, pages, seed }),
        1 => vm.clone().prop_map(|vm| Step::Settle { vm }),
        1 => vm.clone().prop_map(|vm| Step::TakeWritten { vm }),
        1 => vm.prop_map(|vm| Step::Replace { vm }),
    ]
}

struct Vm {
    space: Arc<AddressSpace>,
    bytes: Vec<u8>,
    /// Pages in the balloon, and those of them that were written since the books were settled.
    balloon: BTreeSet<u32>,
    taken: BTreeSet<u32>,
}

impl Vm {
    /// The pages at these bytes are no longer the balloon's once the books are settled.
    fn written(&mut self, at: usize, bytes: usize) {
        let pages = at / PAGE_SIZE..(at + bytes).div_ceil(PAGE_SIZE);
        let pages = pages.map(|page| u32::try_from(page).unwrap());
        self.taken
            .extend(pages.filter(|page| self.balloon.contains(page)));
    }

    /// The books know of what was written.
    fn settled(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        self.balloon.retain(|page| !taken.contains(page));
    }

    /// The page is not in the balloon, by the books.
    fn left(&mut self, page: u32) {
        self.balloon.remove(&page);
        self.taken.remove(&page);
    }
}

struct Machine {
    pmap: Arc<Pmap>,
    /// Swap, where this host lets us have it.
    pager: Option<Pager>,
    vms: BTreeMap<u32, Vm>,
    next: u32,
}

fn clip(ppn: u32, pages: u32) -> u32 {
    pages.min(PAGES - ppn)
}

fn range(ppn: u32, pages: u32) -> std::ops::Range<usize> {
    ppn as usize * PAGE_SIZE..(ppn + pages) as usize * PAGE_SIZE
}

impl Machine {
    fn new() -> Self {
        let pmap = Pmap::new(&PmapConfig {
            frame_capacity: 1 << 28,
            ..PmapConfig::default()
        })
        .unwrap();
        let folder = std::env::temp_dir();
        let file = SwapFile::create(&folder).unwrap();
        let lost = |lost: Lost| panic!("{lost:?}");
        // Some pages fit into the pool, the others go to the file.
        let limits = SwapLimits {
            capacity: 1 << 16,
            pool: 4096,
        };
        let pager = Pager::start(&pmap, Box::new(file), limits, lost).ok();
        let mut machine = Self {
            pmap,
            pager,
            vms: BTreeMap::new(),
            next: 0,
        };
        (0..VMS).for_each(|vm| machine.boot(vm));
        machine
    }

    fn boot(&mut self, vm: u32) {
        let space = self
            .pmap
            .create_space(VmId(self.next), GroupId(0), u64::from(PAGES) * PAGE_BYTES)
            .unwrap();
        self.next += 1;
        self.vms.insert(
            vm,
            Vm {
                space,
                bytes: vec![0; PAGES as usize * PAGE_SIZE],
                balloon: BTreeSet::new(),
                taken: BTreeSet::new(),
            },
        );
    }

    fn write(&mut self, vm: u32, at: usize, bytes: &[u8]) {
        let vm = self.vms.get_mut(&vm).unwrap();
        vm.space
            .access()
            .memory()
            .write_slice(bytes, GuestAddress(at as u64))
            .unwrap();
        vm.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        vm.written(at, bytes.len());
    }

    fn give(&mut self, vm: u32, run: PpnRun, how: Give) {
        let vm = self.vms.get_mut(&vm).unwrap();
        let inside = run.iter().filter(|page| vm.balloon.contains(&page.0));
        let inside = inside.count() as u64;
        let runs = [
            run,
            PpnRun::new(Ppn(PAGES - 1), 2),
            PpnRun::new(run.start, 0),
        ];
        // A device gives pages up while it holds its access.
        let access = (run.pages.is_multiple_of(2)).then(|| vm.space.access());
        match how {
            Give::Out => assert_eq!(vm.space.unballoon(&runs), inside),
            Give::In | Give::Free => {
                let outcome = match how {
                    Give::In => vm.space.balloon(&runs),
                    _ => vm.space.discard(&runs),
                };
                assert_eq!((outcome.given, outcome.refused), (run.pages.into(), 2));
                vm.bytes[range(run.start.0, run.pages)].fill(0);
            }
        }
        drop(access);
        for page in run.iter() {
            vm.left(page.0);
            if matches!(how, Give::In) {
                vm.balloon.insert(page.0);
            }
        }
    }

    fn make_frames(&self, bytes: &[u8]) -> PinnedFrames {
        let pages = u32::try_from(bytes.len() / PAGE_SIZE).unwrap();
        let mut frames = self.pmap.frames().allocate(pages, GroupId(0)).unwrap();
        frames.bytes_mut().copy_from_slice(bytes);
        frames.publish()
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Write { vm, ppn, value } => self.write(
                vm,
                ppn as usize * PAGE_SIZE + 8 * value as usize,
                &[value; 8],
            ),
            Step::Fill {
                vm,
                ppn,
                pages,
                value,
            } => {
                let pages = clip(ppn, pages);
                self.write(
                    vm,
                    range(ppn, pages).start,
                    &vec![value; range(ppn, pages).len()],
                );
            }
            Step::Map {
                vm,
                ppn,
                pages,
                value,
            } => {
                let pages = clip(ppn, pages);
                let frames = self.make_frames(&vec![value; range(ppn, pages).len()]);
                let vm = self.vms.get_mut(&vm).unwrap();
                vm.space
                    .access()
                    .map_frames(Ppn(ppn), &frames, Mechanism::Disk)
                    .unwrap();
                vm.bytes[range(ppn, pages)].fill(value);
                (ppn..ppn + pages).for_each(|page| vm.left(page));
            }
            Step::Share {
                from,
                source,
                to,
                target,
                pages,
            } => {
                let pages = clip(source.max(target), pages);
                // Frames in an order of their own: neighbouring runs that have to be mapped apart.
                let length = if target % 3 == 0 {
                    pages
                } else {
                    1 + target % 5
                };
                let mut made: Vec<_> = (0..pages)
                    .step_by(length as usize)
                    .rev()
                    .map(|n| {
                        let bytes = range(source + n, length.min(pages - n));
                        (n, self.make_frames(&self.vms[&from].bytes[bytes]))
                    })
                    .collect();
                made.reverse();
                let equal: Vec<u32> = (0..pages)
                    .filter(|&n| {
                        let page = &self.vms[&to].bytes[range(target + n, 1)];
                        page == &self.vms[&from].bytes[range(source + n, 1)]
                    })
                    .collect();
                let candidates: Vec<_> = made
                    .iter()
                    .map(|(n, frames)| ShareCandidate {
                        at: Ppn(target + n),
                        frames,
                    })
                    .collect();
                // As if a vCPU were in guest mode, or not: two kinds of fence.
                let space = &self.vms[&to].space;
                let inside = (source % 2 == 0).then(|| space.enter_guest());
                let outcome = space.share(&candidates, Mechanism::Content);
                drop(inside);
                let count = equal.len() as u64;
                assert_eq!(
                    (outcome.shared, outcome.different),
                    (count, u64::from(pages) - count)
                );
                let to = self.vms.get_mut(&to).unwrap();
                equal.iter().for_each(|n| to.left(target + n));
            }
            Step::Zero { vm, ppn, pages } => {
                let pages = clip(ppn, pages);
                let vm = self.vms.get_mut(&vm).unwrap();
                let zeros: Vec<u32> = (ppn..ppn + pages)
                    .filter(|&ppn| vm.bytes[range(ppn, 1)].iter().all(|&byte| byte == 0))
                    .collect();
                let inside = (ppn % 2 == 0).then(|| vm.space.enter_guest());
                let outcome = vm.space.release_zero(&[PpnRun::new(Ppn(ppn), pages)]);
                assert_eq!(outcome.released, zeros.len() as u64);
                drop(inside);
                // The balloon's pages stay there: that they were written in between is not known.
                vm.taken.retain(|page| !zeros.contains(page));
            }
            Step::Give {
                vm,
                ppn,
                pages,
                how,
            } => self.give(vm, PpnRun::new(Ppn(ppn), clip(ppn, pages)), how),
            Step::Swap { vm, pages, seed } => {
                let vm = self.vms.get_mut(&vm).unwrap();
                vm.space.settle();
                vm.settled();
                if self.pager.is_some() {
                    let inside = (seed % 2 == 0).then(|| vm.space.enter_guest());
                    vm.space.swap_out(pages, seed).unwrap();
                    drop(inside);
                }
            }
            Step::Settle { vm } => {
                let vm = self.vms.get_mut(&vm).unwrap();
                vm.space.settle();
                vm.settled();
            }
            Step::TakeWritten { vm } => {
                let vm = self.vms.get_mut(&vm).unwrap();
                drop(vm.space.take_written());
                vm.settled();
            }
            Step::Replace { vm } => {
                self.pmap.remove_space(self.vms[&vm].space.vm());
                self.boot(vm);
            }
        }
    }

    fn check(&mut self) {
        let mut bytes = vec![0; PAGES as usize * PAGE_SIZE];
        for vm in self.vms.values() {
            vm.space
                .access()
                .memory()
                .read_slice(&mut bytes, GuestAddress(0))
                .unwrap();
            assert!(
                bytes == vm.bytes,
                "{:?} reads what it did not write",
                vm.space.vm()
            );
        }
        // The reads above may have put zero frames of the kernel in; those are nobody's memory.
        check_kernel(&self.pmap);
        self.vms.values_mut().for_each(Vm::settled);
        let books = self.pmap.totals();
        assert_eq!(books.touched, books.private + books.mapped + books.zero);
        assert_eq!(
            books.reclaimed,
            books.touched - books.private - books.frames,
            "{books:?}"
        );
        self.check_frames(&books);
        self.check_balloons(&books);
    }

    fn check_balloons(&self, books: &Totals) {
        let mut ballooned = 0;
        for vm in self.vms.values() {
            let states = vm.space.states(PpnRun::new(Ppn(0), PAGES));
            let by_books: BTreeSet<u32> = (0..)
                .zip(states)
                .filter(|(_, state)| *state == PageState::Ballooned)
                .map(|(page, _)| page)
                .collect();
            assert_eq!(by_books, vm.balloon, "{:?}", vm.space.vm());
            ballooned += by_books.len() as u64;
        }
        assert_eq!(books.ballooned, ballooned);
    }

    /// Recounts frames and sharing from the page states alone.
    fn check_frames(&self, books: &Totals) {
        let mut references: BTreeMap<Mpn, u64> = BTreeMap::new();
        for vm in self.vms.values() {
            for state in vm.space.states(PpnRun::new(Ppn(0), PAGES)) {
                if let PageState::Mapped(mpn, _) = state {
                    *references.entry(mpn).or_default() += 1;
                }
            }
        }
        assert_eq!(books.frames, references.len() as u64);
        assert_eq!(
            books.shared,
            references.values().filter(|&&count| count > 1).sum::<u64>() + books.zero
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_vm_reads_what_it_wrote(steps in prop::collection::vec(steps(), 1..60)) {
        let mut machine = Machine::new();
        for step in &steps {
            machine.run(step);
        }
        machine.check();
    }
}
