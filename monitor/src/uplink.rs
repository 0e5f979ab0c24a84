//! A network's way out: a TAP device of the host's, on a port of the switch.
//!
//! What the host does with the other end (a bridge, an address) is its administrator's business. The
//! port learns addresses, since any number of stations may be behind it. Packets are copied on their
//! way out: the host is no guest, and no page of it can be mapped.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use mirrorball_vnet::{
    AttachError, ETHERNET_HEADER, Mac, Network, Offload, Packet, Piece, Port, PortConfig,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::sys::tap;

/// Longest name of a TAP device, in bytes.
pub const LONGEST_NAME: usize = tap::LONGEST_NAME;

/// Longest frame that a TAP device gives.
const LONGEST_FRAME: usize = 1 << 16;
/// Frames taken from one side before the other has its turn.
const BURST: usize = 64;

/// Why there is no uplink.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// The TAP device can't be had.
    #[error("the TAP device {name} can't be used: {source}\n  {}", remedy(.source))]
    Tap {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The network has no port for it.
    #[error("the uplink has no place on its network: {0}")]
    Port(#[from] AttachError),
    /// No thread, or nothing to wait with.
    #[error("the uplink could not be started: {0}")]
    Thread(io::Error),
}

/// What to do when a TAP device can't be had.
fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "this host has no /dev/net/tun: load the module `tun`, or give the container that device"
        }
        Some(libc::EPERM | libc::EACCES) => {
            "run as root, or have an administrator make it: ip tuntap add dev NAME mode tap user YOU"
        }
        Some(libc::EBUSY) => "another program uses it: stop that, or take another name",
        Some(libc::EINVAL) => {
            "there is an interface of that name that is no TAP device: take another"
        }
        _ => "leave `uplink` out, and the network is closed to the outside",
    }
}

/// What went through an uplink so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UplinkCounts {
    /// Frames from the host.
    pub in_frames: u64,
    /// Frames to the host.
    pub out_frames: u64,
    /// Frames that the host did not take: its queue was full, its device down, or they were too long.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Counters {
    in_frames: AtomicU64,
    out_frames: AtomicU64,
    refused: AtomicU64,
}

/// An uplink; it ends when dropped.
#[derive(Debug)]
pub struct Uplink {
    end: Arc<EventFd>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

/// What the uplink's thread has.
struct Way {
    tap: File,
    port: Port,
    wake: Arc<EventFd>,
    end: Arc<EventFd>,
    counters: Arc<Counters>,
    frame: Vec<u8>,
}

impl Uplink {
    /// Connects a network to the TAP device of that name, made if it is not there. The port has the
    /// address `mac`.
    ///
    /// # Errors
    /// The device can't be had, or the network is full.
    pub fn start(network: &Arc<Network>, name: &str, mac: Mac) -> Result<Self, UplinkError> {
        let tap = tap::open(name).map_err(|source| UplinkError::Tap {
            name: name.to_owned(),
            source,
        })?;
        let event = || {
            EventFd::new(EFD_NONBLOCK)
                .map(Arc::new)
                .map_err(UplinkError::Thread)
        };
        let (wake, end) = (event()?, event()?);
        let woken = Arc::clone(&wake);
        let config = PortConfig {
            learns: true,
            ..PortConfig::station(mac)
        };
        let port = network.attach(config, move || {
            // It can fail only when it is full: then the thread will wake anyway.
            let _ = woken.write(1);
        })?;
        let counters = Arc::new(Counters::default());
        let way = Way {
            tap,
            port,
            wake,
            end: Arc::clone(&end),
            counters: Arc::clone(&counters),
            frame: vec![0; LONGEST_FRAME],
        };
        let epoll = way.epoll().map_err(UplinkError::Thread)?;
        let thread = thread::Builder::new()
            .name(format!("uplink {name}"))
            .spawn(move || way.carry(&epoll))
            .map_err(UplinkError::Thread)?;
        Ok(Self {
            end,
            counters,
            thread: Some(thread),
        })
    }

    /// What went through it so far.
    #[must_use]
    pub fn counts(&self) -> UplinkCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        UplinkCounts {
            in_frames: read(&self.counters.in_frames),
            out_frames: read(&self.counters.out_frames),
            refused: read(&self.counters.refused),
        }
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        let _ = self.end.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Tokens of what is waited for.
const TAP: u64 = 0;
const WAKE: u64 = 1;
const END: u64 = 2;

impl Way {
    fn epoll(&self) -> io::Result<Epoll> {
        let epoll = Epoll::new()?;
        let all = [
            (self.tap.as_raw_fd(), TAP),
            (self.wake.as_raw_fd(), WAKE),
            (self.end.as_raw_fd(), END),
        ];
        for (fd, token) in all {
            let event = EpollEvent::new(EventSet::IN, token);
            epoll.ctl(ControlOperation::Add, fd, event)?;
        }
        Ok(epoll)
    }

    fn carry(mut self, epoll: &Epoll) {
        let mut events = [EpollEvent::default(); 3];
        let mut more = false;
        loop {
            let timeout = if more { 0 } else { -1 };
            let count = match epoll.wait(timeout, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "an uplink ends");
                    return;
                }
            };
            if events.iter().take(count).any(|event| event.data() == END) {
                return;
            }
            let _ = self.wake.read();
            more = self.inwards() | self.outwards();
        }
    }

    /// Carries frames of the host's; whether there may be more.
    fn inwards(&mut self) -> bool {
        for _ in 0..BURST {
            let Ok(bytes @ ETHERNET_HEADER..) = self.tap.read(&mut self.frame) else {
                return false;
            };
            let pieces = vec![Piece::Bytes(self.frame[..bytes].to_vec())];
            if let Ok(packet) = Packet::new(pieces, Offload::default()) {
                self.counters.in_frames.fetch_add(1, Ordering::Relaxed);
                self.port.send(packet);
            }
        }
        true
    }

    /// Carries packets of guests'; whether there may be more.
    fn outwards(&mut self) -> bool {
        for _ in 0..BURST {
            let Some(packet) = self.port.receive() else {
                return false;
            };
            // The host is told of no work left undone.
            match packet.segmented() {
                Some(parts) => parts.iter().for_each(|part| self.out(part)),
                None => self.out(packet.with_checksum().as_ref().unwrap_or(&packet)),
            }
        }
        true
    }

    fn out(&mut self, packet: &Packet) {
        let pieces = packet.pieces().iter();
        let parts: Vec<_> = pieces.map(|piece| IoSlice::new(piece.bytes())).collect();
        let counter = match self.tap.write_vectored(&parts) {
            Ok(_) => &self.counters.out_frames,
            Err(_) => &self.counters.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirrorball_vnet::NetworkConfig;

    #[test]
    fn what_can_t_be_had_says_what_to_do() {
        let network = Network::new("lan", &NetworkConfig::default());
        let name = "a-name-that-no-interface-can-have";
        let error = Uplink::start(&network, name, Mac::numbered(1)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(name) && text.lines().count() == 2, "{text}");
        let refused = |code| {
            let source = io::Error::from_raw_os_error(code);
            let name = "mb0".to_owned();
            UplinkError::Tap { name, source }.to_string()
        };
        assert!(refused(libc::EPERM).contains("run as root"));
        assert!(refused(libc::ENOENT).contains("no /dev/net/tun"));
        assert!(refused(libc::EBUSY).contains("another program"));
    }
}
