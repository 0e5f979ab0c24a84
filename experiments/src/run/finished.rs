//! What an experiment that was run tells its user: the exit code, and the last lines.

use std::path::PathBuf;

use crate::exit;
use crate::output::summary::{Summary, Verdict};

/// Files of results that a user is told of, where they are there.
const FILES: [&str; 5] = [
    "table.txt",
    "memory.png",
    "summary.json",
    "run.json",
    "samples.csv",
];

/// What an experiment gave.
#[derive(Debug)]
pub struct Finished {
    /// The figures.
    pub summary: Summary,
    /// Where they are.
    pub folder: PathBuf,
    /// The exit code that says how it went.
    pub exit_code: u8,
}

impl Finished {
    /// The last lines for people: the verdict, the files and what to do next.
    #[must_use]
    pub fn closing(&self) -> String {
        let folder = self.folder.display();
        let files = FILES
            .into_iter()
            .filter(|name| self.folder.join(name).exists());
        let files = files.collect::<Vec<_>>().join(", ");
        let again = format!("mirrorball run --resume {folder}");
        let next = if self.summary.interrupted {
            again
        } else if self.folder.join("consoles").exists() {
            format!("less {folder}/consoles/*")
        } else {
            match self.summary.verdict {
                Verdict::Met | Verdict::NotMet => format!("mirrorball report {folder}"),
                // What failed was told by a run, not by the host.
                Verdict::Failed if self.summary.cells.iter().any(|c| !c.failures.is_empty()) => {
                    format!("less {folder}/summary.json")
                }
                Verdict::Inconclusive | Verdict::NotSupported | Verdict::Failed => {
                    "mirrorball doctor".to_owned()
                }
            }
        };
        let verdict = if self.summary.interrupted {
            "stopped before the end"
        } else {
            self.summary.verdict.word()
        };
        format!("verdict: {verdict}\nresults: {folder} ({files})\nnext:    {next}\n")
    }
}

/// The exit code of a summary.
pub(super) fn exit_code(summary: &Summary) -> u8 {
    let mut failures = summary.cells.iter().flat_map(|cell| &cell.failures);
    let dirty = failures.any(|failure| !failure.spoils());
    match summary.verdict {
        Verdict::Met | Verdict::Inconclusive if dirty => exit::RUN_FAILED,
        Verdict::Met | Verdict::Inconclusive => exit::OK,
        Verdict::NotSupported => exit::HOST,
        Verdict::NotMet => exit::NOT_MET,
        Verdict::Failed => exit::RUN_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::summary::{Cell, Failure};
    use crate::output::table;

    #[test]
    fn what_could_not_be_cleaned_up_is_told_and_spoils_nothing() {
        let cell = Cell {
            runs: 1,
            failures: vec![Failure {
                run: 1,
                class: Failure::CLEANUP.to_owned(),
                cause: "KSM".to_owned(),
            }],
            ..Cell::default()
        };
        assert_eq!(table::verdict(&cell), Verdict::Met);
        let mut summary = Summary {
            schema_version: 1,
            name: "x".into(),
            verdict: Verdict::Met,
            interrupted: false,
            emulated: false,
            smoke: false,
            causes: vec![],
            cells: vec![cell],
        };
        assert_eq!(exit_code(&summary), exit::RUN_FAILED);
        summary.verdict = Verdict::NotMet;
        assert_eq!(exit_code(&summary), exit::NOT_MET);
    }

    #[test]
    fn the_last_lines_say_verdict_files_and_what_to_do_next() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("summary.json"), "{}").unwrap();
        let mut finished = Finished {
            summary: Summary {
                schema_version: 1,
                name: "x".into(),
                verdict: Verdict::Failed,
                interrupted: true,
                emulated: false,
                smoke: false,
                causes: vec![],
                cells: vec![],
            },
            folder: place.path().to_owned(),
            exit_code: exit::INTERRUPTED,
        };
        let stopped = finished.closing();
        assert!(stopped.contains("verdict: stopped"), "{stopped}");
        assert!(stopped.contains("(summary.json)"), "{stopped}");
        assert!(
            stopped.contains("next:    mirrorball run --resume /"),
            "{stopped}"
        );

        finished.summary.interrupted = false;
        finished.summary.verdict = Verdict::NotSupported;
        assert_eq!(exit_code(&finished.summary), exit::HOST);
        finished.summary.verdict = Verdict::Failed;
        std::fs::create_dir(place.path().join("consoles")).unwrap();
        let failed = finished.closing();
        assert!(failed.contains("verdict: failed"), "{failed}");
        assert!(failed.ends_with("consoles/*\n"), "{failed}");
    }
}
