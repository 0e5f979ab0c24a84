//! Who is entitled to how much: min-funding revocation with the idle memory tax.
//!
//! The paper's rule (OSDI'02, section 5.2): take memory from the VM that pays least for it, that is,
//! whose `shares / (active + k * idle)` is lowest. Taken page by page until everything fits, this ends
//! where all VMs that are neither at their min nor at their max pay the same price. Here that price
//! is looked for directly, so that ten thousand VMs cost milliseconds and not a revocation each.
//!
//! A VM's memory costs `cost(p) = min(p, active) + k * max(0, p - active)`. It rises with `p`, so for
//! each price there is one number of pages that a VM can pay for with its shares, and the sum over
//! all VMs falls as the price rises: bisection.

use crate::{Claim, IdleTax, whole};

/// A VM as the policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its parameters.
    pub claim: Claim,
    /// Pages that it uses, by the estimate of [`crate::active`].
    pub active: u64,
}

/// Steps of the bisection: more than a double has bits, so that the price is as exact as it can be.
const STEPS: u32 = 64;

impl Wish {
    /// Pages that the VM can pay for at a price of shares per page, between min and max.
    fn affordable(&self, price: f64, idle_price: f64) -> f64 {
        let budget = self.claim.shares as f64 / price;
        let active = self.active as f64;
        let pages = if budget <= active {
            budget
        } else {
            active + (budget - active) / idle_price
        };
        pages.clamp(self.claim.min as f64, self.claim.max as f64)
    }

    /// What the VM pays for each page if it has `pages`: the paper's adjusted ratio.
    #[must_use]
    pub fn pays(&self, pages: u64, tax: IdleTax) -> f64 {
        let active = self.active.min(pages) as f64;
        let idle = pages.saturating_sub(self.active) as f64;
        self.claim.shares as f64 / idle.mul_add(tax.idle_price(), active)
    }
}

/// The pages that each VM is entitled to, in the order of `wishes`, of `memory` pages in all.
///
/// Every VM gets at least its min and at most its max. If the sum of all max fits, everybody has it.
/// Otherwise the targets sum to `memory` exactly, or to the sum of all min where even that does not
/// fit, which [`crate::admission`] rules out.
#[must_use]
pub fn targets(memory: u64, wishes: &[Wish], tax: IdleTax) -> Vec<u64> {
    let sum = |pages: fn(&Claim) -> u64| -> u64 {
        let each = wishes.iter().map(|wish| pages(&wish.claim));
        each.fold(0, u64::saturating_add)
    };
    if sum(|claim| claim.max) <= memory {
        return wishes.iter().map(|wish| wish.claim.max).collect();
    }
    if sum(|claim| claim.min) >= memory {
        return wishes.iter().map(|wish| wish.claim.min).collect();
    }
    let price = price(memory, wishes, tax.idle_price());
    let each = |wish: &Wish| wish.affordable(price, tax.idle_price());
    let exact: Vec<f64> = wishes.iter().map(each).collect();
    let mut targets: Vec<u64> = exact.iter().map(|pages| whole(*pages)).collect();
    hand_out(memory, wishes, &exact, &mut targets);
    targets
}

