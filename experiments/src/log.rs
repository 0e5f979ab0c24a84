//! The log on stderr: warnings and errors, or what `MIRRORBALL_LOG` asks for.

use tracing_subscriber::EnvFilter;

/// What is told unless asked for otherwise. That a bar of no length is not drawn is no news.
const USUAL: &str = "warn,usvg=error,resvg=error";

/// Starts logging; to be called once, by the binary.
pub fn start() {
    let filter =
        EnvFilter::try_from_env("MIRRORBALL_LOG").unwrap_or_else(|_| EnvFilter::new(USUAL));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second call would be a second logger; the first stays.
    let _ = log
        .with_ansi(terminal && !plain)
        .with_target(false)
        .try_init();
}
