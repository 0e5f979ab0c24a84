//! A stream of messages from one guest to another, to measure how fast a network carries whole pages.
//!
//! The receiver reads one word of each page, so that every page has to be there, and acknowledges
//! each message. The sender keeps some under way: less than any queue between them holds. What is lost
//! is sent again, and counted as nothing.

use super::message::{Head, Kind};
use super::{Job, wrong};
use crate::memory::{self, Region};
use crate::net::{self, EVERYBODY, MOST_PAGES, Mac, Net, Received};
use crate::port;
use crate::shared::{self, BYTES, OPERATIONS};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ptr::with_exposed_provenance;
use core::sync::atomic::{AtomicU64, Ordering};
use mirrorball_abi::layout::PAGE_SIZE;

/// The parameter's value for the receiver.
const RECEIVES: u64 = 2;
/// Messages under way at a time.
const WINDOW: usize = 16;
/// How long an acknowledgement is waited for before a message is sent again.
const PATIENCE_MS: u64 = 500;
/// How often in a row nothing may come before an end gives up: half a minute.
const MOST_WAITS: u32 = 60;

pub(super) fn run(job: &Job) -> Result<(), String> {
    let mut net = net::open()?;
    // Each message is acknowledged.
    net.ignore_sent();
    for _ in 0..WINDOW + 4 {
        lend(
            &mut net,
            memory::take_lane().ok_or("no memory for packets")?,
        );
    }
    if job.param(0, 1) == RECEIVES {
        receive(net)
    } else {
        let regions = (0..WINDOW).map(|_| Region::new(MOST_PAGES).ok_or("no memory for messages"));
        let pages = job.count(2, MOST_PAGES).clamp(1, MOST_PAGES);
        let mut sender = Sender {
            net,
            buffers: regions.collect::<Result<_, _>>()?,
            under_way: BTreeMap::new(),
            pages,
            written: job.param(3, 0),
        };
        sender.fill();
        sender.send_all(job.param(1, 1 << 30).div_ceil((pages * PAGE_SIZE) as u64))
    }
}

/// Gives a lane to the device.
fn lend(net: &mut Net, lane: usize) {
    // SAFETY: the lane was taken for this, or has come back from the device.
    if let Some(lane) = unsafe { net.post(lane) } {
        memory::give(lane, MOST_PAGES);
    }
}

/// What a packet is for, and its number.
fn decode(received: &Received) -> Option<(Kind, u64)> {
    let head = Head::decode(&received.message)?;
    Some((head.kind, head.number))
}

fn patience() -> u64 {
    port::ticks() + PATIENCE_MS * shared::ticks_per_ms()
}

struct Sender {
    net: Net,
    /// Message `n` is sent from buffer `n` modulo their number.
    buffers: Vec<Region>,
    /// Numbers that are not acknowledged, with the time until which they should be.
    under_way: BTreeMap<u64, u64>,
    pages: usize,
    /// Percent of pages that are written before each message.
    written: u64,
}

impl Sender {
    fn fill(&self) {
        for buffer in &self.buffers {
            for (index, word) in (1..).zip(buffer.words()) {
                word.store(index, Ordering::Relaxed);
            }
        }
    }

    fn send_all(&mut self, messages: u64) -> Result<(), String> {
        let receiver = self.ask(EVERYBODY, Kind::Hello)?;
        let mut next = 0;
        while (next < messages || !self.under_way.is_empty()) && !shared::stop_requested() {
            // A buffer is free when its last message has come: then the device has read it, too.
            while next < messages && self.under_way.len() < WINDOW && self.is_free(next) {
                self.write(next);
                if !self.send(receiver, next) {
                    break;
                }
                next += 1;
            }
            let first = self.under_way.values().min().copied();
            self.net.wait(first.unwrap_or_else(patience));
            self.take();
            self.repeat(receiver);
        }
        if !shared::stop_requested() {
            self.ask(receiver, Kind::Done)?;
        }
        Ok(())
    }

    fn is_free(&self, number: u64) -> bool {
        let first = self.under_way.keys().next();
        first.is_none_or(|first| number - first < WINDOW as u64)
    }

