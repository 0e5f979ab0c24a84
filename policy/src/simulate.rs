//! The whole policy over model guests: thousands of them for an hour in seconds.
//!
//! A model guest has a working set that changes at given times and nothing else. It takes memory when
//! it needs it and never gives any back by itself, as guests do. The machine samples, sets targets,
//! and takes memory back by balloon and swap at limited rates, second by second. What guests share
//! is not modelled: this is about who gives, not about how much there is.

use crate::active::{ActiveMemory, Sampling};
use crate::reclaim::{Holding, Order, orders};
use crate::sharing::Turn;
use crate::state::{State, Thresholds};
use crate::targets::{Wish, targets};
use crate::{Claim, IdleTax, whole};

/// The machine and the policy's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Pages for VMs.
    pub memory: u64,
    /// The tax.
    pub tax: IdleTax,
    /// When memory is taken back, and how hard.
    pub thresholds: Thresholds,
    /// How active memory is estimated.
    pub sampling: Sampling,
    /// Seconds of a sampling period; the paper's are 30.
    pub period: u64,
    /// Pages a second that a VM's balloon takes or gives.
    pub balloon_rate: u64,
    /// Pages a second that swap takes from a VM, or that a VM takes from swap.
    pub swap_rate: u64,
    /// Most of a VM's memory that its balloon may hold, from 0 to 1.
    pub balloon_most: f64,
}

/// A model guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its parameters; its memory is its max.
    pub claim: Claim,
    /// Whether it has a balloon.
    pub balloon: bool,
    /// Second at which it starts.
    pub start: u64,
    /// Its working set in pages, from a second (of the simulation) on; by time.
    pub demand: Vec<(u64, u64)>,
}

/// One guest's memory after a second, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestTick {
    /// What it works on.
    pub wanted: u64,
    /// What it has.
    pub resident: u64,
    /// What its balloon holds.
    pub ballooned: u64,
    /// What is on swap.
    pub swapped: u64,
    /// What it is entitled to.
    pub target: u64,
    /// The estimate of what it uses.
    pub active: u64,
    /// It was held.
    pub held: bool,
    /// Pages read back from swap in this second.
    pub swapped_in: u64,
}

impl GuestTick {
    /// Pages of its working set that it does not have.
    #[must_use]
    pub const fn missing(&self) -> u64 {
        self.wanted.saturating_sub(self.resident)
    }
}

/// The machine after a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Seconds since the beginning.
    pub second: u64,
    /// The reclamation state.
    pub state: State,
    /// Pages that are free.
    pub free: u64,
    /// Each guest, in the order they were given in.
    pub guests: Vec<GuestTick>,
}

/// A run of the model.
#[derive(Debug)]
pub struct Simulation {
    machine: Machine,
    guests: Vec<Guest>,
    estimates: Vec<ActiveMemory>,
    tick: Tick,
}

impl Simulation {
    /// Before the first second.
    #[must_use]
    pub fn new(machine: Machine, guests: Vec<Guest>) -> Self {
        let tick = Tick {
            second: 0,
            state: State::High,
            free: machine.memory,
            guests: vec![GuestTick::default(); guests.len()],
        };
        Self {
            estimates: vec![ActiveMemory::new(machine.sampling); guests.len()],
            machine,
            guests,
            tick,
        }
    }

    /// The next second.
    pub fn step(&mut self) -> &Tick {
        self.work();
        self.sample();
        self.set_targets();
        self.reclaim();
        self.tick.second += 1;
        &self.tick
    }

    /// What the policy keeps free.
    fn reserve(&self) -> u64 {
        let part = self.machine.thresholds.high + self.machine.thresholds.margin;
        whole((self.machine.memory as f64 * part).ceil())
    }

