//! TCP with systems that know no protocol of ours, Linux for one: the echo service (RFC 862), either
//! end of it.
//!
//! The one end gives back what it gets until so many connections have ended; pings are answered all
//! the while. The other sends bytes by a pattern and verifies what comes back.

use super::{Job, wrong};
use crate::ip::{self, Stack};
use crate::shared::{self, BYTES, OPERATIONS, VERIFIED_PAGES};
use alloc::string::String;
use alloc::vec;
use core::cell::Cell;
use mirrorball_abi::layout::PAGE_SIZE;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};

/// The service's port.
const PORT: u16 = 7;
/// The first port of this end's connections.
const OWN_PORT: u16 = 49_152;
/// The parameter's value for the end that asks.
const ASKS: u64 = 2;
/// Bytes of each of a connection's windows.
const WINDOW: usize = 32 << 10;
/// Longest that nothing is looked at.
const LOOK_MS: u64 = 200;
/// How often in a row nothing may come: half a minute.
const MOST_WAITS: u32 = 150;
/// How often a connection is tried: for ten minutes, since Linux takes its time to boot and to serve.
const MOST_TRIES: u16 = 3000;

pub(super) fn run(job: &Job) -> Result<(), String> {
    let stack = Stack::open(job.seed ^ u64::from(job.vm))?;
    let mut sockets = SocketSet::new(vec![]);
    let window = || SocketBuffer::new(vec![0; WINDOW]);
    let handle = sockets.add(Socket::new(window(), window()));
    if job.param(0, 1) == ASKS {
        let [.., high, low] = job.param(2, 1).to_be_bytes();
        Asks {
            stack,
            handle,
            seed: job.seed,
            bytes: job.param(3, 1 << 20),
        }
        .run(&mut sockets, [high, low])
    } else {
        answer(stack, &mut sockets, handle, job.param(1, 1))
    }
}

/// Gives back what comes until so many connections have ended.
fn answer(
    mut stack: Stack,
    sockets: &mut SocketSet<'_>,
    handle: SocketHandle,
    connections: u64,
) -> Result<(), String> {
    let mut connected = false;
    while OPERATIONS.get() < connections && !shared::stop_requested() {
        stack.poll(sockets);
        let socket = sockets.get_mut::<Socket<'_>>(handle);
        give_back(socket);
        if !socket.may_recv() && socket.state() == State::CloseWait && socket.send_queue() == 0 {
            socket.close();
        }
        if connected && !socket.is_active() {
            OPERATIONS.increase(1);
        }
        connected = socket.is_active();
        if !socket.is_open() {
            let listens = socket.listen(PORT);
            listens.map_err(|error| alloc::format!("port {PORT}: {error}"))?;
        }
        stack.poll(sockets);
        stack.wait(sockets, LOOK_MS);
    }
    Ok(())
}

/// Sends what has come, as much of it as there is room for.
fn give_back(socket: &mut Socket<'_>) {
    while socket.can_recv() && socket.can_send() {
        let room = socket.send_capacity() - socket.send_queue();
        let taken = socket.recv(|bytes| {
            let taken = bytes.len().min(room);
            (taken, bytes[..taken].to_vec())
        });
        let Ok(taken) = taken else { return };
        BYTES.increase(taken.len() as u64);
        if socket.send_slice(&taken).is_err() {
            return;
        }
    }
}

/// The end that asks.
struct Asks {
    stack: Stack,
    handle: SocketHandle,
    seed: u64,
    bytes: u64,
}

impl Asks {
    fn run(mut self, sockets: &mut SocketSet<'_>, peer: [u8; 2]) -> Result<(), String> {
        self.connect(sockets, peer)?;
        let (mut sent, mut come, mut waits) = (0, 0, 0);
        while come < self.bytes && !shared::stop_requested() {
            self.stack.poll(sockets);
            let socket = sockets.get_mut::<Socket<'_>>(self.handle);
            sent += self.send(socket, sent);
            let more = self.take(socket, come);
            come += more;
            BYTES.increase(more);
            waits = if more > 0 { 0 } else { waits + 1 };
            if !socket.is_active() || waits > MOST_WAITS {
                return Err(alloc::format!("{come} of {} bytes came back", self.bytes));
            }
            self.stack.poll(sockets);
            self.stack.wait(sockets, LOOK_MS);
        }
        sockets.get_mut::<Socket<'_>>(self.handle).close();
        // Until the other end knows.
        for _ in 0..MOST_WAITS {
            self.stack.poll(sockets);
            let state = sockets.get_mut::<Socket<'_>>(self.handle).state();
            if matches!(state, State::Closed | State::TimeWait) {
                break;
            }
            self.stack.wait(sockets, LOOK_MS);
        }
        OPERATIONS.increase(1);
        VERIFIED_PAGES.increase(come / PAGE_SIZE as u64);
        Ok(())
    }

    /// Tries until somebody listens.
    fn connect(&mut self, sockets: &mut SocketSet<'_>, peer: [u8; 2]) -> Result<(), String> {
        let to = (ip::address(peer), PORT);
        for attempt in 0..MOST_TRIES {
            let socket = sockets.get_mut::<Socket<'_>>(self.handle);
            if socket.is_active() && socket.may_send() {
                return Ok(());
            }
            if !socket.is_open() {
                let connects =
                    socket.connect(self.stack.interface().context(), to, OWN_PORT + attempt);
                connects.map_err(|error| alloc::format!("{}: {error}", to.0))?;
            }
            self.stack.poll(sockets);
            self.stack.wait(sockets, LOOK_MS);
            if shared::stop_requested() {
                return Ok(());
            }
        }
        Err(alloc::format!("nobody listens at {}, port {PORT}", to.0))
    }

    /// Sends as much as there is room for, from byte `from` on; answers how much.
    fn send(&self, socket: &mut Socket<'_>, from: u64) -> u64 {
        let left = shared::usize_of(self.bytes - from);
        let sent = socket.send(|room| {
            let len = room.len().min(left);
            for (number, byte) in (from..).zip(&mut room[..len]) {
                *byte = pattern(self.seed, number);
            }
            (len, len as u64)
        });
        // There is no room before the connection is there.
        sent.unwrap_or(0)
    }

    /// Verifies what has come, from byte `from` on; answers how much.
    fn take(&self, socket: &mut Socket<'_>, from: u64) -> u64 {
        let bad = Cell::new(None);
        let taken = socket.recv(|bytes| {
            for (number, byte) in (from..).zip(&*bytes) {
                if *byte != pattern(self.seed, number) && bad.get().is_none() {
                    bad.set(Some(number));
                }
            }
            (bytes.len(), bytes.len() as u64)
        });
        if let Some(number) = bad.get() {
            wrong(format_args!("byte {number} of an echo is another"));
        }
        taken.unwrap_or(0)
    }
}

/// Byte `number` of what is sent.
const fn pattern(seed: u64, number: u64) -> u8 {
    let word = (number / 8)
        .wrapping_add(seed)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word.to_le_bytes()[(number % 8) as usize]
}
