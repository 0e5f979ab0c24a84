//! One VM under the policy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mirrorball_monitor::{Vm, VmState};
use mirrorball_pmap::{PAGE_BYTES, SpaceTotals, Watch};
use mirrorball_policy::Claim;
use mirrorball_policy::active::{ActiveMemory, Sampling};
use mirrorball_policy::reclaim::{Holding, Order};
use mirrorball_policy::targets::Wish;

use crate::spec::GuestGroup;

/// What the policy thinks of a VM, bytes.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Its group's id.
    pub group: String,
    /// What it is entitled to.
    pub target: u64,
    /// What it is thought to use.
    pub active: u64,
    /// What the guest says it uses; 0 where it does not know.
    pub working_set: u64,
}

/// An estimate against a guest's word.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    /// How far it was off in the mean, as a part of the guest's memory.
    pub error: Option<f64>,
    /// How many periods it is behind, or was, when the guest took to using more.
    pub lag: Option<f64>,
}

/// A VM's side of the policy.
#[derive(Debug)]
pub struct Guest {
    pub vm: Arc<Vm>,
    pub group: String,
    claim: Claim,
    /// Most pages in its balloon.
    balloon_most: u64,
    estimate: ActiveMemory,
    watch: Option<(Watch, Instant)>,
    /// Whether it says what it uses: only thin guests have a status page.
    says: bool,
    /// What the guest said it uses at the ends of the last periods, and for how many it was the same.
    said: (u64, u32),
    /// What it said it uses when it was asked last, and since when that is more than before, until the
    /// estimate has come up to it.
    level: u64,
    rise: Option<Instant>,
    totals: SpaceTotals,
    /// Since when its balloon has not been found to grow, though it was to.
    idle: Instant,
    target: u64,
    pub order: Order,
}

impl Guest {
    /// A VM of a group; `balloon` is the most that may be in its balloon, as a part of its memory.
    pub fn new(
        vm: Arc<Vm>,
        group: &GuestGroup,
        claim: Claim,
        balloon: f64,
        sampling: Sampling,
    ) -> Self {
        let most = vm
            .balloon()
            .map_or(0, |_| part(vm.space().pages().into(), balloon));
        Self {
            vm,
            group: group.id.clone(),
            claim,
            balloon_most: most,
            estimate: ActiveMemory::new(sampling),
            watch: None,
            says: group.system.workload().is_some(),
            said: (0, 0),
            level: 0,
            rise: None,
            totals: SpaceTotals::default(),
            idle: Instant::now(),
            target: claim.max,
            order: Order::default(),
        }
    }

    /// Whether its vCPUs still run, or will.
    pub fn is_alive(&self) -> bool {
        !matches!(self.vm.state(), VmState::Stopped(_))
    }

    /// Brings its books up to date; its own pages.
    pub fn settle(&mut self) -> u64 {
        self.vm.space().settle();
        let before = self.totals.ballooned;
        self.totals = self.vm.space().totals();
        if self.totals.ballooned > before || !self.fills_balloon() {
            self.idle = Instant::now();
        }
        self.totals.private
    }

    /// Looks how many of the watched pages were touched; when the period is over, the next begins.
    pub fn sample(&mut self, pages: u32, period: Duration, seed: u64) -> Compared {
        let error = self.look(pages, period, seed);
        let lag = self.follow(period);
        Compared { error, lag }
    }

    /// For how many periods the guest has said that it uses more than it did, without the estimate being
    /// within a tenth of its memory of that; 0 or a part of one when it has just come up to it.
    fn follow(&mut self, period: Duration) -> Option<f64> {
        let pages = u64::from(self.vm.space().pages());
        let said = self.vm.status().active_pages.min(pages);
        if said != self.level {
            self.rise = (self.level > 0 && said > self.level).then(Instant::now);
            self.level = said;
        }
        let since = self.rise?;
        if self.estimate.pages(pages) + pages / 10 >= said {
            self.rise = None;
        }
        Some(since.elapsed().as_secs_f64() / period.as_secs_f64())
    }

