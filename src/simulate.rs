//! `mirrorball simulate`: model guests under the memory policy.

use std::path::Path;

use mirrorball_experiments::{exit, simulate, spec};

use crate::{print, print_json};

/// Runs the model of a file and prints what came of it.
pub(crate) fn simulate(file: &Path, json: bool) -> anyhow::Result<u8> {
    let simulation = match spec::load_simulation(file) {
        Ok(simulation) => simulation,
        Err(error) => {
            eprintln!("{error}");
            return Ok(exit::INVALID);
        }
    };
    let outcome = simulate::run(&simulation);
    if json {
        return print_json(&outcome);
    }
    print(&outcome.text())?;
    Ok(exit::OK)
}
