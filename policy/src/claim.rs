//! What a VM may ask for, and what the idle memory tax makes of it.

use thiserror::Error;

/// A VM's resource parameters (OSDI'02, section 5.1), in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its weight against the other VMs; at least 1.
    pub shares: u64,
    /// Pages that it is given whatever happens.
    pub min: u64,
    /// Pages that its guest sees: it never gets more.
    pub max: u64,
}

/// A parameter that can't be meant.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum ClaimError {
    /// A VM without shares would never get anything beyond its min.
    #[error("a VM needs at least one share")]
    NoShares,
    /// More is guaranteed than the guest can have.
    #[error("min is {min} pages and max only {max}: min may be at most max")]
    MinAboveMax {
        /// Guaranteed pages.
        min: u64,
        /// Pages of the guest.
        max: u64,
    },
    /// At a rate of 1 an idle page would cost infinitely much.
    #[error("the idle memory tax is {} %: it must be at least 0 % and below 100 %", percent(*.0))]
    TaxOutOfRange(f64),
}

/// A rate in percent, as it would be written: without the noise of binary fractions.
fn percent(rate: f64) -> f64 {
    (rate * 1e6).round() / 1e4
}

impl Claim {
    /// A claim whose numbers agree.
    ///
    /// # Errors
    /// Without shares, or with a min above max.
    pub const fn new(shares: u64, min: u64, max: u64) -> Result<Self, ClaimError> {
        if shares == 0 {
            return Err(ClaimError::NoShares);
        }
        if min > max {
            return Err(ClaimError::MinAboveMax { min, max });
        }
        Ok(Self { shares, min, max })
    }
}

/// The idle memory tax (OSDI'02, section 5.2): an idle page costs a VM `1 / (1 - rate)` times what an
/// active one does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IdleTax(f64);

impl IdleTax {
    /// No tax: shares alone decide.
    pub const NONE: Self = Self(0.0);

    /// A tax of `rate`, from 0 to below 1.
    ///
    /// # Errors
    /// When the rate is outside of that, or no number.
    pub fn new(rate: f64) -> Result<Self, ClaimError> {
        if (0.0..1.0).contains(&rate) {
            Ok(Self(rate))
        } else {
            Err(ClaimError::TaxOutOfRange(rate))
        }
    }

    /// The rate.
    #[must_use]
    pub const fn rate(self) -> f64 {
        self.0
    }

    /// What an idle page costs, in active pages: the paper's `k`.
    #[must_use]
    pub fn idle_price(self) -> f64 {
        1.0 / (1.0 - self.0)
    }
}

impl Default for IdleTax {
    /// The paper's: 75 %, an idle page costs as much as four active ones.
    fn default() -> Self {
        Self(0.75)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_that_can_not_be_meant_are_refused_with_their_numbers() {
        assert_eq!(Claim::new(0, 1, 2), Err(ClaimError::NoShares));
        let error = Claim::new(1, 3, 2).unwrap_err().to_string();
        assert!(error.contains('3') && error.contains('2'), "{error}");
        assert!(Claim::new(1, 2, 2).is_ok());
    }

    #[test]
    fn a_tax_is_a_rate_below_one() {
        for rate in [-0.1, 1.0, 1.5, f64::NAN, f64::INFINITY] {
            assert!(IdleTax::new(rate).is_err(), "{rate}");
        }
        let told = IdleTax::new(1.07).unwrap_err().to_string();
        assert!(told.starts_with("the idle memory tax is 107 %:"), "{told}");
        assert!((IdleTax::default().idle_price() - 4.0).abs() < 1e-12);
        assert!((IdleTax::NONE.idle_price() - 1.0).abs() < 1e-12);
    }
}
