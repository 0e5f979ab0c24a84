//! What the init of a Linux guest says on its control channel: one line each, as
//! `docs/linux-guests.md` has it.
//!
//! The guest may say anything, in any order, for ever: lines that make no sense are dropped, and
//! what is kept of the others is bounded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

/// Most bytes of output that are kept of one command.
const MOST_OUTPUT: usize = 64 << 10;

/// Most bytes that are kept of a failure's reason.
const MOST_REASON: usize = 200;

/// How far a guest has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// On its way up.
    Booting,
    /// Up, waiting for the word to go.
    Ready,
    /// All commands have ended.
    Done,
}

/// One command's fate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandRecord {
    /// The command.
    pub command: String,
    /// Its exit code; `None` while it has not ended.
    pub exit_code: Option<i32>,
    /// How long it took by the guest's clock, seconds.
    pub seconds: Option<f64>,
    /// What it printed, as far as kept; written to a file of its own.
    #[serde(skip)]
    pub output: Vec<u8>,
    #[serde(skip)]
    began: Option<f64>,
}

/// What a Linux guest did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinuxRecord {
    /// Seconds from the kernel's start until the guest was ready, by its own clock.
    pub up_seconds: Option<f64>,
    /// Its commands.
    pub commands: Vec<CommandRecord>,
}

/// What is known of one guest.
#[derive(Debug)]
pub struct Agent {
    stage: Stage,
    commands: Vec<CommandRecord>,
    failure: Option<String>,
    /// Seconds from the kernel's start until the guest was ready, by its own clock.
    up: Option<f64>,
}

impl Agent {
    /// Of a guest that was just started and will run these commands.
    #[must_use]
    pub fn new(commands: &[String]) -> Self {
        let record = |command: &String| CommandRecord {
            command: command.clone(),
            exit_code: None,
            seconds: None,
            output: Vec::new(),
            began: None,
        };
        Self {
            stage: Stage::Booting,
            commands: commands.iter().map(record).collect(),
            failure: None,
            up: None,
        }
    }

    /// How far the guest has come.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Why the guest can't go on, by its own word.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// What it did so far.
    #[must_use]
    pub fn record(&self) -> LinuxRecord {
        LinuxRecord {
            up_seconds: self.up,
            commands: self.commands.clone(),
        }
    }

    /// The command that has not ended, if one has not: the first, since they run in order.
    #[must_use]
    pub fn running(&self) -> Option<usize> {
        let open = |command: &CommandRecord| command.exit_code.is_none();
        self.commands.iter().position(open)
    }

    /// A command by its number.
    #[must_use]
    pub fn command(&self, number: usize) -> Option<&str> {
        let record = self.commands.get(number)?;
        Some(&record.command)
    }

    /// Takes in one line.
    pub fn take(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("mb") {
            return;
        }
        let what = words.next().unwrap_or_default();
        match what {
            "ready" if self.stage == Stage::Booting => {
                self.stage = Stage::Ready;
                self.up = words.next().and_then(seconds);
            }
            "done" if self.stage == Stage::Ready => self.stage = Stage::Done,
            "fail" => {
                let reason = words.collect::<Vec<_>>().join(" ");
                let reason = reason.chars().take(MOST_REASON).collect();
                self.failure.get_or_insert(reason);
            }
            "begin" | "out" | "end" => {
                let number = words.next().and_then(|word| word.parse::<usize>().ok());
                if let Some(command) = number.and_then(|number| self.commands.get_mut(number)) {
                    command.take(what, words);
                }
            }
            _ => {}
        }
    }

    /// What went wrong with the first command that did not succeed, if one did not.
    #[must_use]
    pub fn first_failure(&self) -> Option<String> {
        self.commands.iter().find_map(|command| {
            let name = &command.command;
            match command.exit_code {
                Some(0) => None,
                Some(code) => Some(format!("`{name}` ended with exit code {code}")),
                None => Some(format!("`{name}` did not end")),
            }
        })
    }
}

impl CommandRecord {
    fn take<'a>(&mut self, what: &str, mut words: impl Iterator<Item = &'a str>) {
        match what {
            "begin" => self.began = words.next().and_then(seconds),
            "out" => {
                let bytes = words.next().and_then(|word| BASE64.decode(word).ok());
                let room = MOST_OUTPUT.saturating_sub(self.output.len());
                self.output.extend(bytes.into_iter().flatten().take(room));
            }
            _ => {
                self.exit_code = words.next().and_then(|word| word.parse().ok());
                let ended = words.next().and_then(seconds);
                self.seconds = ended
                    .zip(self.began)
                    .map(|(ended, began)| (ended - began).max(0.0));
            }
        }
    }
}

/// A time by the guest's clock.
fn seconds(word: &str) -> Option<f64> {
    word.parse()
        .ok()
        .filter(|time: &f64| time.is_finite() && *time >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Agent {
        Agent::new(&["true".to_owned(), "make".to_owned()])
    }

    #[test]
    fn a_guest_that_does_its_work_is_followed_to_the_end() {
        let mut agent = agent();
        assert_eq!(agent.stage(), Stage::Booting);
        for line in [
            "mb ready 2.50",
            "mb begin 0 3.00",
            "mb out 0 aGVsbG8K",
            "mb end 0 0 4.25",
            "mb begin 1 4.25",
            "mb end 1 2 9.25",
        ] {
            agent.take(line);
        }
        assert_eq!(agent.stage(), Stage::Ready);
        agent.take("mb done 9.30");
        assert_eq!(agent.stage(), Stage::Done);
        let record = agent.record();
        assert_eq!(record.up_seconds, Some(2.5));
        let first = &record.commands[0];
        assert_eq!((first.exit_code, first.seconds), (Some(0), Some(1.25)));
        assert_eq!(first.output, b"hello\n");
        assert_eq!(
            agent.first_failure().as_deref(),
            Some("`make` ended with exit code 2")
        );
    }

    #[test]
    fn nonsense_changes_nothing_and_is_not_kept() {
        let mut agent = agent();
        for line in [
            "",
            "mb",
            "done",
            "mb done 1",
            "mb end 7 0 1",
            "mb end x 0 1",
            "mb out 0 !!!",
            "mb begin 0 -1",
            "mb ready NaN",
        ] {
            agent.take(line);
        }
        assert_eq!(agent.stage(), Stage::Ready);
        assert_eq!(agent.record().up_seconds, None);
        assert!(
            agent
                .record()
                .commands
                .iter()
                .all(|command| command.output.is_empty())
        );
        for _ in 0..4000 {
            agent.take(&format!("mb out 1 {}", "QUFB".repeat(16)));
        }
        assert_eq!(agent.record().commands[1].output.len(), MOST_OUTPUT);
    }

    #[test]
    fn a_failure_keeps_its_first_reason() {
        let mut agent = agent();
        agent.take("mb fail no root disk");
        agent.take("mb fail later");
        assert_eq!(agent.failure(), Some("no root disk"));
    }
}
