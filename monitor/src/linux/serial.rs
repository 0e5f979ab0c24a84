//! The serial port: a 16550 whose output is kept as a tail and, if asked, written to a file.

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use mirrorball_virtio::Tail;
use parking_lot::Mutex;
use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::LinuxError;

/// First port of COM1.
pub(super) const BASE: u16 = 0x3f8;
/// Number of its ports.
pub(super) const PORTS: u8 = 8;
/// Its interrupt.
pub(crate) const LINE: u32 = 4;

/// Bytes of output that are kept: a whole boot of a talkative kernel.
const TAIL: usize = 64 << 10;
/// Bytes that are gathered for one write to the log at most; a line's end writes them too.
const LOG_CHUNK: usize = 512;
/// Most bytes of a log: a guest that prints for ever must not fill the host's disk.
const LONGEST_LOG: usize = 64 << 20;
/// The last line of a log that is cut off there.
const LOG_ENDS: &[u8] = b"\n[the log ends here, at its largest size]\n";

/// A guest's serial port.
pub(crate) struct SerialPort {
    device: Mutex<Serial<Line, NoEvents, Output>>,
    line: EventFd,
}

/// The interrupt line.
struct Line(EventFd);

impl Trigger for Line {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        // The only failure is a full counter: the interrupt is on its way already.
        let _ = self.0.write(1);
        Ok(())
    }
}

/// Where output goes.
struct Output {
    tail: Tail,
    log: Option<File>,
    /// Bytes that the log may still grow.
    log_room: usize,
    gathered: Vec<u8>,
}

impl SerialPort {
    /// A port whose output also goes to a new file `log`.
    pub(crate) fn new(log: Option<&Path>) -> Result<Self, LinuxError> {
        let failed = |source| LinuxError::ConsoleLog {
            path: log.unwrap_or(Path::new("")).into(),
            source,
        };
        let log = log.map(File::create).transpose().map_err(failed)?;
        let line = EventFd::new(EFD_NONBLOCK).map_err(failed)?;
        let output = Output::new(log, LONGEST_LOG);
        let trigger = Line(line.try_clone().map_err(failed)?);
        Ok(Self {
            device: Mutex::new(Serial::new(trigger, output)),
            line,
        })
    }

    /// The interrupt line, for an irqfd.
    pub(crate) fn line(&self) -> &EventFd {
        &self.line
    }

    /// The last output; what is not UTF-8 is shown as replacement characters.
    pub(crate) fn tail(&self) -> String {
        self.device.lock().writer_mut().tail.text()
    }

    /// What was printed since `seen` bytes had been, as far as it is kept, and the bytes printed so
    /// far.
    pub(crate) fn since(&self, seen: u64) -> (Vec<u8>, u64) {
        self.device.lock().writer_mut().tail.since(seen)
    }

    /// A read of a port; `None` when it is not one of these.
    pub(super) fn read(&self, port: u16) -> Option<u8> {
        Some(self.device.lock().read(offset(port)?))
    }

    /// A write to a port; `false` when it is not one of these.
    pub(super) fn write(&self, port: u16, value: u8) -> bool {
        let Some(offset) = offset(port) else {
            return false;
        };
        // What can fail is the log; the guest's output is worth less than the guest.
        if let Err(error) = self.device.lock().write(offset, value) {
            tracing::warn!(%error, "console log");
        }
        true
    }
}

fn offset(port: u16) -> Option<u8> {
    let offset = u8::try_from(port.checked_sub(BASE)?).ok()?;
    (offset < PORTS).then_some(offset)
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tail.push(bytes);
        if self.log.is_some() {
            self.gathered.extend_from_slice(bytes);
            if bytes.contains(&b'\n') || self.gathered.len() >= LOG_CHUNK {
                self.write_log()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn new(log: Option<File>, log_room: usize) -> Self {
        Self {
            tail: Tail::new(TAIL),
            log,
            log_room,
            gathered: Vec::new(),
        }
    }

    /// Writes what is gathered; a log that is full or can't be written ends.
    fn write_log(&mut self) -> io::Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        let fits = gathered.len().min(self.log_room);
        self.log_room -= fits;
        let mut result = log.write_all(&gathered[..fits]);
        if result.is_ok() && fits < gathered.len() {
            result = log.write_all(LOG_ENDS);
            self.log = None;
        }
        if result.is_err() {
            self.log = None;
        }
        result
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // The last line may lack its end.
        if let Err(error) = self.write_log() {
            tracing::warn!(%error, "console log");
        }
    }
}

impl fmt::Debug for SerialPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerialPort")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_kept_at_its_end_and_logged_in_whole() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("console.log");
        let port = SerialPort::new(Some(&log)).unwrap();
        let text = "0123456789abcde\n".repeat(5000) + "the end";
        for byte in text.bytes() {
            assert!(port.write(BASE, byte));
        }
        assert_eq!(port.tail(), text[text.len() - TAIL..]);
        drop(port);
        assert_eq!(std::fs::read_to_string(log).unwrap(), text);
    }

    #[test]
    fn a_log_has_a_largest_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        let mut output = Output::new(Some(File::create(&path).unwrap()), 20);
        for _ in 0..9 {
            output.write_all(b"0123456\n").unwrap();
        }
        drop(output);
        let text = std::fs::read(path).unwrap();
        assert_eq!(text, [b"0123456\n0123456\n0123", LOG_ENDS].concat());
    }

    #[test]
    fn the_transmitter_is_always_ready_and_interrupts_when_asked_to() {
        let port = SerialPort::new(None).unwrap();
        assert_eq!(port.read(BASE + 5).unwrap() & 0x60, 0x60);
        assert!(port.line().read().is_err(), "no interrupt yet");
        port.write(BASE + 1, 2);
        port.write(BASE, b'x');
        assert!(port.line().read().unwrap() > 0);
        assert_eq!(port.tail(), "x");
    }

    #[test]
    fn other_ports_are_left_alone() {
        let port = SerialPort::new(None).unwrap();
        assert_eq!(port.read(BASE - 1), None);
        assert_eq!(port.read(BASE + 8), None);
        assert_eq!(port.read(u16::MAX), None);
        assert!(!port.write(BASE + 8, 1));
    }

    #[test]
    fn a_log_that_can_not_be_made_is_named() {
        let error = SerialPort::new(Some(Path::new("/proc/no/log"))).unwrap_err();
        assert!(error.to_string().contains("/proc/no/log"));
    }
}
