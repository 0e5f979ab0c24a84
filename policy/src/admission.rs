//! Whether a VM may start.
//!
//! What is guaranteed must be there (OSDI'02, section 6.1): machine memory for every VM's min and for
//! what the monitor itself needs for it, and room on swap for the rest of every VM's memory.

use crate::Claim;
use thiserror::Error;

/// What was promised to VMs and what there is, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    memory: u64,
    swap: u64,
    reserved_memory: u64,
    reserved_swap: u64,
}

/// What a VM that wants to start would have reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applicant {
    /// Its parameters.
    pub claim: Claim,
    /// Pages that the monitor needs for it.
    pub overhead: u64,
}

/// Why a VM may not start, with the arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AdmissionError {
    /// Its min can't be guaranteed.
    #[error(
        "the machine has {memory} pages, {reserved} of them are promised to others: \
         min {min} and overhead {overhead} are {missing} too many"
    )]
    Memory {
        /// Pages of the machine.
        memory: u64,
        /// Pages that others were promised.
        reserved: u64,
        /// Pages that the VM wants guaranteed.
        min: u64,
        /// Pages that the monitor needs for it.
        overhead: u64,
        /// Pages that are missing.
        missing: u64,
    },
    /// What is above its min has no place to go.
    #[error(
        "swap has {swap} pages, {reserved} of them are kept for others: \
         max {max} less min {min} is {missing} too many"
    )]
    Swap {
        /// Pages of swap.
        swap: u64,
        /// Pages kept for others.
        reserved: u64,
        /// Pages of the guest.
        max: u64,
        /// Pages guaranteed.
        min: u64,
        /// Pages that are missing.
        missing: u64,
    },
}

impl Admission {
    /// A machine of `memory` pages with `swap` pages of swap, and nobody on it.
    #[must_use]
    pub const fn new(memory: u64, swap: u64) -> Self {
        Self {
            memory,
            swap,
            reserved_memory: 0,
            reserved_swap: 0,
        }
    }

    /// Pages that are promised: min and overhead of all VMs.
    #[must_use]
    pub const fn reserved_memory(&self) -> u64 {
        self.reserved_memory
    }

    /// Pages of swap that are kept: max less min of all VMs.
    #[must_use]
    pub const fn reserved_swap(&self) -> u64 {
        self.reserved_swap
    }

    /// Reserves what the VM needs.
    ///
    /// # Errors
    /// When it is not there; nothing is reserved then.
    pub fn admit(&mut self, vm: &Applicant) -> Result<(), AdmissionError> {
        let Claim { min, max, .. } = vm.claim;
        let memory = self
            .reserved_memory
            .saturating_add(min)
            .saturating_add(vm.overhead);
        if memory > self.memory {
            return Err(AdmissionError::Memory {
                memory: self.memory,
                reserved: self.reserved_memory,
                min,
                overhead: vm.overhead,
                missing: memory - self.memory,
            });
        }
        let swap = self.reserved_swap.saturating_add(max - min);
        if swap > self.swap {
            return Err(AdmissionError::Swap {
                swap: self.swap,
                reserved: self.reserved_swap,
                max,
                min,
                missing: swap - self.swap,
            });
        }
        (self.reserved_memory, self.reserved_swap) = (memory, swap);
        Ok(())
    }

    /// Gives back what a VM that has ended had reserved.
    pub fn leave(&mut self, vm: &Applicant) {
        let Claim { min, max, .. } = vm.claim;
        self.reserved_memory = self.reserved_memory.saturating_sub(min + vm.overhead);
        self.reserved_swap = self.reserved_swap.saturating_sub(max - min);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(min: u64, max: u64) -> Applicant {
        Applicant {
            claim: Claim::new(1, min, max).unwrap(),
            overhead: 8,
        }
    }

    #[test]
    fn what_is_guaranteed_fits_whoever_comes_and_goes() {
        let mut machine = Admission::new(1000, 2000);
        machine.admit(&vm(400, 1000)).unwrap();
        machine.admit(&vm(500, 600)).unwrap();
        let refused = machine.admit(&vm(100, 100)).unwrap_err();
        let AdmissionError::Memory { missing, .. } = refused else {
            panic!("{refused}")
        };
        assert_eq!(missing, 400 + 500 + 100 + 3 * 8 - 1000);
        assert_eq!(machine.reserved_memory(), 916, "nothing was taken for it");
        machine.leave(&vm(500, 600));
        machine.admit(&vm(100, 100)).unwrap();
        assert_eq!(
            (machine.reserved_memory(), machine.reserved_swap()),
            (516, 600)
        );
    }

    #[test]
    fn what_is_above_min_needs_swap_and_the_refusal_shows_the_sum() {
        let mut machine = Admission::new(1 << 20, 100);
        let refused = machine.admit(&vm(50, 200)).unwrap_err();
        assert!(matches!(refused, AdmissionError::Swap { missing: 50, .. }));
        for number in ["100", "200", "50"] {
            assert!(refused.to_string().contains(number), "{refused}");
        }
        assert_eq!(machine.reserved_memory(), 0);
    }
}
