//! The CPU time of the kernel's thread that does KSM's work.

use super::host::KsmHost;
use std::{fs, io};

/// The kernel thread, by its process number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ksmd {
    pid: u32,
}

impl Ksmd {
    /// Finds it by name; `None` if this process sees no kernel threads.
    pub(super) fn find(host: &KsmHost) -> io::Result<Option<Self>> {
        for entry in fs::read_dir(&host.proc)? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let comm = fs::read_to_string(host.proc.join(&name).join("comm"));
            if comm.is_ok_and(|comm| comm.trim_end() == "ksmd") {
                return Ok(Some(Self { pid }));
            }
        }
        Ok(None)
    }

    /// CPU time since boot in seconds: from `schedstat` (nanoseconds) where
    /// the kernel has it, else from `stat` (clock ticks).
    pub(super) fn cpu_seconds(self, host: &KsmHost) -> io::Result<f64> {
        let folder = host.proc.join(self.pid.to_string());
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        if let Ok(text) = fs::read_to_string(folder.join("schedstat")) {
            let first = text
                .split_whitespace()
                .next()
                .and_then(|word| word.parse::<f64>().ok());
            return first.map(|nanoseconds| nanoseconds / 1e9).ok_or_else(bad);
        }
        let text = fs::read_to_string(folder.join("stat"))?;
        // The name in parentheses may hold anything; after it, utime and stime are fields 12 and 13.
        let fields: Vec<_> = text
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .collect();
        let ticks = |at: usize| {
            fields
                .get(at)
                .and_then(|word| word.parse::<u32>().ok())
                .map(f64::from)
        };
        let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
        match (ticks(11), ticks(12)) {
            (Some(user), Some(system)) => Ok((user + system) / f64::from(per_second)),
            _ => Err(bad()),
        }
    }
}
