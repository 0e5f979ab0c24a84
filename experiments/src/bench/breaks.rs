//! What breaking a shared page costs, by the guest's own clock, against a first write.
//!
//! The guest's `probe` workload writes one word to each of many pages nobody touched, fills them,
//! waits for the scanner, and writes one word to each again. The guests take turns, so that no
//! other guest's faults are in the figures. What was read before has a translation, which the
//! kernel must take away before it copies; so each guest has a [`History`], the same before both
//! writes: the anonymous page then maps the kernel's page of zeros, which a write copies too.
//! The last guests give their memory to KSM instead.

use mirrorball_abi::WorkloadKind;
use mirrorball_monitor::Vm;
use mirrorball_pmap::{PageState, Ppn, PpnRun};

use super::rig::{self, Guests, Rig};
use super::{Bench, BenchError, Log, Row, Wanted, kernel};
use crate::samples::Samples;

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "break",
    what: "a break as the guest sees it against a first write",
    measure,
};

const PAGES: u64 = 8192;
const MOST_PASSES: u32 = 10;
/// Guests of each history.
const GUESTS: usize = 2;

/// Who read the pages before they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum History {
    /// Nobody.
    Unread,
    /// The host has.
    Host,
    /// The guest has.
    Guest,
}

const OURS: [History; 3] = [History::Unread, History::Host, History::Guest];
/// A page that ksmd merged has a translation, whoever read it.
const KSM: [History; 2] = [History::Unread, History::Guest];

impl History {
    /// What it adds to a row's id.
    fn suffix(self) -> &'static str {
        match self {
            Self::Unread => "",
            Self::Host => "-host",
            Self::Guest => "-guest",
        }
    }

    /// Who has read, for "... has read the page".
    fn reader(self) -> &'static str {
        match self {
            Self::Unread => "nobody has read",
            Self::Host => "the host has read",
            Self::Guest => "the guest has read",
        }
    }
}

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    let mut problem = None;
    for _ in 0..log.runs {
        tell(log, &SHARED, &ours()?);
        // What can't be had is told after what can.
        if problem.is_none() {
            match ksm() {
                Ok(written) => tell(log, &MERGED, &written),
                Err(error) => problem = Some(error),
            }
        }
    }
    problem.map_or(Ok(()), Err)
}

/// Writes of the guests with one history.
#[derive(Debug)]
struct Written {
    history: History,
    /// To pages that nobody had written.
    first: Samples,
    /// To the same pages once they were shared.
    again: Samples,
}

fn ours() -> Result<Vec<Written>, BenchError> {
    let rig = start(&OURS, true)?;
    let first = probe(&rig, &OURS, 0)?;
    let mut scanner = rig.scanner();
    for _ in 0..MOST_PASSES {
        scanner.pass();
    }
    for vm in rig.vms() {
        let states = vm.space().states(whole(vm));
        let mapped = states
            .iter()
            .filter(|state| matches!(state, PageState::Mapped(..)));
        enough(mapped.count() as u64, PAGES)?;
    }
    Ok(written(&OURS, first, probe(&rig, &OURS, 1)?))
}

fn ksm() -> Result<Vec<Written>, BenchError> {
    let rig = start(&KSM, false)?;
    let first = probe(&rig, &KSM, 0)?;
    let merged = kernel::merge(&rig, None)?;
    // Of each content one page is kept.
    enough(merged.pages, PAGES * (rig.vms().len() as u64 - 1))?;
    merged
        .ksm
        .hold()
        .map_err(BenchError::of("ksmd can't be held"))?;
    let again = probe(&rig, &KSM, 1)?;
    merged.end(rig)?;
    Ok(written(&KSM, first, again))
}

fn start(histories: &[History], tracking: bool) -> Result<Rig, BenchError> {
    Rig::start(&Guests {
        count: histories.len() * GUESTS,
        memory: 64 << 20,
        image: None,
        disk_sharing: true,
        tracking,
    })
}

