//! `mirrorball doctor`: the host, what is in the way, and settings of it that can be changed.

use std::process::Command;

use mirrorball_experiments::doctor::{Change, Place, examine};
use mirrorball_experiments::exit;

use crate::host::HostOptions;

/// Options of `mirrorball doctor`.
#[derive(clap::Args)]
pub(crate) struct DoctorOptions {
    /// Change what disturbs measurements and root can set: mappings of a process, huge pages, clock
    #[arg(long, conflicts_with = "restore")]
    fix: bool,
    /// Give back what --fix changed
    #[arg(long)]
    restore: bool,
    /// With --fix: a command to run in between; afterwards everything is given back
    #[arg(last = true, requires = "fix", value_name = "COMMAND")]
    command: Vec<String>,
    #[command(flatten)]
    pub(crate) host: HostOptions,
}

/// Examines the host, or changes it; the exit code.
pub(crate) fn doctor(options: &DoctorOptions, json: bool) -> anyhow::Result<u8> {
    let place = Place::default();
    if options.fix || options.restore {
        let changed = if options.fix {
            place.fix()
        } else {
            place.restore()
        };
        match changed {
            Ok(changes) => tell(&changes),
            Err(error) => {
                eprintln!("mirrorball: {error}; only root can change settings of the host");
                return Ok(exit::HOST);
            }
        }
    }
    let Some((program, arguments)) = options.command.split_first() else {
        let diagnosis = examine();
        let text = if json {
            format!("{:#}\n", diagnosis.json())
        } else {
            diagnosis.text()
        };
        crate::print(&text)?;
        return Ok(diagnosis.exit_code());
    };
    // Ctrl-C is for the command; this has to give the settings back behind it.
    let _signals = mirrorball_host::Interrupts::install()?;
    let status = Command::new(program).args(arguments).status();
    match place.restore() {
        Ok(changes) => tell(&changes),
        Err(error) => eprintln!("mirrorball: {error}; try again with doctor --restore"),
    }
    let code = status?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or(exit::INTERRUPTED))
}

fn tell(changes: &[Change]) {
    for change in changes {
        let Change {
            setting,
            before,
            after,
        } = change;
        eprintln!("mirrorball: /{setting}: {before} is now {after}");
    }
    if changes.is_empty() {
        eprintln!("mirrorball: no setting had to be changed");
    }
}
