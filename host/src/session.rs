//! A running emulated host, from QEMU's start to its end.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::channels::{Channels, Sockets};
use crate::clock::Clock;
use crate::relay::{Stream, Streams, relay};
use crate::sys::Qemu;
use crate::{HostError, Interrupts, Machine};

/// A boot takes some seconds; on a machine with much else to do it takes longer.
const BOOT_TIME: Duration = Duration::from_secs(180);
/// How long a machine whose command has ended may take to power off.
const OFF_TIME: Duration = Duration::from_secs(10);
/// How long the last words of a machine that is gone may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Signals and QEMU's end are looked for this often.
const POLL: Duration = Duration::from_millis(20);
/// The machine is woken this often: an interrupt that QEMU lost is found by the next one.
const BEAT: Duration = Duration::from_millis(250);
/// A machine that takes no words for this long is not waited for.
const DEAF: Duration = Duration::from_secs(1);
/// What is kept of the console and of QEMU's own words, bytes.
const TAIL: usize = 64 << 10;
/// What is shown of them, lines.
const TAIL_LINES: usize = 15;
/// The shell's codes for a program that could not be started (POSIX, 2.8.2).
const NOT_STARTED: [u8; 2] = [126, 127];
/// The shell's code for a command that SIGKILL ended.
const KILLED: u8 = 128 + 9;
/// What the kernel says when it can't go on.
const PANIC: &str = "Kernel panic";
/// What the kernel says when it has killed a process for memory.
const OUT_OF_MEMORY: &str = "Out of memory: Killed process";

/// What the machine tells.
#[derive(Debug)]
enum Event {
    /// A line of the init.
    Word(String),
    /// A stream of the command ended, with all its bytes or before.
    StreamEnded { whole: bool },
}

/// A machine that was started.
#[derive(Debug)]
pub(crate) struct Session {
    qemu: Qemu,
    control: UnixStream,
    events: Receiver<Event>,
    console: Tail,
    said: Tail,
    started: Instant,
}

/// How far it has got.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// The command was started.
    up: bool,
    /// The command's exit code.
    code: Option<u8>,
    /// Streams that ended whole.
    whole: u8,
    /// How long the machine says that it has been up.
    clock: Clock,
    /// MiB of its memory that were left when they became few.
    memory_left: Option<u64>,
    /// A signal was passed on.
    asked: bool,
}

impl Progress {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Word(word) if word == "ready" => self.up = true,
            Event::Word(word) => {
                let code = number(word, "exit ").and_then(|code| u8::try_from(code).ok());
                self.code = self.code.or(code);
                if let Some(seconds) = number(word, "uptime ") {
                    self.clock.tells(seconds);
                }
                self.memory_left = self.memory_left.or(number(word, "memory "));
            }
            Event::StreamEnded { whole } => self.whole += u8::from(*whole),
        }
    }

    /// The exit code, once nothing of the command is left to come.
    const fn finished(&self) -> Option<u8> {
        if self.whole == 2 { self.code } else { None }
    }
}

impl Session {
    /// Waits for QEMU to connect, and begins to pass on what comes.
    pub(crate) fn connect(
        mut qemu: Qemu,
        sockets: Sockets,
        streams: Streams,
        mark: &str,
    ) -> Result<Self, HostError> {
        let (started, said) = (Instant::now(), Tail::default());
        if let Some(stderr) = qemu.0.stderr.take() {
            said.follow::<ChildStderr>(stderr);
        }
        let channels = sockets.accept(|| {
            if let Some(status) = ended(&mut qemu)? {
                thread::sleep(POLL);
                let status = status.to_string();
                let said = said.lines();
                return Err(HostError::Refused { status, said });
            }
            if started.elapsed() > BOOT_TIME {
                let reason = "QEMU does not answer".to_owned();
                let console = said.lines();
                return Err(HostError::Boot { reason, console });
            }
            thread::sleep(POLL);
            Ok(())
        })?;
        let Channels {
            console: serial,
            control,
            stdout,
            stderr,
        } = channels;
        let console = Tail::default();
        console.follow(serial);
        let (events, receiver) = channel();
        let read = control
            .set_write_timeout(Some(DEAF))
            .and_then(|()| control.try_clone())
            .map_err(HostError::system("connecting to QEMU"))?;
        listen(read, events.clone());
        for (from, to) in [(stdout, streams.stdout), (stderr, streams.stderr)] {
            pass_on(from, to, mark, events.clone());
        }
        Ok(Self {
            qemu,
            control,
            events: receiver,
            console,
            said,
            started,
        })
    }

