//! What goes over the socket: one JSON value a line, both ways.

use std::path::PathBuf;

use mirrorball_report::samples::Sample;
use serde::{Deserialize, Serialize};

/// What a run tells those who watch it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// How it goes.
    Snapshot(Box<Snapshot>),
    /// What became of a request: what was done, or why it was not.
    Answer(Result<String, String>),
}

/// What those who watch may ask of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Hold this VM's vCPUs.
    Pause(String),
    /// Let them go on.
    Resume(String),
    /// Turn a mechanism on or off.
    Switch(Switch, bool),
}

/// A mechanism that can be turned on and off while guests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// Copy-on-write disk sharing.
    Disk,
    /// Zero pages.
    Zero,
    /// Content sharing.
    Content,
}

impl Switch {
    /// Its name, as in an experiment file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Zero => "zero",
            Self::Content => "content",
        }
    }
}

/// Which mechanisms are on; `None` where a cell can't have one switched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// [`Switch::Disk`].
    pub disk: Option<bool>,
    /// [`Switch::Zero`].
    pub zero: Option<bool>,
    /// [`Switch::Content`].
    pub content: Option<bool>,
}

impl Switches {
    /// Whether a mechanism is on.
    #[must_use]
    pub const fn get(&self, switch: Switch) -> Option<bool> {
        match switch {
            Switch::Disk => self.disk,
            Switch::Zero => self.zero,
            Switch::Content => self.content,
        }
    }

    /// Notes that a mechanism was switched.
    pub const fn set(&mut self, switch: Switch, on: bool) {
        let place = match switch {
            Switch::Disk => &mut self.disk,
            Switch::Zero => &mut self.zero,
            Switch::Content => &mut self.content,
        };
        *place = Some(on);
    }
}

/// An experiment at one instant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The experiment's name.
    pub experiment: String,
    /// Where its results go.
    pub results: PathBuf,
    /// Runs that have ended, of all cells.
    pub runs_done: u64,
    /// Runs in all.
    pub runs: u64,
    /// Guests at the start of a run.
    pub guests: u64,
    /// Machine memory that the experiment may use, bytes.
    pub budget_bytes: u64,
    /// Machine memory that guests use, bytes.
    pub used_bytes: u64,
    /// The machine; also tells cell, run, phase and time.
    pub machine: Sample,
    /// Passes of the scanner over all memory, or full scans of KSM.
    pub scans: Option<u64>,
    /// Time that sharing held writers in this run, 99th percentile, seconds.
    pub hold_p99_seconds: Option<f64>,
    /// Which mechanisms are on.
    pub switches: Switches,
    /// The VMs there are.
    pub vms: Vec<VmView>,
}

/// One VM at that instant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VmView {
    /// Its name.
    pub name: String,
    /// `created`, `running`, `paused` or `stopped`.
    pub state: String,
    /// Its memory and CPU time; shared memory is counted for the machine only.
    pub sample: Sample,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_requests_are_one_line_each_and_come_back() {
        let snapshot = Snapshot {
            experiment: "two\nlines".into(),
            vms: vec![VmView::default()],
            ..Snapshot::default()
        };
        for message in [
            Message::Snapshot(Box::new(snapshot)),
            Message::Answer(Ok("done".into())),
            Message::Answer(Err("not done".into())),
        ] {
            let line = serde_json::to_string(&message).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Message>(&line).unwrap(), message);
        }
        let line = serde_json::to_string(&Request::Switch(Switch::Content, false)).unwrap();
        assert_eq!(line, r#"{"switch":["content",false]}"#);
    }
}
