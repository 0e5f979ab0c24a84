//! What earlier runs of an experiment took, for the plan of the next.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::spec::Experiment;

/// Results that are looked at, the newest first.
const MOST_RESULTS: usize = 20;

/// What earlier runs took, by cell.
#[derive(Debug, Default)]
pub struct History {
    seconds: BTreeMap<String, Vec<f64>>,
    /// The most machine memory that guests of any run used, bytes.
    pub peak_bytes: Option<u64>,
    /// Runs that this was learnt from.
    pub runs: usize,
}

impl History {
    /// Looks through the results in a folder for those of that experiment on the same kind of host.
    #[must_use]
    pub fn of(directory: &Path, experiment: &Experiment, emulated: bool) -> Self {
        let mut history = Self::default();
        let prefix = format!("{}-", experiment.name);
        let entries = std::fs::read_dir(directory);
        let names = entries.into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names = names
            .filter(|name| name.starts_with(&prefix))
            .collect::<Vec<_>>();
        // Names end with the time.
        names.sort();
        for name in names.iter().rev().take(MOST_RESULTS) {
            let file = directory.join(name).join("run.json");
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if let Ok(run) = serde_json::from_str(&text) {
                history.learn(&run, &experiment.name, emulated);
            }
        }
        history
    }

    fn learn(&mut self, run: &Value, name: &str, emulated: bool) {
        let elsewhere = run["provenance"]["host"]["emulated"].is_null() == emulated;
        if run["experiment"]["name"] != name || elsewhere {
            return;
        }
        for run in run["runs"].as_array().into_iter().flatten() {
            let done = run["failures"].as_array().is_some_and(Vec::is_empty);
            let (cell, seconds) = (run["cell"].as_str(), run["seconds"].as_f64());
            if let (true, Some(cell), Some(seconds)) = (done, cell, seconds) {
                self.add(cell, seconds);
                let used = run["figures"]["memory"]["machine_used"].as_u64();
                self.peak_bytes = self.peak_bytes.max(used);
            }
        }
    }

    /// A run of a cell took so long.
    pub fn add(&mut self, cell: &str, seconds: f64) {
        self.seconds
            .entry(cell.to_owned())
            .or_default()
            .push(seconds);
        self.runs += 1;
    }

    /// How long a run of a cell should take: as the middle one of its own runs, or else of all runs.
    #[must_use]
    pub fn seconds(&self, cell: &str) -> Option<f64> {
        let own = self.seconds.get(cell).cloned();
        let values = own.unwrap_or_else(|| self.seconds.values().flatten().copied().collect());
        (!values.is_empty()).then(|| mirrorball_report::stats::median(&values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn runs_of_the_same_experiment_on_the_same_kind_of_host_count() {
        let run = |cell: &str, seconds: f64| {
            json!({ "cell": cell, "seconds": seconds, "failures": [],
                    "figures": { "memory": { "machine_used": 4096 } } })
        };
        let file = |name: &str, emulated: Value, runs: Vec<Value>| {
            json!({ "experiment": { "name": name },
                    "provenance": { "host": { "emulated": emulated } }, "runs": runs })
        };
        let mut history = History::default();
        let here = file(
            "x",
            Value::Null,
            vec![run("a", 2.0), run("a", 4.0), run("b", 9.0)],
        );
        history.learn(&here, "x", false);
        history.learn(&file("y", Value::Null, vec![run("a", 90.0)]), "x", false);
        history.learn(&file("x", json!({}), vec![run("a", 90.0)]), "x", false);
        let failed = json!({ "cell": "a", "seconds": 90.0, "failures": [{}] });
        history.learn(&file("x", Value::Null, vec![failed]), "x", false);
        assert_eq!(
            (history.seconds("a"), history.seconds("b")),
            (Some(3.0), Some(9.0))
        );
        assert_eq!(history.seconds("new"), Some(4.0), "the middle of all");
        assert_eq!((history.runs, history.peak_bytes), (3, Some(4096)));
        assert_eq!(History::default().seconds("a"), None);
    }
}
