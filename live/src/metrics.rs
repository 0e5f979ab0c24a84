//! The figures of a run in progress for Prometheus, over HTTP.
//!
//! The text format is that of Prometheus' "Exposition formats", version 0.0.4. One page and one
//! method need no web server: a request is read up to its empty line and answered.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use mirrorball_report::samples::Sample;

use crate::{Desk, LiveError, Snapshot};

/// Requests of scrapers are far shorter.
const LONGEST_REQUEST: u64 = 16 << 10;
/// One who says or takes nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where the figures are.
const PATH: &str = "/metrics";

/// One metric: its name, what it is, whether it only grows, and its value.
type Metric = (&'static str, &'static str, bool, fn(&Sample) -> Option<f64>);

/// Metrics of the machine, and of each VM where they mean something there.
const METRICS: [Metric; 17] = [
    ("guest_physical_bytes", "Guest-physical size", false, |s| {
        whole(s.guest_physical_bytes)
    }),
    ("touched_bytes", "Touched pages", false, |s| {
        whole(s.touched_bytes)
    }),
    ("private_bytes", "Private pages", false, |s| {
        whole(s.private_bytes)
    }),
    ("mapped_bytes", "Pages that map a frame", false, |s| {
        whole(s.mapped_bytes)
    }),
    ("zero_bytes", "Pages that are the zero page", false, |s| {
        whole(s.zero_bytes)
    }),
    ("ballooned_bytes", "Pages in balloons", false, |s| {
        s.ballooned_bytes.and_then(whole)
    }),
    ("shared_bytes", "Shared pages", false, |s| {
        s.shared_bytes.and_then(whole)
    }),
    (
        "reclaimed_bytes",
        "Shared pages less their frames",
        false,
        |s| s.reclaimed_bytes.and_then(whole),
    ),
    ("frames_bytes", "Frames in use", false, |s| {
        s.frames_bytes.and_then(whole)
    }),
    (
        "if_all_shares_broke_bytes",
        "What would be needed if every shared page were written",
        false,
        |s| s.if_all_broke_bytes.and_then(whole),
    ),
    (
        "reclaimed_by_disk_bytes",
        "Reclaimed by disk sharing",
        false,
        |s| s.disk_bytes.and_then(whole),
    ),
    (
        "reclaimed_by_content_bytes",
        "Reclaimed by content sharing",
        false,
        |s| s.content_bytes.and_then(whole),
    ),
    ("reclaimed_by_ksm_bytes", "Saved by KSM", false, |s| {
        s.ksm_bytes.and_then(whole)
    }),
    ("broken_pages_total", "Shared pages broken", true, |s| {
        whole(s.broken_pages)
    }),
    ("vcpu_seconds_total", "CPU time of vCPUs", true, |s| {
        s.vcpu_seconds
    }),
    (
        "scanner_seconds_total",
        "CPU time of the scanner",
        true,
        |s| s.scanner_seconds,
    ),
    ("ksmd_seconds_total", "CPU time of ksmd", true, |s| {
        s.ksmd_seconds
    }),
];

#[allow(
    clippy::cast_precision_loss,
    clippy::unnecessary_wraps,
    reason = "bytes below 2^53"
)]
fn whole(value: u64) -> Option<f64> {
    Some(value as f64)
}

