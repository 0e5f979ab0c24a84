//! A step of the memory policy: estimates, targets and orders, in plain numbers.

use std::time::Instant;

use mirrorball_policy::active::{ActiveMemory, Sampling};
use mirrorball_policy::reclaim::{Holding, orders};
use mirrorball_policy::sharing::Turn;
use mirrorball_policy::state::State;
use mirrorball_policy::targets::{Wish, targets};
use mirrorball_policy::{Claim, IdleTax};

use super::{Bench, BenchError, Log, Row, Wanted};

/// The measurement.
pub const BENCH: Bench = Bench {
    id: "policy-step",
    what: "a step of the memory policy for 10,000 guests",
    measure,
};

const GUESTS: u32 = 10_000;
/// Pages of a guest.
const PAGES: u64 = 64 << 8;
/// Steps whose mean is one value.
const STEPS: u32 = 10;

fn measure(log: &mut Log<'_>) -> Result<(), BenchError> {
    let what = "estimates, targets and orders for 10,000 guests, mean of a step";
    let row = Row::new("policy-step", what, "ms", Wanted::AtMost(10.0));
    let mut estimates = vec![ActiveMemory::new(Sampling::default()); GUESTS as usize];
    for _ in 0..log.runs {
        let began = Instant::now();
        let mut swapped = 0;
        for step in 0..STEPS {
            swapped += one(&mut estimates, step)?;
        }
        std::hint::black_box(swapped);
        let mean = began.elapsed() / STEPS;
        log.add(&row, mean.as_secs_f64() * 1e3);
    }
    Ok(())
}

/// Guests of different shares and use, in half of the memory that they want.
fn one(estimates: &mut [ActiveMemory], step: u32) -> Result<u64, BenchError> {
    let mut wishes = Vec::with_capacity(estimates.len());
    for (guest, estimate) in (0..).zip(estimates) {
        estimate.seen((guest + step) % 100);
        estimate.end_period();
        let claim = Claim::new(u64::from(guest % 7) + 1, PAGES / 8, PAGES);
        let claim = claim.map_err(|error| BenchError(error.to_string()))?;
        let active = estimate.pages(PAGES);
        wishes.push(Wish { claim, active });
    }
    let targets = targets(u64::from(GUESTS) * PAGES / 2, &wishes, IdleTax::default());
    let holdings: Vec<_> = targets
        .into_iter()
        .map(|target| Holding {
            allocated: PAGES / 2,
            target,
            ballooned: 0,
            balloon_most: PAGES / 2,
        })
        .collect();
    let orders = orders(State::Hard, Turn::Take, true, &holdings);
    Ok(orders.iter().map(|order| order.swap).sum())
}
