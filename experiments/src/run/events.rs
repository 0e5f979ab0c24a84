//! What happened in a run, and when: `events/<cell>-run<N>.ndjson`, one JSON object in each line.

use std::time::Instant;

use serde_json::{Value, json};

use crate::spec::Event;

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub struct Events {
    began: Option<Instant>,
    events: Vec<Value>,
}

impl Events {
    /// Nothing yet; times count from now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            began: Some(Instant::now()),
            events: Vec::new(),
        }
    }

    /// A phase began.
    pub fn phase(&mut self, name: &str) {
        self.add(json!({ "event": "phase", "name": name }));
    }

    /// Something of the timeline happened, or failed.
    pub fn timeline(&mut self, event: &Event, failed: Option<String>) {
        let mut what = json!({ "event": "timeline", "what": event });
        if let Some(failed) = failed {
            what["failed"] = failed.into();
        }
        self.add(what);
    }

    /// Something was noticed (`warning`) or failed (`failure`), at whatever time.
    pub fn told(&mut self, event: &str, text: &str) {
        self.events.push(json!({ "event": event, "text": text }));
    }

    fn add(&mut self, mut event: Value) {
        let seconds = self.began.map(|began| began.elapsed().as_secs_f64());
        event["time_seconds"] = seconds.into();
        self.events.push(event);
    }

    /// The file's text; empty for no events.
    #[must_use]
    pub fn text(&self) -> String {
        let lines = self.events.iter().map(|event| format!("{event}\n"));
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_an_object_with_its_time() {
        let mut events = Events::start();
        events.phase("workload");
        let mark = Event::Mark {
            name: "half".to_owned(),
        };
        events.timeline(&mark, Some("why not".to_owned()));
        events.told("warning", "slow");
        let text = events.text();
        let lines = text.lines().map(serde_json::from_str::<Value>);
        let lines = lines.collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(lines[0]["name"], "workload");
        assert_eq!(lines[1]["what"]["mark"]["name"], "half");
        assert_eq!(lines[1]["failed"], "why not");
        assert!(lines[1]["time_seconds"].as_f64() >= lines[0]["time_seconds"].as_f64());
        assert_eq!(lines[2]["text"], "slow");
    }
}