/// The page: every metric of the machine, and with a label `vm` those of each VM.
#[must_use]
pub fn page(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    let machine = &snapshot.machine;
    let common = format!(
        "experiment=\"{}\",cell=\"{}\",run=\"{}\"",
        escaped(&snapshot.experiment),
        escaped(&machine.cell),
        machine.run
    );
    for (name, help, grows, value) in METRICS {
        let kind = if grows { "counter" } else { "gauge" };
        if let Some(value) = value(machine) {
            // A string takes all that is written to it.
            let _ = writeln!(text, "# HELP mirrorball_{name} {help}.");
            let _ = writeln!(text, "# TYPE mirrorball_{name} {kind}");
            let _ = writeln!(text, "mirrorball_{name}{{{common}}} {value}");
        }
        let of_vms: Vec<_> = snapshot
            .vms
            .iter()
            .filter_map(|vm| Some((vm, value(&vm.sample)?)))
            .collect();
        if !of_vms.is_empty() {
            let _ = writeln!(text, "# HELP mirrorball_vm_{name} {help}, of one VM.");
            let _ = writeln!(text, "# TYPE mirrorball_vm_{name} {kind}");
        }
        for (vm, value) in of_vms {
            let vm = escaped(&vm.name);
            let _ = writeln!(text, "mirrorball_vm_{name}{{{common},vm=\"{vm}\"}} {value}");
        }
    }
    let _ = writeln!(
        text,
        "# HELP mirrorball_used_bytes Machine memory that guests use."
    );
    let _ = writeln!(text, "# TYPE mirrorball_used_bytes gauge");
    let _ = writeln!(
        text,
        "mirrorball_used_bytes{{{common}}} {}",
        snapshot.used_bytes
    );
    text
}

/// A label's value.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Serves the page from now on; the address in use, which tells the port where 0 was asked for.
///
/// # Errors
/// The address can't be listened on.
pub fn serve(address: &str, desk: &Arc<Desk>) -> Result<SocketAddr, LiveError> {
    let failed = |error| LiveError::Metrics {
        address: address.to_owned(),
        error,
    };
    let listener = TcpListener::bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let desk = Arc::clone(desk);
    // A scraper comes when it likes: there must always be something for it.
    desk.join();
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Err(error) = answer(&stream, &desk) {
                    tracing::debug!(%error, "a scraper is gone");
                }
            }
        })
        .map_err(failed)?;
    Ok(bound)
}

fn answer(stream: &TcpStream, desk: &Desk) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.take(LONGEST_REQUEST)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let (status, text) = match (method, path) {
        (Some("GET"), PATH) => match desk.snapshot() {
            Some(snapshot) => ("200 OK", page(&snapshot)),
            None => (
                "503 Service Unavailable",
                "no guest has been started yet\n".to_owned(),
            ),
        },
        (Some("GET"), _) => ("404 Not Found", format!("the figures are at {PATH}\n")),
        _ => ("405 Method Not Allowed", "only GET\n".to_owned()),
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VmView;

    fn snapshot() -> Snapshot {
        let sample = Sample {
            touched_bytes: 8192,
            vcpu_seconds: Some(0.5),
            ..Sample::default()
        };
        Snapshot {
            experiment: "a \"b\"".into(),
            machine: Sample {
                cell: "all".into(),
                run: 2,
                ksm_bytes: None,
                ..sample.clone()
            },
            vms: vec![VmView {
                name: "g-1".into(),
                sample,
                ..VmView::default()
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_page_has_the_machine_and_each_vm_and_nothing_that_was_not_measured() {
        let page = page(&snapshot());
        let common = r#"experiment="a \"b\"",cell="all",run="2""#;
        assert!(page.contains(&format!("mirrorball_touched_bytes{{{common}}} 8192\n")));
        assert!(page.contains(&format!(
            "mirrorball_vm_vcpu_seconds_total{{{common},vm=\"g-1\"}} 0.5\n"
        )));
        assert!(page.contains("# TYPE mirrorball_vm_vcpu_seconds_total counter\n"));
        assert!(!page.contains("ksm"), "{page}");
    }

    #[test]
    fn a_scraper_gets_the_page_and_others_are_told_where_it_is() {
        let desk = Arc::new(Desk::default());
        let address = serve("127.0.0.1:0", &desk).unwrap();
        let get = |request: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        assert!(get("GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 503 "));
        desk.publish(snapshot());
        let found = get("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(found.starts_with("HTTP/1.1 200 OK\r\n") && found.ends_with("\n"));
        assert!(found.contains("\r\n\r\n# HELP mirrorball_guest_physical_bytes"));
        assert!(get("GET / HTTP/1.1\r\n\r\n").contains("/metrics"));
        assert!(get("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(serve(&address.to_string(), &desk).is_err(), "in use");
    }
}
