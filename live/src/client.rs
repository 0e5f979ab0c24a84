//! The side of who watches.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::place::{Place, in_progress};
use crate::{LiveError, Message, Request};

/// A connection to a run in progress.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    writer: UnixStream,
}

/// What a run tells, in order.
#[derive(Debug)]
pub struct Messages {
    socket: PathBuf,
    lines: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the run of this process, or to the newest run.
    ///
    /// # Errors
    /// There is none, or it can't be talked to.
    pub fn find(process: Option<u32>) -> Result<(Self, Messages), LiveError> {
        let places = in_progress()?;
        let place = match process {
            None => places.last(),
            Some(wanted) => places.iter().find(|place| place.process == wanted),
        };
        match (place, process) {
            (Some(place), _) => Self::connect(place),
            (None, Some(wanted)) if !places.is_empty() => {
                let running: Vec<_> = places.iter().map(|p| p.process.to_string()).collect();
                Err(LiveError::NotThat {
                    wanted,
                    running: running.join(", "),
                })
            }
            (None, _) => Err(LiveError::NothingRuns),
        }
    }

    /// Connects to that run.
    ///
    /// # Errors
    /// It is gone.
    pub fn connect(place: &Place) -> Result<(Self, Messages), LiveError> {
        let failed = |error| LiveError::Socket {
            path: place.socket.clone(),
            error,
        };
        let writer = UnixStream::connect(&place.socket).map_err(failed)?;
        let lines = BufReader::new(writer.try_clone().map_err(failed)?);
        let socket = place.socket.clone();
        let messages = Messages {
            socket: socket.clone(),
            lines,
        };
        Ok((Self { socket, writer }, messages))
    }

    /// Asks the run for something; its answer is among the messages.
    ///
    /// # Errors
    /// The run is gone.
    pub fn ask(&mut self, request: &Request) -> Result<(), LiveError> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.writer
            .write_all(&line)
            .map_err(|error| LiveError::Socket {
                path: self.socket.clone(),
                error,
            })
    }
}

impl Iterator for Messages {
    type Item = Result<Message, LiveError>;

    /// The next message; `None` when the run has ended.
    fn next(&mut self) -> Option<Self::Item> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).map_err(LiveError::from)),
            Err(error) => Some(Err(LiveError::Socket {
                path: self.socket.clone(),
                error,
            })),
        }
    }
}