    /// Answers how far the estimate was from what the guest says, if that has stayed the same.
    fn look(&mut self, pages: u32, period: Duration, seed: u64) -> Option<f64> {
        let space = self.vm.space();
        if let Some((watch, _)) = &self.watch {
            self.estimate
                .seen(scaled(space.touched(watch), watch.pages(), pages));
        }
        let over = self
            .watch
            .as_ref()
            .is_none_or(|(_, began)| began.elapsed() >= period);
        if !over {
            return None;
        }
        let mut error = None;
        if let Some((watch, _)) = self.watch.take() {
            let watched = watch.pages();
            let touched = space.end_watch(watch);
            self.estimate.seen(scaled(touched, watched, pages));
            self.estimate.end_period();
            error = self.compare();
        }
        if self.is_alive() {
            let watch = self.vm.space().watch(pages, seed).ok();
            self.watch = watch.map(|watch| (watch, Instant::now()));
        }
        error
    }

    /// The estimate against the guest's word, once that has been the same long enough for the slow
    /// average to follow.
    fn compare(&mut self) -> Option<f64> {
        const LONG_ENOUGH: u32 = 8;
        if !self.says {
            return None;
        }
        let said = self.vm.status().active_pages;
        self.said = if said == self.said.0 {
            (said, self.said.1 + 1)
        } else {
            (said, 0)
        };
        let pages = u64::from(self.vm.space().pages());
        (said > 0 && said <= pages && self.said.1 >= LONG_ENOUGH).then(|| {
            let apart = self.estimate.pages(pages).abs_diff(said);
            float(apart) / float(pages)
        })
    }

    /// Puts watched pages back.
    pub fn end_watch(&mut self) {
        if let Some((watch, _)) = self.watch.take() {
            // What was touched in half a period says nothing.
            let _ = self.vm.space().end_watch(watch);
        }
    }

    /// What it wishes for; `claim` is what it is entitled to now, if that is known.
    pub fn wish(&self, claim: Option<Claim>) -> Wish {
        Wish {
            claim: claim.unwrap_or(self.claim),
            active: self.estimate.pages(self.vm.space().pages().into()),
        }
    }

    pub fn holding(&mut self, target: u64) -> Holding {
        self.target = target;
        Holding {
            allocated: self.totals.private,
            target,
            ballooned: self.totals.ballooned,
            balloon_most: self.balloon_most,
        }
    }

    /// Gives its balloon the ordered size, no more than `step` pages larger than it is.
    pub fn set_balloon(&self, step: u64) {
        if let Some(balloon) = self.vm.balloon() {
            let size = self.order.balloon.min(self.totals.ballooned + step);
            balloon.set_target(u32::try_from(size).unwrap_or(u32::MAX));
        }
    }

    /// Whether it is to give memory by its balloon, for which it has to run.
    pub const fn fills_balloon(&self) -> bool {
        self.order.balloon > self.totals.ballooned && !self.order.hold
    }

    /// Whether its balloon has grown in the last two seconds that it was to: a guest without a driver
    /// for it, or one that stands still, never fills it.
    pub fn gave_lately(&self) -> bool {
        const PATIENCE: Duration = Duration::from_secs(2);
        self.idle.elapsed() < PATIENCE
    }

    /// Leaves its balloon as it is: it would go on towards the last size that was ordered.
    pub fn leave_balloon(&self) {
        if let Some(balloon) = self.vm.balloon() {
            let size = self.vm.space().totals().ballooned;
            balloon.set_target(u32::try_from(size).unwrap_or(u32::MAX));
        }
    }

    pub fn view(&self) -> View {
        let pages = u64::from(self.vm.space().pages());
        View {
            group: self.group.clone(),
            target: self.target * PAGE_BYTES,
            active: self.estimate.pages(pages) * PAGE_BYTES,
            working_set: self.said.0.min(pages) * PAGE_BYTES,
        }
    }
}

/// What would have been touched of `wanted` pages, when `touched` of `watched` were.
fn scaled(touched: u64, watched: u64, wanted: u32) -> u32 {
    let scaled = (touched * u64::from(wanted)).div_ceil(watched.max(1));
    u32::try_from(scaled).unwrap_or(wanted)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a number of pages"
)]
pub fn part(pages: u64, part: f64) -> u64 {
    (float(pages) * part) as u64
}

#[allow(clippy::cast_precision_loss, reason = "a number of pages")]
pub const fn float(pages: u64) -> f64 {
    pages as f64
}
