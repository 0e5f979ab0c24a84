//! `mirrorball watch`: a run in progress, on a terminal, as lines or as JSON.

use std::time::{Duration, Instant};

use mirrorball_experiments::exit;
use mirrorball_experiments::output::table::bytes;
use mirrorball_live::view::{self, End};
use mirrorball_live::{Client, LiveError, Message, Messages, Snapshot};

use crate::print;

/// Lines for people come no faster.
const LINE_PERIOD: Duration = Duration::from_secs(1);

/// Shows the run of that process, or the newest one, until it ends.
pub(crate) fn run(process: Option<u32>, json: bool) -> anyhow::Result<u8> {
    let (client, messages) = match Client::find(process) {
        Ok(found) => found,
        Err(error) => return Ok(failed(&error)),
    };
    let shown = if json {
        as_json(messages)
    } else if view::possible() {
        match view::show(client, messages) {
            Ok(End::User) => return Ok(exit::OK),
            Ok(End::Run) => Ok(()),
            Err(error) => Err(error.into()),
        }
    } else {
        as_lines(messages)
    };
    match shown {
        Ok(()) => {
            eprintln!("the run has ended");
            Ok(exit::OK)
        }
        Err(error) => match error.downcast::<LiveError>() {
            Ok(error) => Ok(failed(&error)),
            Err(error) => Err(error),
        },
    }
}

fn failed(error: &LiveError) -> u8 {
    eprintln!("mirrorball: {error}");
    exit::HOST
}

fn as_json(messages: Messages) -> anyhow::Result<()> {
    for message in messages {
        if let Message::Snapshot(snapshot) = message? {
            print(&format!("{}\n", serde_json::to_string(&snapshot)?))?;
        }
    }
    Ok(())
}

fn as_lines(messages: Messages) -> anyhow::Result<()> {
    let mut last: Option<Instant> = None;
    for message in messages {
        let Message::Snapshot(snapshot) = message? else {
            continue;
        };
        if last.is_none_or(|last| last.elapsed() >= LINE_PERIOD) {
            last = Some(Instant::now());
            print(&line(&snapshot))?;
        }
    }
    Ok(())
}

fn line(snapshot: &Snapshot) -> String {
    let machine = &snapshot.machine;
    let scans = snapshot
        .scans
        .map_or(String::new(), |scans| format!(", pass {scans}"));
    format!(
        "{:.0} s, run {} of {} ({} {}): {}; {}/{} guests, {} used, {} reclaimed{scans}\n",
        machine.time_seconds,
        snapshot.runs_done + 1,
        snapshot.runs,
        machine.cell,
        machine.run,
        machine.phase,
        machine.guests_up.unwrap_or(0),
        snapshot.guests,
        bytes(Some(snapshot.used_bytes)),
        bytes(machine.reclaimed_bytes),
    )
}
