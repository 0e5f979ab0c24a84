//! A guest of either side: what it is made of, and the talk with its `init`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mirrorball_debian::GuestImage;
use mirrorball_vnet::Network;

use super::super::BenchError;
use crate::run::agent::{Agent, CommandRecord, Stage};

/// How long a guest may say nothing.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Bytes of a failed command's output that are told.
const MOST_OUTPUT: usize = 400;

/// Lines of a guest's console that are told when it gives up.
const CONSOLE_LINES: usize = 8;

/// What a guest is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Kernel, initramfs and root.
    pub image: GuestImage,
    /// Disks after the root; the guest gets copies of its own, or reads only.
    pub disks: Vec<PathBuf>,
    /// What it shall run.
    pub commands: Vec<String>,
    /// Its place on a network, if it has one.
    pub place: Option<Place>,
}

/// A guest's place on a network of either side.
#[derive(Clone, Debug)]
pub struct Place {
    /// Our network.
    pub network: Arc<Network>,
    /// Name of a TAP device, for QEMU.
    pub tap: String,
    /// Which of the guests it is, from 1: its addresses follow from it.
    pub number: u32,
}

/// A guest's control channel.
pub trait Channel {
    /// The lines that have come since the last call; waits for one up to [`PATIENCE`].
    fn hear(&mut self) -> Result<Vec<String>, BenchError>;
    /// Sends a line.
    fn say(&mut self, word: &str) -> Result<(), BenchError>;
    /// What the guest has printed on its serial port, or the end of it.
    fn console(&self) -> String;
}

/// A guest and what it has said.
#[derive(Debug)]
pub struct Talk<C> {
    channel: C,
    agent: Agent,
}

impl<C: Channel> Talk<C> {
    /// With a guest that was just started.
    pub fn new(channel: C, plan: &Plan) -> Self {
        let agent = Agent::new(&plan.commands);
        Self { channel, agent }
    }

    /// What the guest is spoken with through.
    pub fn channel(&self) -> &C {
        &self.channel
    }

    /// Waits until the guest is up.
    pub fn ready(&mut self) -> Result<(), BenchError> {
        self.reach(Stage::Ready)
    }

    /// Has the guest begin with its commands.
    pub fn go(&mut self) -> Result<(), BenchError> {
        self.channel.say("go")
    }

    /// Waits until all commands have ended, each with success.
    pub fn done(&mut self) -> Result<Vec<CommandRecord>, BenchError> {
        self.reach(Stage::Done)?;
        let commands = self.agent.record().commands;
        match self.agent.first_failure() {
            None => Ok(commands),
            Some(failure) => {
                let bad = commands.iter().find(|one| one.exit_code != Some(0));
                let output = bad.map_or(&[][..], |one| &one.output);
                let said = &output[..output.len().min(MOST_OUTPUT)];
                let said = String::from_utf8_lossy(said);
                Err(BenchError(format!("{failure}: {}", said.trim())))
            }
        }
    }

    /// Has the guest power off.
    pub fn off(mut self) -> Result<C, BenchError> {
        self.channel.say("stop")?;
        Ok(self.channel)
    }

    /// All of it: up, through its commands, and told to power off.
    pub fn whole(mut self) -> Result<(C, Vec<CommandRecord>), BenchError> {
        self.ready()?;
        self.go()?;
        let commands = self.done()?;
        Ok((self.off()?, commands))
    }

    fn reach(&mut self, stage: Stage) -> Result<(), BenchError> {
        while self.agent.stage() < stage {
            for line in self.channel.hear()? {
                self.agent.take(&line);
            }
            if let Some(reason) = self.agent.failure() {
                let console = self.channel.console();
                let lines: Vec<_> = console
                    .lines()
                    .filter(|line| !line.trim().is_empty())
                    .collect();
                let last = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("; ");
                return Err(BenchError(format!(
                    "the guest gave up: {reason} (last on its console: {last})"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest that says this and hears that.
    #[derive(Default)]
    struct Script {
        lines: Vec<&'static str>,
        heard: Vec<String>,
    }

    impl Channel for Script {
        fn hear(&mut self) -> Result<Vec<String>, BenchError> {
            if self.lines.is_empty() {
                return Err(BenchError("silence".to_owned()));
            }
            Ok(vec![self.lines.remove(0).to_owned()])
        }

        fn say(&mut self, word: &str) -> Result<(), BenchError> {
            self.heard.push(word.to_owned());
            Ok(())
        }

        fn console(&self) -> String {
            "EXT4-fs (vda): no journal found\n\n".to_owned()
        }
    }

    fn talk(lines: &[&'static str]) -> Talk<Script> {
        let image = GuestImage {
            kernel: PathBuf::new(),
            initramfs: PathBuf::new(),
            root: None,
            release: String::new(),
            id: String::new(),
        };
        let plan = Plan {
            image,
            disks: Vec::new(),
            commands: vec!["true".to_owned()],
            place: None,
        };
        let script = Script {
            lines: lines.to_vec(),
            heard: Vec::new(),
        };
        Talk::new(script, &plan)
    }

    #[test]
    fn a_guest_is_led_from_its_start_to_its_end() {
        let lines = ["mb ready 1", "mb begin 0 2", "mb end 0 0 5", "mb done 5"];
        let (script, commands) = talk(&lines).whole().unwrap();
        assert_eq!(script.heard, ["go", "stop"]);
        assert_eq!(commands[0].seconds, Some(3.0));
    }

    #[test]
    fn what_a_failed_command_said_is_told() {
        let lines = [
            "mb ready 1",
            "mb begin 0 2",
            "mb out 0 bm8gZGlzawo=",
            "mb end 0 1 5",
            "mb done 5",
        ];
        let error = talk(&lines).whole().err().unwrap().to_string();
        assert!(error.contains("exit code 1: no disk"), "{error}");
        let error = talk(&["mb fail no root"])
            .whole()
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("no root"), "{error}");
        assert!(error.contains("(vda): no journal found)"), "{error}");
        assert!(talk(&["mb ready 1"]).whole().is_err());
    }
}