    /// Stays until the command has ended and the machine is down; the command's exit code.
    pub(crate) fn run(
        mut self,
        machine: &Machine,
        interrupts: &Interrupts,
        progress: &dyn Fn(&str),
    ) -> Result<u8, HostError> {
        let mut state = Progress::default();
        let mut beat = Instant::now();
        loop {
            if state.up && beat.elapsed() >= BEAT {
                beat = Instant::now();
                self.wake();
                if state.clock.beat() && machine.by_instructions {
                    return Err(HostError::StandsStill);
                }
            }
            let before = state;
            match self.events.recv_timeout(POLL) {
                Ok(event) => state.take(&event),
                Err(RecvTimeoutError::Timeout) => {}
                // All that can tell has ended; QEMU's own end is seen below.
                Err(RecvTimeoutError::Disconnected) => thread::sleep(POLL),
            }
            if state.up && !before.up {
                let seconds = self.started.elapsed().as_secs_f64();
                progress(&format!("emulated host: up after {seconds:.1} s"));
            }
            if let (Some(left), None) = (state.memory_left, before.memory_left) {
                progress(&format!(
                    "emulated host: only {left} MiB of its memory are left; with less it will seem to \
                     hang (--host-memory gives it more)"
                ));
            }
            if let Some(code) = state.finished() {
                self.power_off();
                return self.judge(code);
            }
            if let Some(signal) = interrupts.take() {
                self.interrupt(signal, &mut state)?;
            }
            if let Some(status) = ended(&mut self.qemu)? {
                return self.gone(status, state);
            }
            if !state.up && self.started.elapsed() > BOOT_TIME {
                let reason = format!("no word from it within {} s", BOOT_TIME.as_secs());
                let console = self.console.lines();
                return Err(HostError::Boot { reason, console });
            }
        }
    }

    /// Passes the first signal to the command; without a command, or again, it is the end.
    fn interrupt(&mut self, signal: i32, state: &mut Progress) -> Result<(), HostError> {
        let passed = state.up && !state.asked && {
            let word = format!("signal {signal}\n");
            self.control.write_all(word.as_bytes()).is_ok()
        };
        state.asked = true;
        if passed {
            Ok(())
        } else {
            Err(HostError::Stopped(signal))
        }
    }

    /// Interrupts the machine, so that it sees to what waits.
    ///
    /// QEMU 7.2 changes a core's pending interrupts in `VMRUN` and at a nested guest's exits without
    /// the lock that its devices hold: an interrupt that a device raises at that moment stays in the
    /// APIC and is told to nobody. If it is the timer's, and the nested guest waits for a device,
    /// nothing happens any more. Any further interrupt delivers it as well.
    fn wake(&mut self) {
        // A machine that has gone is seen by its process's end.
        let _ = self.control.write_all(b"\n");
    }

    fn power_off(&mut self) {
        let asked = Instant::now();
        let heard = self.control.write_all(b"off\n").is_ok();
        while heard && asked.elapsed() < OFF_TIME && matches!(ended(&mut self.qemu), Ok(None)) {
            thread::sleep(POLL);
        }
    }

    /// The exit code of a command that ended, if it says something of the command.
    fn judge(&self, code: u8) -> Result<u8, HostError> {
        if NOT_STARTED.contains(&code) {
            return Err(HostError::Command(code));
        }
        let console = self.console.lines();
        if code == KILLED && console.contains(OUT_OF_MEMORY) {
            let reason = "it ran out of memory; give it more (--host-memory)".to_owned();
            return Err(HostError::Died { reason, console });
        }
        Ok(code)
    }

    /// What it means that QEMU ended by itself.
    fn gone(&self, status: ExitStatus, mut state: Progress) -> Result<u8, HostError> {
        while let Ok(event) = self.events.recv_timeout(LAST_WORDS) {
            state.take(&event);
        }
        if let Some(code) = state.finished() {
            return self.judge(code);
        }
        let console = self.console.lines();
        let reason = match self.said.lines() {
            _ if console.contains(PANIC) => "its kernel panicked".into(),
            said if status.success() || said.is_empty() => format!("QEMU ended ({status})"),
            said => format!("QEMU ended ({status}): {said}"),
        };
        Err(if state.up {
            HostError::Died { reason, console }
        } else {
            HostError::Boot { reason, console }
        })
    }
}