/// Has the guests write their pages one after the other; the ticks of each history.
fn probe(rig: &Rig, histories: &[History], step: u64) -> Result<Vec<Samples>, BenchError> {
    let mut ticks: Vec<_> = histories.iter().map(|_| Samples::none()).collect();
    for vms in rig.vms().chunks(histories.len()) {
        for ((vm, history), ticks) in vms.iter().zip(histories).zip(&mut ticks) {
            let by_guest = u64::from(*history == History::Guest);
            if *history == History::Host {
                for ppn in whole(vm).iter() {
                    // A read that nobody needs would be left out.
                    std::hint::black_box(vm.space().with_page(ppn, |page| page[0]));
                }
            }
            let work = rig::workload(WorkloadKind::Probe, &[PAGES, step, by_guest]);
            ticks.add(&rig::done(vm, vm.command(&work))?.write_ticks);
        }
    }
    Ok(ticks)
}

fn whole(vm: &Vm) -> PpnRun {
    PpnRun::new(Ppn(0), vm.space().pages())
}

fn enough(shared: u64, of: u64) -> Result<(), BenchError> {
    if shared < of * 9 / 10 {
        return Err(BenchError(format!(
            "only {shared} of {of} pages are shared"
        )));
    }
    Ok(())
}

fn written(histories: &[History], first: Vec<Samples>, again: Vec<Samples>) -> Vec<Written> {
    let both = first.into_iter().zip(again);
    let all = histories.iter().zip(both);
    all.map(|(&history, (first, again))| Written {
        history,
        first,
        again,
    })
    .collect()
}

/// Who made pages shared, as the rows say it.
#[derive(Debug)]
struct Kind {
    id: &'static str,
    page: &'static str,
    wanted: Option<Wanted>,
}

const SHARED: Kind = Kind {
    id: "break",
    page: "shared",
    wanted: Some(Wanted::AtMost(1.5)),
};
const MERGED: Kind = Kind {
    id: "break-ksm",
    page: "merged (KSM)",
    wanted: None,
};

/// Adds the rows of all histories, the first of which is that nobody has read.
fn tell(log: &mut Log<'_>, kind: &Kind, all: &[Written]) {
    let Some(plain) = all.first() else {
        return;
    };
    let page = kind.page;
    let mut ratio = |id: String, what: String, over: &Samples, again: &Samples| {
        let row = Row {
            id: format!("{}{id}", kind.id),
            what,
            unit: "",
            wanted: kind.wanted,
        };
        log.add(&row, again.at(0.5) / over.at(0.5));
    };
    let what = format!("first write to a {page} page over one to an untouched page, medians");
    ratio(String::new(), what, &plain.first, &plain.again);
    for Written {
        history,
        first,
        again,
    } in all.iter().skip(1)
    {
        let (suffix, reader) = (history.suffix(), history.reader());
        let what = format!("the same, {reader} both before");
        ratio(suffix.to_owned(), what, first, again);
        let what = format!("the same, {reader} the {page} one, nobody the other");
        ratio(format!("{suffix}-plain"), what, &plain.first, again);
    }
    let what = "the same at p99, nobody has read either";
    log.add(
        &Row::detail(&format!("{}-p99", kind.id), what, ""),
        plain.again.at(0.99) / plain.first.at(0.99),
    );
    for written in all {
        tell_ticks(log, kind, written);
    }
}

fn tell_ticks(log: &mut Log<'_>, kind: &Kind, written: &Written) {
    let (suffix, reader) = (written.history.suffix(), written.history.reader());
    for (id, page, ticks) in [
        ("first", "untouched", &written.first),
        ("shared", kind.page, &written.again),
    ] {
        for (end, name, quantile) in [("", "median", 0.5), ("-p99", "p99", 0.99)] {
            let id = format!("{}-{id}{suffix}{end}", kind.id);
            let what = format!("{name} of writes to {page} pages, {reader} them");
            log.add(&Row::detail(&id, &what, "ticks"), ticks.at(quantile));
        }
    }
}