/// The lowest price, in shares a page, at which everything that VMs can pay for fits.
fn price(memory: u64, wishes: &[Wish], idle_price: f64) -> f64 {
    let fits = |price: f64| {
        let each = wishes.iter().map(|wish| wish.affordable(price, idle_price));
        each.sum::<f64>() <= memory as f64
    };
    let shares = wishes.iter().map(|wish| wish.claim.shares as f64);
    // At the low end everybody can pay for its max, at the high end for less than a page.
    let most = wishes.iter().map(|wish| wish.claim.max).max().unwrap_or(1);
    let mut low = 1.0 / (most.max(1) as f64 * idle_price);
    let mut high = shares.fold(1.0, f64::max) * 2.0;
    for _ in 0..STEPS {
        // Prices spread over many powers of two: the middle is the geometric one.
        let middle = (low * high).sqrt();
        if fits(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// Hands out what rounding down has left: to those whose targets lost most by it.
fn hand_out(memory: u64, wishes: &[Wish], exact: &[f64], targets: &mut [u64]) {
    let mut left = memory.saturating_sub(targets.iter().sum());
    let mut order: Vec<usize> = (0..targets.len()).collect();
    let lost = |at: usize| exact[at] - targets[at] as f64;
    order.sort_by(|a, b| lost(*b).total_cmp(&lost(*a)));
    while left > 0 {
        let before = left;
        for at in &order {
            if left > 0 && targets[*at] < wishes[*at].claim.max {
                targets[*at] += 1;
                left -= 1;
            }
        }
        if left == before {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wish(shares: u64, min: u64, max: u64, active: u64) -> Wish {
        let claim = Claim::new(shares, min, max).unwrap();
        Wish { claim, active }
    }

    fn wishes() -> impl Strategy<Value = Vec<Wish>> {
        let one = (1u64..5000, 0u64..40_000, 0u64..100_000, 0.0..1.0f64);
        let one = one.prop_map(|(shares, min, more, active)| {
            let max = min + more;
            wish(shares, min, max, whole(max as f64 * active))
        });
        proptest::collection::vec(one, 1..40)
    }

    fn rate() -> impl Strategy<Value = IdleTax> {
        (0.0..0.99f64).prop_map(|rate| IdleTax::new(rate).unwrap())
    }

    proptest! {
        #[test]
        fn everybody_is_within_min_and_max_and_all_memory_is_given(
            wishes in wishes(), memory in 0u64..3_000_000, tax in rate()
        ) {
            let targets = targets(memory, &wishes, tax);
            for (wish, target) in wishes.iter().zip(&targets) {
                prop_assert!((wish.claim.min..=wish.claim.max).contains(target));
            }
            let min: u64 = wishes.iter().map(|wish| wish.claim.min).sum();
            let max: u64 = wishes.iter().map(|wish| wish.claim.max).sum();
            prop_assert_eq!(targets.iter().sum::<u64>(), memory.clamp(min, max));
        }

        #[test]
        fn nobody_keeps_a_page_that_another_pays_more_for(
            wishes in wishes(), memory in 0u64..3_000_000, tax in rate()
        ) {
            let targets = targets(memory, &wishes, tax);
            for (loser, has) in wishes.iter().zip(&targets) {
                for (keeper, holds) in wishes.iter().zip(&targets) {
                    if *has < loser.claim.max && *holds > keeper.claim.min {
                        // One page of rounding on both sides.
                        let offers = loser.pays(has + 2, tax);
                        let pays = keeper.pays(holds.saturating_sub(2).max(1), tax);
                        prop_assert!(offers <= pays * (1.0 + 1e-9), "{offers} against {pays}");
                    }
                }
            }
        }

        #[test]
        fn a_higher_tax_never_gives_an_idle_vm_more(
            wishes in wishes(), memory in 0u64..3_000_000, low in 0.0..0.9f64, more in 0.0..0.09f64
        ) {
            // One VM does nothing, all others use all they have.
            let mut wishes = wishes;
            for wish in &mut wishes {
                wish.active = wish.claim.max;
            }
            wishes[0].active = 0;
            let with = |rate| targets(memory, &wishes, IdleTax::new(rate).unwrap())[0];
            prop_assert!(with(low + more) <= with(low) + 1);
        }

        #[test]
        fn the_order_of_the_vms_does_not_matter(
            wishes in wishes(), memory in 0u64..3_000_000, tax in rate()
        ) {
            let forward = targets(memory, &wishes, tax);
            let turned: Vec<_> = wishes.iter().rev().copied().collect();
            let backward = targets(memory, &turned, tax);
            for (a, b) in forward.iter().zip(backward.iter().rev()) {
                prop_assert!(a.abs_diff(*b) <= 1, "a page of rounding at most");
            }
        }
    }

    #[test]
    fn active_vms_share_in_proportion_to_their_shares() {
        let wishes = [wish(1, 0, 1000, 1000), wish(3, 0, 1000, 1000)];
        assert_eq!(targets(800, &wishes, IdleTax::default()), [200, 600]);
    }

    #[test]
    fn figure_7_of_the_paper() {
        // Two VMs of 256 MB with equal shares in some 360 MB; one idle but for 10 MB, one active.
        let mib = |mib: u64| mib << 8;
        let wishes = [
            wish(1, 0, mib(256), mib(10)),
            wish(1, 0, mib(256), mib(240)),
        ];
        let equal = targets(mib(358), &wishes, IdleTax::NONE);
        assert_eq!(equal, [mib(179), mib(179)]);
        let taxed = targets(mib(358), &wishes, IdleTax::default());
        assert_eq!(taxed, [mib(102), mib(256)], "the active one has all it can");
    }

    #[test]
    fn with_a_tax_vms_within_their_bounds_pay_alike() {
        let wishes = [wish(1, 0, 2000, 100), wish(1, 0, 2000, 900)];
        let taxed = targets(1500, &wishes, IdleTax::default());
        let cost = |at: usize| 1.0 / wishes[at].pays(taxed[at], IdleTax::default());
        assert!((cost(0) / cost(1) - 1.0).abs() < 0.01, "{taxed:?}");
        assert!(taxed[1] > 900 && taxed[0] > 100, "{taxed:?}");
    }

    #[test]
    fn extremes_neither_overflow_nor_divide_by_zero() {
        assert!(targets(0, &[], IdleTax::NONE).is_empty());
        let huge = wish(u64::MAX, 0, u64::MAX, u64::MAX);
        assert_eq!(targets(10, &[wish(1, 0, 0, 0)], IdleTax::NONE), [0]);
        let both = targets(
            1 << 40,
            &[huge, wish(1, 0, u64::MAX, 0)],
            IdleTax::default(),
        );
        assert_eq!(both.iter().sum::<u64>(), 1 << 40);
    }
}