    fn buffer(&self, number: u64) -> &Region {
        &self.buffers[shared::usize_of(number % WINDOW as u64)]
    }

    /// Writes the number into the first page, and a word into so many percent of all.
    fn write(&self, number: u64) {
        let buffer = self.buffer(number);
        for page in 0..self.pages {
            if (page as u64 * 100) < self.written * self.pages as u64 {
                buffer.page(page)[1].store(number, Ordering::Relaxed);
            }
        }
    }

    fn send(&mut self, to: Mac, number: u64) -> bool {
        let start = self.buffer(number).address();
        let bytes = self.pages * PAGE_SIZE;
        // SAFETY: the buffer is not written to before its message was acknowledged.
        let sent = unsafe {
            (self.net).send_runs(
                to,
                &Head::new(Kind::Data, number).encode(),
                vec![(start, bytes)],
            )
        };
        if sent {
            self.under_way.insert(number, patience());
        }
        sent
    }

    fn take(&mut self) {
        while self.net.sent().is_some() {}
        while let Some(received) = self.net.take() {
            lend(&mut self.net, received.lane);
            if let Some((Kind::Ack, number)) = decode(&received)
                && self.under_way.remove(&number).is_some()
            {
                OPERATIONS.increase(1);
                BYTES.increase((self.pages * PAGE_SIZE) as u64);
            }
        }
    }

    /// Sends again what should have been acknowledged.
    fn repeat(&mut self, receiver: Mac) {
        let now = port::ticks();
        let late = self.under_way.iter().filter(|(_, until)| **until < now);
        let late: Vec<u64> = late.map(|(number, _)| *number).collect();
        for number in late {
            self.send(receiver, number);
        }
    }

    /// Asks until somebody answers; answers who.
    fn ask(&mut self, to: Mac, kind: Kind) -> Result<Mac, String> {
        for _ in 0..MOST_WAITS {
            // SAFETY: there are no pages.
            let _ = unsafe { self.net.send(to, &Head::new(kind, u64::MAX).encode(), &[]) };
            let until = patience();
            // What was sent ends a wait, too.
            while port::ticks() < until && !shared::stop_requested() {
                self.net.wait(until);
                while self.net.sent().is_some() {}
                while let Some(received) = self.net.take() {
                    lend(&mut self.net, received.lane);
                    if decode(&received) == Some((Kind::Ack, u64::MAX)) {
                        return Ok(received.from);
                    }
                }
            }
        }
        Err("nobody receives".into())
    }
}

fn receive(mut net: Net) -> Result<(), String> {
    let mut waits = 0;
    let mut done = false;
    while !shared::stop_requested() {
        net.wait(patience());
        while net.sent().is_some() {}
        let mut came = false;
        while let Some(received) = net.take() {
            came = true;
            // Messages may come for as long as they are answered: room for answers can't wait for the last.
            while net.sent().is_some() {}
            let known = decode(&received);
            if let Some((Kind::Data, _)) = known {
                touch(received.lane, received.pages());
                OPERATIONS.increase(1);
                BYTES.increase(received.bytes as u64);
            }
            lend(&mut net, received.lane);
            if let Some((kind, number)) = known {
                done = kind == Kind::Done;
                // SAFETY: there are no pages. An answer that finds no room is asked for again.
                let _ =
                    unsafe { net.send(received.from, &Head::new(Kind::Ack, number).encode(), &[]) };
            }
        }
        waits = if came { 0 } else { waits + 1 };
        // The last answer may have been lost: then the question comes again.
        if done && !came {
            return Ok(());
        }
        if waits > MOST_WAITS {
            return Err("nothing comes".into());
        }
    }
    Ok(())
}

/// Reads a word of each page: the first is never 0.
fn touch(lane: usize, pages: usize) {
    for page in 0..pages {
        let words: *const AtomicU64 = with_exposed_provenance(lane + page * PAGE_SIZE);
        // SAFETY: the lane came with this message and nobody writes to it; the page is mapped.
        let first = unsafe { (*words).load(Ordering::Relaxed) };
        if first == 0 {
            wrong(format_args!("page {page} of a message is empty"));
        }
    }
}
