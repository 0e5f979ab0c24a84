//! Whether a guest that is late still lives.
//!
//! A guest that works slowly and one that will never end are both late. The first is a matter of the
//! time it is given; the second is a fault of the guest, and of a class of its own.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use mirrorball_abi::Phase;
use mirrorball_monitor::Vm;

use super::fleet::Fleet;

/// The shortest and the longest look at guests that are late.
const LOOK: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

impl Fleet<'_> {
    /// Names the guests that have not reached a phase: those that are slow, and those that hang.
    pub fn timed_out(&mut self, phase: Phase, what: &str, limit: Duration) {
        let late = self
            .guests
            .iter_mut()
            .filter(|guest| !guest.settled && !guest.has_reached(phase));
        let mut late = late.collect::<Vec<_>>();
        for guest in &mut late {
            guest.failed = true;
        }
        let look = look(limit);
        let before = late.iter().map(|guest| signs(&guest.vm));
        let before = before.collect::<Vec<_>>();
        std::thread::sleep(look);
        let (mut slow, mut hung) = (Vec::new(), Vec::new());
        for (guest, before) in late.iter().zip(before) {
            // What a command of a Linux guest does in the guest's memory nobody sees.
            let works = guest.agent.is_some() && phase == Phase::Done;
            let group = match works || signs(&guest.vm) != before {
                true => &mut slow,
                false => &mut hung,
            };
            group.push(guest.vm.name().to_owned());
        }
        let took = format!("{what} took longer than {} s", limit.as_secs_f64());
        if !slow.is_empty() {
            self.told.fail("timeout", format!("{took}: {}", few(&slow)));
        }
        if !hung.is_empty() {
            let silent = look.as_secs_f64();
            let cause = format!("{took}, and then no sign of life for {silent} s");
            self.told
                .fail("guest-hung", format!("{cause}: {}", few(&hung)));
        }
    }
}

/// Some names, and how many more there are.
fn few(names: &[String]) -> String {
    let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        ..=5 => shown,
        all => format!("{shown} and {} more", all - 5),
    }
}

/// How long late guests are looked at, when their time was so long.
fn look(limit: Duration) -> Duration {
    (limit / 4).clamp(LOOK[0], LOOK[1])
}

/// Everything by which a guest shows that it does something, in one number: exits, requests to its
/// disks, its console and what it says of itself. Two equal ones are a guest that did nothing, or that
/// only computes.
fn signs(vm: &Vm) -> u64 {
    let mut signs = DefaultHasher::new();
    vm.exit_times().len().hash(&mut signs);
    for disk in vm.block_stats() {
        (disk.reads, disk.writes, disk.flushes).hash(&mut signs);
    }
    vm.console_since(0).1.hash(&mut signs);
    let status = vm.status();
    let words = [
        status.command,
        status.verified_pages,
        status.mismatches,
        status.operations,
        status.bytes,
        status.ticks,
        status.blocks_read,
        status.blocks_written,
        status.cache_hits,
    ];
    (status.phase, words).hash(&mut signs);
    signs.finish()
}
