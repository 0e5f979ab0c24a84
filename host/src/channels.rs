//! The sockets between QEMU and this process.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::HostError;

/// A socket for the kernel's console, one for words with the init, and the command's streams.
pub(crate) const NAMES: [&str; 4] = ["console", "control", "stdout", "stderr"];

/// Sockets that QEMU connects to when it starts. Their folder is gone when this is.
#[derive(Debug)]
pub(crate) struct Sockets {
    folder: tempfile::TempDir,
    listeners: Vec<UnixListener>,
}

/// The connections.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) console: UnixStream,
    pub(crate) control: UnixStream,
    pub(crate) stdout: UnixStream,
    pub(crate) stderr: UnixStream,
}

impl Sockets {
    pub(crate) fn new() -> Result<Self, HostError> {
        let make = || -> io::Result<Self> {
            let folder = tempfile::Builder::new().prefix("mirrorball-").tempdir()?;
            let listen = |name| {
                let listener = UnixListener::bind(folder.path().join(name))?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            };
            let listeners = NAMES.into_iter().map(listen).collect::<io::Result<_>>()?;
            Ok(Self { folder, listeners })
        };
        make().map_err(HostError::system(
            "making sockets in the folder for temporary files",
        ))
    }

    /// Where the sockets are, each under its name.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until all are connected; asks `go_on` again and again, which may end the wait.
    pub(crate) fn accept(
        self,
        mut go_on: impl FnMut() -> Result<(), HostError>,
    ) -> Result<Channels, HostError> {
        let mut one = |index: usize| loop {
            match self.listeners[index].accept() {
                Ok((stream, _)) => {
                    let blocking = stream.set_nonblocking(false);
                    break blocking
                        .map(|()| stream)
                        .map_err(HostError::system("connecting to QEMU"));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => go_on()?,
                Err(error) => break Err(HostError::system("connecting to QEMU")(error)),
            }
        };
        Ok(Channels {
            console: one(0)?,
            control: one(1)?,
            stdout: one(2)?,
            stderr: one(3)?,
        })
    }
}
