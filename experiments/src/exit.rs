//! Exit codes, for scripts and continuous integration.
//!
//! The smallest cause wins from 1 to 4, then 5, 9, 6, 7, 8; `summary.json` holds all causes.

use std::process::ExitCode;

/// All planned runs are done and every expectation is met.
pub const OK: u8 = 0;
/// Unexpected internal error.
pub const INTERNAL: u8 = 1;
/// Usage error.
pub const USAGE: u8 = 2;
/// The experiment file is invalid.
pub const INVALID: u8 = 3;
/// The host can't run it (capability, permission, memory, room).
pub const HOST: u8 = 4;
/// At least one run failed, or the host could not be left as it was.
pub const RUN_FAILED: u8 = 5;
/// An expectation is not met.
pub const NOT_MET: u8 = 6;
/// Regression against a stored result.
pub const REGRESSION: u8 = 7;
/// Inconclusive, and `--strict` was given.
pub const INCONCLUSIVE: u8 = 8;
/// Results are damaged or can't be compared.
pub const DAMAGED: u8 = 9;
/// Stopped by SIGINT.
pub const INTERRUPTED: u8 = 130;
/// Stopped by SIGTERM.
pub const TERMINATED: u8 = 143;

/// For `--help`.
pub const HELP: &str = "Exit codes:
  0    all runs done, every expectation met
  1    unexpected internal error
  2    usage error
  3    experiment file invalid
  4    host cannot run it (capability, permission, memory, room)
  5    at least one run failed, or the host could not be left as it was
  6    an expectation is not met
  7    worse than a stored result, or other than it when run again
  8    a claim or a change can't be judged, and --strict was given
  9    results damaged, not to be compared, or not of the experiment to be resumed
  130  stopped by SIGINT (Ctrl-C)
  143  stopped by SIGTERM";

/// The order in which the codes of several commands count; others come last.
const WORST_FIRST: [u8; 11] = [
    INTERRUPTED,
    TERMINATED,
    INTERNAL,
    USAGE,
    INVALID,
    HOST,
    RUN_FAILED,
    DAMAGED,
    NOT_MET,
    REGRESSION,
    INCONCLUSIVE,
];

/// The code of several commands together: what stopped them, or else the worst cause.
#[must_use]
pub fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    let rank = |code: &u8| {
        let known = WORST_FIRST.iter().position(|known| known == code);
        known.unwrap_or(WORST_FIRST.len())
    };
    let causes = codes.into_iter().filter(|code| *code != OK);
    causes.min_by_key(rank).unwrap_or(OK)
}

/// The code of a command that a signal stopped.
#[must_use]
pub fn of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(INTERRUPTED)
}

/// A code for `main` to return.
#[must_use]
pub fn code(value: u8) -> ExitCode {
    ExitCode::from(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_counts() {
        assert_eq!(worst([]), OK);
        assert_eq!(worst([OK, INCONCLUSIVE, NOT_MET, OK]), NOT_MET);
        assert_eq!(worst([NOT_MET, RUN_FAILED, HOST]), HOST);
        assert_eq!(worst([INTERNAL, INTERRUPTED]), INTERRUPTED);
        assert_eq!(worst([OK, 77]), 77);
        assert_eq!([of_signal(2), of_signal(15)], [INTERRUPTED, TERMINATED]);
    }
}
