//! Limits of this process that a machine with many VMs runs into.
//!
//! Each VM costs a handful of descriptors (VM, vCPUs, doorbells): a thousand VMs are past the usual
//! soft limit of 1,024. The hard limit is the administrator's; it is never touched.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to `wanted`, or as near as the hard limit lets it come, and
/// returns the soft limit in force. Never lowers it. `u64::MAX` stands for no limit.
///
/// # Errors
/// What `setrlimit(2)` says.
pub fn raise_nofile(wanted: u64) -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let (current, hard) = (
        limit.current.unwrap_or(u64::MAX),
        limit.maximum.unwrap_or(u64::MAX),
    );
    let target = wanted.min(hard);
    if target <= current {
        return Ok(current);
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(target),
            maximum: limit.maximum,
        },
    )?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_rises_to_the_hard_one_and_never_falls() {
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let raised = raise_nofile(u64::MAX).unwrap();
        assert_eq!(raised, hard);
        assert_eq!(raise_nofile(1).unwrap(), raised);
    }
}
