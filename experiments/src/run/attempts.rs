//! Runs that failed by the host's fault are made again, as often as the experiment allows.
//!
//! Only what is no finding: another process had KSM, the host had no memory for a guest. That a guest
//! crashed, hung or computed something wrong is a result, and a second attempt would hide it.

use super::RunError;
use super::record::RunRecord;
use crate::output::summary::Failure;

/// What is known of a run that could be made again.
pub(super) type Attempt = Result<RunRecord, RunError>;

/// The failure by which an attempt is made again; `None` where it stands.
fn transient(attempt: &Attempt, run: u32) -> Option<Failure> {
    match attempt {
        Ok(record) => {
            let spoils = record.failures.iter().filter(|failure| failure.spoils());
            let spoils = spoils.collect::<Vec<_>>();
            let transient = spoils.iter().all(|failure| failure.is_of_the_host());
            spoils
                .first()
                .filter(|_| transient)
                .map(|&first| first.clone())
        }
        Err(RunError::Output(_)) => None,
        Err(error) => {
            let failure = Failure {
                run,
                class: error.class().to_owned(),
                cause: error.to_string(),
            };
            Some(failure).filter(Failure::is_of_the_host)
        }
    }
}

/// Makes a run, and again after each attempt that failed by the host's fault, `retries` times at
/// most. `between` clears away what a failed attempt left; it is told the number of the attempt and
/// its failure, and says whether there may be another.
///
/// # Errors
/// As the last attempt; or what was left can't be cleared away.
pub(super) fn attempts(
    retries: u32,
    run: u32,
    mut attempt: impl FnMut() -> Attempt,
    mut between: impl FnMut(u32, &Failure) -> Result<bool, RunError>,
) -> Attempt {
    let mut earlier = Vec::new();
    loop {
        let made = attempt();
        let number = u32::try_from(earlier.len()).unwrap_or(u32::MAX);
        let failure = transient(&made, run).filter(|_| number < retries);
        let Some(failure) = failure else {
            return made.map(|record| told(record, earlier));
        };
        if !between(number + 1, &failure)? {
            return made.map(|record| told(record, earlier));
        }
        earlier.push(failure);
    }
}

/// The record, with what went before it.
fn told(mut record: RunRecord, earlier: Vec<Failure>) -> RunRecord {
    let warnings = earlier.iter().zip(1..).map(|(failure, number)| {
        let (class, cause) = (&failure.class, &failure.cause);
        format!("attempt {number} failed and was made again: {class}: {cause}")
    });
    record.warnings.extend(warnings.collect::<Vec<_>>());
    record.earlier = earlier;
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirrorball_dedup::ksm::KsmUnavailable;

    fn record(classes: &[&str]) -> RunRecord {
        let failure = |class: &&str| Failure {
            run: 3,
            class: (*class).to_owned(),
            cause: "why".to_owned(),
        };
        RunRecord {
            failures: classes.iter().map(failure).collect(),
            ..RunRecord::of("all", 3)
        }
    }

    fn in_use() -> RunError {
        RunError::Ksm(KsmUnavailable::InUse("somebody".to_owned()))
    }

    /// How often a run is made of which the first attempts fail like this, and its record.
    fn made(retries: u32, mut fails: Vec<Attempt>) -> (u32, Attempt) {
        fails.reverse();
        let mut times = 0;
        let attempt = || {
            times += 1;
            fails.pop().unwrap_or_else(|| Ok(record(&[])))
        };
        let made = attempts(retries, 3, attempt, |_, _| Ok(true));
        (times, made)
    }

    #[test]
    fn what_the_host_spoilt_is_made_again_and_counted() {
        let (times, made) = made(2, vec![Err(in_use()), Ok(record(&["host"]))]);
        let made = made.unwrap();
        assert_eq!((times, made.earlier.len(), made.failures.len()), (3, 2, 0));
        assert_eq!(made.earlier[0].class, "in-use");
        assert!(made.warnings[1].starts_with("attempt 2 failed"));
    }

    #[test]
    fn no_more_often_than_allowed() {
        let (times, last) = made(1, vec![Err(in_use()), Err(in_use()), Err(in_use())]);
        assert!(times == 2 && last.is_err());
        let (times, last) = made(0, vec![Ok(record(&["host"]))]);
        assert_eq!((times, last.unwrap().failures.len()), (1, 1));
    }

    #[test]
    fn findings_stand() {
        for classes in [
            &["guest"][..],
            &["guest-hung"],
            &["workload"],
            &["timeout"],
            &["memory"],
            &["host", "guest"],
            &["interrupted"],
            &["cleanup-failed"],
        ] {
            let (times, made) = made(5, vec![Ok(record(classes))]);
            assert_eq!(times, 1, "{classes:?}");
            assert_eq!(made.unwrap().failures.len(), classes.len());
        }
    }

    #[test]
    fn who_wants_an_end_gets_it() {
        let mut times = 0;
        let attempt = || {
            times += 1;
            Ok(record(&["host"]))
        };
        let made = attempts(5, 3, attempt, |_, _| Ok(false)).unwrap();
        assert_eq!((times, made.failures.len()), (1, 1));
    }
}