/// The number after the beginning of a word of the init's.
fn number(word: &str, beginning: &str) -> Option<u64> {
    word.strip_prefix(beginning)?.trim().parse().ok()
}

fn ended(qemu: &mut Qemu) -> Result<Option<ExitStatus>, HostError> {
    qemu.0
        .try_wait()
        .map_err(HostError::system("waiting for QEMU"))
}

fn listen(control: UnixStream, events: Sender<Event>) {
    thread::spawn(move || {
        let words = BufReader::new(control).lines().map_while(Result::ok);
        for word in words {
            if events.send(Event::Word(word)).is_err() {
                return;
            }
        }
    });
}

fn pass_on(from: UnixStream, to: Stream, mark: &str, events: Sender<Event>) {
    let mark = mark.to_owned();
    thread::spawn(move || {
        let whole = relay(from, to, mark.as_bytes());
        // Nobody listens any more when the session was given up.
        let _ = events.send(Event::StreamEnded { whole });
    });
}

/// The end of something that may be long.
#[derive(Clone, Debug, Default)]
struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    /// Reads on a thread of its own until there is no more.
    fn follow<R: Read + Send + 'static>(&self, mut from: R) {
        let tail = self.clone();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut chunk) {
                tail.push(&chunk[..read]);
            }
        });
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(TAIL);
        kept.drain(..excess);
    }

    /// The last lines, as text that is safe to show.
    fn lines(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = kept.iter().copied().collect::<Vec<_>>();
        let text = String::from_utf8_lossy(&bytes);
        let shown = text.replace(|c: char| c.is_control() && c != '\n', "");
        let lines = shown.lines().filter(|line| !line.trim().is_empty());
        let lines = lines.collect::<Vec<_>>();
        // What a kernel says after its panic is long, and says less than the first line.
        let panic = lines.iter().rposition(|line| line.contains(PANIC));
        let first = panic.unwrap_or(lines.len().saturating_sub(TAIL_LINES));
        lines[first..]
            .iter()
            .take(TAIL_LINES)
            .copied()
            .collect::<Vec<_>>()
            .join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_finished_when_its_code_and_all_of_both_streams_are_there() {
        let word = |text: &str| Event::Word(text.to_owned());
        let mut state = Progress::default();
        for event in [
            word("ready"),
            word("exit 6\r"),
            Event::StreamEnded { whole: true },
        ] {
            state.take(&event);
            assert_eq!(state.finished(), None);
        }
        assert!(state.up);
        let mut cut = state;
        cut.take(&Event::StreamEnded { whole: false });
        assert_eq!(cut.finished(), None, "bytes are missing");
        cut.take(&Event::StreamEnded { whole: true });
        assert_eq!(cut.finished(), Some(6));
    }

    #[test]
    fn words_that_are_none_change_nothing() {
        let mut state = Progress::default();
        for word in ["exit", "exit x", "exit 256", "readyy", "memory -1", ""] {
            state.take(&Event::Word(word.to_owned()));
        }
        assert!(!state.up && state.code.is_none() && state.memory_left.is_none());
    }

    #[test]
    fn the_end_of_a_console_is_kept_and_safe_to_show() {
        let tail = Tail::default();
        tail.push(&vec![b'x'; 2 * TAIL]);
        for line in 0..20 {
            tail.push(format!("line {line}\u{1b}[0m\r\n\n").as_bytes());
        }
        let lines = tail.lines();
        assert_eq!(lines.lines().count(), TAIL_LINES);
        assert!(lines.starts_with("line 5[0m\n"), "{lines}");
        assert!(tail.0.lock().unwrap().len() <= TAIL);
        tail.push(b"[ 7.0] Kernel panic - not syncing: sysrq\nCPU: 0\n");
        for line in 0..30 {
            tail.push(format!("trace {line}\n").as_bytes());
        }
        let lines = tail.lines();
        assert!(
            lines.starts_with("[ 7.0] Kernel panic") && lines.ends_with("trace 12"),
            "{lines}"
        );
    }
}
