//! What tests with real guests share: whether guests can run, and runs that show nothing.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use mirrorball_experiments::run::{self, Finished, Options, Style};
use mirrorball_experiments::spec::{self, HostFacts, Loaded};
use mirrorball_experiments::{doctor, exit};

static SKIPPED: AtomicU32 = AtomicU32::new(0);

/// False, told and counted, where no guest can run.
pub fn guests_can_run(test: &str) -> bool {
    let able = doctor::examine().exit_code() == exit::OK;
    if !able {
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        eprintln!("NOT RUN ({count}): {test} needs /dev/kvm; see `mirrorball doctor`");
    }
    able
}

/// The experiment of a text, of which `settings` change fields.
pub fn load(text: String, settings: &[String]) -> Loaded {
    let host = HostFacts {
        memory: u64::MAX,
        // Not where results go: a test's disk that is too small is to be found by the run.
        results: Some(env!("CARGO_TARGET_TMPDIR").into()),
    };
    spec::check_changed("test.yaml", text, settings, Path::new("."), &host)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Options of a run that shows nothing and writes to `output`.
pub fn quiet(output: &Path) -> Options {
    Options {
        output: Some(output.to_owned()),
        progress: Style::None,
        ..Options::default()
    }
}

/// Runs it to its end.
pub fn run(loaded: &Loaded, output: &Path) -> Finished {
    run::run(loaded, &quiet(output)).unwrap()
}

/// Writes small source files, a disk's content: no test depends on what cargo has downloaded.
pub fn write_sources(folder: &Path, files: u32) {
    for number in 0..files {
        let line = format!("fn function_{number}(x: u64) -> u64 {{ x + {number} }}\n");
        std::fs::write(folder.join(format!("{number}.rs")), line.repeat(200)).unwrap();
    }
}