    /// Guests take what they need: up to their targets while any memory is free, and beyond only of
    /// what is free beyond the reserve. Otherwise a guest that wants more than there is would take
    /// again what has just been taken from it, for ever.
    fn work(&mut self) {
        let reserve = self.reserve();
        for (guest, tick) in self.guests.iter().zip(&mut self.tick.guests) {
            tick.swapped_in = 0;
            tick.wanted = guest.wants(self.tick.second);
            if tick.held {
                continue;
            }
            let entitled = tick
                .missing()
                .min(tick.target.saturating_sub(tick.resident));
            let spare = self.tick.free.saturating_sub(reserve);
            let missing = tick.missing().min(entitled.max(spare)).min(self.tick.free);
            // Memory never touched costs nothing to have; what is on swap has to be read; the rest
            // is in the balloon, which gives when the target allows.
            let had = tick.resident + tick.ballooned + tick.swapped;
            let fresh = missing.min(guest.claim.max - had);
            let read = (missing - fresh)
                .min(tick.swapped)
                .min(self.machine.swap_rate);
            tick.resident += fresh + read;
            tick.swapped -= read;
            tick.swapped_in = read;
            self.tick.free -= fresh + read;
        }
    }

    fn sample(&mut self) {
        let pages = self.machine.sampling.pages.get();
        let over = self.tick.second % self.machine.period.max(1) == self.machine.period.max(1) - 1;
        let each = self.guests.iter().zip(&mut self.tick.guests);
        for ((guest, tick), estimate) in each.zip(&mut self.estimates) {
            let part = u128::from(tick.wanted) * u128::from(pages);
            let touched = part.div_ceil(u128::from(guest.claim.max.max(1)));
            estimate.seen(u32::try_from(touched).unwrap_or(pages));
            if over {
                estimate.end_period();
            }
            tick.active = estimate.pages(guest.claim.max);
        }
    }

    fn set_targets(&mut self) {
        let memory = self.machine.memory;
        self.tick.state = {
            let free = self.tick.free as f64 / memory.max(1) as f64;
            self.machine.thresholds.next(self.tick.state, free)
        };
        let reserve = self.reserve();
        let second = self.tick.second;
        let started = |guest: &Guest| guest.start <= second;
        let wishes: Vec<Wish> = (self.guests.iter().zip(&self.tick.guests))
            .filter(|(guest, _)| started(guest))
            .map(|(guest, tick)| Wish {
                claim: guest.claim,
                active: tick.active,
            })
            .collect();
        let mut found =
            targets(memory.saturating_sub(reserve), &wishes, self.machine.tax).into_iter();
        for (guest, tick) in self.guests.iter().zip(&mut self.tick.guests) {
            tick.target = if started(guest) {
                found.next().unwrap_or(0)
            } else {
                0
            };
        }
    }

    fn reclaim(&mut self) {
        let holdings: Vec<Holding> = self
            .guests
            .iter()
            .zip(&self.tick.guests)
            .map(|(guest, tick)| Holding {
                allocated: tick.resident,
                target: tick.target,
                ballooned: tick.ballooned,
                balloon_most: if guest.balloon {
                    whole(guest.claim.max as f64 * self.machine.balloon_most)
                } else {
                    0
                },
            })
            .collect();
        let orders = orders(self.tick.state, Turn::Take, true, &holdings);
        for (order, tick) in orders.iter().zip(&mut self.tick.guests) {
            let freed = carry_out(order, tick, &self.machine, self.tick.free);
            self.tick.free = self.tick.free + freed.taken - freed.given;
        }
    }
}

/// Pages that an order moved.
struct Freed {
    taken: u64,
    given: u64,
}

fn carry_out(order: &Order, tick: &mut GuestTick, machine: &Machine, free: u64) -> Freed {
    tick.held = order.hold;
    let (mut taken, mut given) = (0, 0);
    if order.balloon > tick.ballooned {
        taken = (order.balloon - tick.ballooned)
            .min(machine.balloon_rate)
            .min(tick.resident);
        tick.ballooned += taken;
        tick.resident -= taken;
    } else {
        let back = (tick.ballooned - order.balloon).min(machine.balloon_rate);
        // A page that comes out of the balloon takes memory when the guest uses it, not before.
        given = back.min(tick.missing()).min(free);
        tick.ballooned -= back;
        tick.resident += given;
    }
    let out = order.swap.min(machine.swap_rate).min(tick.resident);
    tick.resident -= out;
    tick.swapped += out;
    Freed {
        taken: taken + out,
        given,
    }
}

impl Guest {
    /// Its working set in this second.
    fn wants(&self, second: u64) -> u64 {
        if second < self.start {
            return 0;
        }
        let now = self.demand.iter().rev().find(|(from, _)| *from <= second);
        now.map_or(0, |(_, pages)| (*pages).min(self.claim.max))
    }
}

#[cfg(test)]
mod tests;
