//! Progress on stderr: one live line on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use crate::output::samples::Sample;
use crate::output::table::bytes;

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// A live line on a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// A live line.
    Bar,
    /// Plain lines.
    Plain,
    /// Nothing.
    None,
}

/// At least one plain line in this time.
const PLAIN_PERIOD: Duration = Duration::from_secs(30);

/// Shows how an experiment goes.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    bar: ProgressBar,
    guests: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    prefix: String,
    last_plain: Instant,
    /// Runs that this process has made, and will make.
    done: usize,
    runs: usize,
    began: Instant,
}

impl Progress {
    /// Progress of runs of so many guests.
    #[must_use]
    pub fn new(style: Style, guests: u64) -> Self {
        let terminal =
            stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let style = match style {
            Style::Auto if terminal => Style::Bar,
            Style::Auto => Style::Plain,
            other => other,
        };
        let target = if style == Style::Bar {
            ProgressDrawTarget::stderr_with_hz(8)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        // Three short lines instead of a long one: at 80 columns nothing wraps.
        let template = "[{elapsed_precise}] {wide_bar} run {pos}/{len}\n{prefix}\n{wide_msg}";
        if let Ok(shape) = ProgressStyle::with_template(template) {
            bar.set_style(shape);
        }
        let state = Mutex::new(State {
            prefix: String::new(),
            last_plain: Instant::now(),
            done: 0,
            runs: 0,
            began: Instant::now(),
        });
        Self {
            style,
            bar,
            guests,
            state,
        }
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        match self.style {
            Style::None => {}
            Style::Bar => self.bar.suspend(|| eprintln!("{text}")),
            Style::Auto | Style::Plain => eprintln!("{text}"),
        }
    }

    /// A line that was asked for, however progress is shown.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// A phase begins.
    pub fn phase(&self, cell: &str, run: u32, phase: &str) {
        let prefix = format!("{cell} {run}: {phase}");
        self.bar.set_prefix(prefix.clone());
        self.bar.set_message("");
        self.state.lock().prefix = prefix;
    }

    /// A sample of the machine.
    pub fn sample(&self, sample: &Sample) {
        let used = sample.private_bytes + sample.frames_bytes.unwrap_or(0);
        let used = used.saturating_sub(sample.ksm_bytes.unwrap_or(0));
        let state = format!(
            "{}/{} guests, {} used, {} guest-physical",
            sample.guests_up.unwrap_or(0),
            self.guests,
            bytes(Some(used)),
            bytes(Some(sample.guest_physical_bytes))
        );
        let saved = saved(sample);
        let mut shown = self.state.lock();
        self.bar.set_prefix(format!("{}: {state}", shown.prefix));
        self.bar.set_message(saved.clone());
        if self.style == Style::Plain && shown.last_plain.elapsed() > PLAIN_PERIOD {
            shown.last_plain = Instant::now();
            eprintln!("{}: {state}; {saved}", shown.prefix);
        }
    }

    /// So many runs come now.
    pub fn runs_left(&self, runs: usize) {
        self.bar.set_length(runs as u64);
        let mut state = self.state.lock();
        (state.done, state.runs, state.began) = (0, runs, Instant::now());
    }

    /// A run that might have come is not needed.
    pub fn run_skipped(&self) {
        let mut state = self.state.lock();
        state.runs = state.runs.saturating_sub(1);
        self.bar.set_length(state.runs as u64);
    }

    /// A run ended.
    pub fn run_ended(&self, text: &str) {
        let mut state = self.state.lock();
        state.done += 1;
        state.last_plain = Instant::now();
        let left = time_left(state.began.elapsed(), state.done, state.runs);
        self.bar.inc(1);
        self.line(&format!("[{}/{}] {text}{left}", state.done, state.runs));
    }

    /// Nothing more comes.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// What is still to come, by what the runs so far took.
fn time_left(elapsed: Duration, done: usize, runs: usize) -> String {
    let left = u32::try_from(runs.saturating_sub(done)).unwrap_or(u32::MAX);
    let each = elapsed / u32::try_from(done.max(1)).unwrap_or(u32::MAX);
    match each.saturating_mul(left).as_secs_f64().ceil() {
        0.0 => String::new(),
        seconds if seconds < 120.0 => format!("; about {seconds} s left"),
        seconds => format!("; about {} min left", (seconds / 60.0).ceil()),
    }
}

/// What each mechanism saves now.
fn saved(sample: &Sample) -> String {
    let by = [
        ("disk", sample.disk_bytes),
        ("network", sample.network_bytes),
        ("content", sample.content_bytes),
        ("zero", Some(sample.zero_bytes)),
        ("KSM", sample.ksm_bytes),
    ];
    let parts = by
        .into_iter()
        .filter(|(_, saved)| saved.is_some_and(|saved| saved > 0))
        .map(|(name, saved)| format!("{name} {}", bytes(saved)))
        .collect::<Vec<_>>();
    if parts.is_empty() {
        "nothing saved".to_owned()
    } else {
        format!("saved by {}", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_runs_so_far() {
        let left = |seconds, done, runs| time_left(Duration::from_secs(seconds), done, runs);
        assert_eq!(left(10, 1, 4), "; about 30 s left");
        assert_eq!(left(100, 2, 6), "; about 4 min left");
        assert_eq!(left(100, 6, 6), "");
    }

    #[test]
    fn what_is_saved_is_told_by_mechanism() {
        let mut sample = Sample::default();
        assert_eq!(saved(&sample), "nothing saved");
        sample.disk_bytes = Some(3 << 20);
        sample.zero_bytes = 4096;
        assert_eq!(saved(&sample), "saved by disk 3.0 MiB, zero 4.0 KiB");
    }
}
