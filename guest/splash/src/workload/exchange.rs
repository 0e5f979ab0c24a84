//! Integrity over the network: messages of any length from anywhere to anywhere, each checked to the
//! last byte, while both sides write to what was sent and the monitor shares it.
//!
//! A sender writes to a message's pages as soon as the device has given them back, a receiver as soon as
//! it has checked them, and both know what all their pages should hold ever after: whatever one guest
//! sees of the other's writes is a mismatch. Every message is acknowledged; one that is not is a
//! failure, for fewer are under way than any queue between them holds.

mod memory;

use super::message::{Head, Kind};
use super::{Job, wrong};
use crate::hash::Random;
use crate::net::{self, EVERYBODY, Mac, Net, Received};
use crate::port;
use crate::shared::{self, BYTES, OPERATIONS, VERIFIED_PAGES};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use memory::{Buffer, LONGEST};
use mirrorball_abi::layout::PAGE_SIZE;

/// Messages that are under way at a time.
const WINDOW: usize = 4;
/// Buffers that wait for messages.
const POSTED: usize = 8;
/// Messages that are kept, and checked again, before their buffers are used anew.
const KEPT: usize = 4;
/// How long an acknowledgement may take.
const PATIENCE_MS: u64 = 30_000;
/// How often a guest that waits for others says that it is there.
const CALL_MS: u64 = 50;
/// Room that is kept in the queue for acknowledgements.
const ROOM: usize = 16;

/// A message under way.
#[derive(Clone, Copy, Debug)]
struct Sending {
    number: u64,
    offset: usize,
    bytes: usize,
    /// The device has given its memory back.
    returned: bool,
    acknowledged: bool,
    deadline: u64,
}

/// A buffer to send from.
#[derive(Debug)]
struct Source {
    buffer: Buffer,
    sending: Option<Sending>,
}

struct Exchange<'a> {
    job: &'a Job,
    random: Random,
    net: Net,
    sources: Vec<Source>,
    /// Buffers that wait for messages, with their places.
    posted: Vec<(Buffer, usize)>,
    /// Messages that came: their pages are checked again.
    kept: VecDeque<(Buffer, core::ops::Range<usize>)>,
    peers: Vec<Mac>,
    others: usize,
    /// Peers that send nothing more.
    gone: BTreeSet<Mac>,
    /// Whether farewells were said.
    leaving: bool,
    /// Farewells that are not acknowledged, with the time until which they must be.
    farewells: BTreeMap<u64, u64>,
    /// Short messages for which there was no room.
    unsent: VecDeque<(Mac, Head)>,
    next: u64,
    /// Bytes checked that did not make a whole page yet.
    rest: usize,
}

pub(super) fn run(job: &Job) -> Result<(), String> {
    let target = job.param(0, 100_000);
    let longest = job.count(2, LONGEST).clamp(1, LONGEST);
    let mut exchange = Exchange::new(job)?;
    exchange.meet()?;
    let mut finishing = false;
    loop {
        exchange.look()?;
        if shared::stop_requested() {
            break;
        }
        finishing |= VERIFIED_PAGES.get() >= target;
        if !finishing {
            exchange.send_some(longest, job.param(3, 50));
        } else if exchange.is_over() {
            break;
        }
        exchange
            .net
            .wait(port::ticks() + shared::ticks_per_ms() * CALL_MS);
    }
    let Exchange {
        net, sources, kept, ..
    } = exchange;
    drop(net);
    for source in sources {
        source.buffer.check_all("a buffer to send from");
    }
    for (buffer, pages) in kept {
        buffer.check(pages, "a message");
    }
    Ok(())
}

impl<'a> Exchange<'a> {
    fn new(job: &'a Job) -> Result<Self, String> {
        let source = |_| {
            Ok(Source {
                buffer: Buffer::new()?,
                sending: None,
            })
        };
        let mut exchange = Self {
            job,
            random: Random::new(job.seed ^ u64::from(job.vm) << 32),
            net: net::open()?,
            sources: (0..WINDOW).map(source).collect::<Result<_, String>>()?,
            posted: Vec::new(),
            kept: VecDeque::new(),
            peers: Vec::new(),
            others: job.count(1, 2).max(2) - 1,
            gone: BTreeSet::new(),
            leaving: false,
            farewells: BTreeMap::new(),
            unsent: VecDeque::new(),
            next: 0,
            rest: 0,
        };
        for _ in 0..POSTED {
            exchange.post(Buffer::new()?)?;
        }
        Ok(exchange)
    }

    /// Gives the device a buffer for a message, at a new place.
    fn post(&mut self, buffer: Buffer) -> Result<(), String> {
        let place = Buffer::place(&mut self.random, LONGEST);
        // SAFETY: the buffer is kept in `posted` until its message has come; the device is gone before
        // the buffers are.
        if !unsafe { self.net.post_bytes(buffer.address(place), LONGEST) } {
            return Err("no room for a buffer in the queue".into());
        }
        self.posted.push((buffer, place));
        Ok(())
    }

    /// Waits until all others are there.
    fn meet(&mut self) -> Result<(), String> {
        let deadline = port::ticks() + PATIENCE_MS * shared::ticks_per_ms();
        while self.peers.len() < self.others {
            if shared::stop_requested() || port::ticks() > deadline {
                return Err(format!(
                    "{} of {} others are there",
                    self.peers.len(),
                    self.others
                ));
            }
            self.say(EVERYBODY, self.hello());
            self.net
                .wait(port::ticks() + CALL_MS * shared::ticks_per_ms());
            self.look()?;
        }
        Ok(())
    }

    /// Takes note of what was sent and what has come.
    fn look(&mut self) -> Result<(), String> {
        while let Some(address) = self.net.sent() {
            self.returned(address);
        }
        while let Some(received) = self.net.take() {
            self.take(&received)?;
        }
        for _ in 0..self.unsent.len() {
            if let Some((to, head)) = self.unsent.pop_front() {
                self.say(to, head);
            }
        }
        let deadlines = self.sources.iter().filter_map(|source| source.sending);
        let deadlines = deadlines.map(|sending| (sending.number, sending.deadline));
        let farewells = self
            .farewells
            .iter()
            .map(|(number, until)| (*number, *until));
        let now = port::ticks();
        match deadlines.chain(farewells).find(|(_, until)| *until < now) {
            Some((number, _)) => Err(format!("message {number} was lost, or its answer")),
            None => Ok(()),
        }
    }

    /// The device has read a message: its memory is ours again, and is written to at once.
    fn returned(&mut self, address: usize) {
        let mut sources = self.sources.iter_mut();
        let Some(source) = sources.find(|source| source.buffer.holds(address)) else {
            return;
        };
        if let Some(sending) = &mut source.sending {
            sending.returned = true;
            let pages = Buffer::pages(sending.offset, sending.bytes);
            source.buffer.scribble(&mut self.random, pages);
        }
        source.settle();
    }

    fn take(&mut self, received: &Received) -> Result<(), String> {
        let mut posted = self.posted.iter();
        let index = posted.position(|(buffer, place)| buffer.address(*place) == received.lane);
        let (buffer, place) = self
            .posted
            .swap_remove(index.ok_or("a buffer that nobody gave")?);
        let head = Head::decode(&received.message);
        let Some(head) = head.filter(|head| self.knows(received.from, *head)) else {
            return self.post(buffer);
        };
        match head.kind {
            Kind::Hello => {}
            Kind::Data => return self.data(received, head, buffer, place),
            Kind::Ack => {
                self.farewells.remove(&head.number);
                for source in &mut self.sources {
                    source.acknowledged(head.number);
                }
            }
            Kind::Done => {
                self.gone.insert(received.from);
                self.say(received.from, Head::new(Kind::Ack, head.number));
            }
        }
        self.post(buffer)
    }

    /// The number tells guests of this workload from those that only make noise.
    fn hello(&self) -> Head {
        Head::new(Kind::Hello, self.job.seed)
    }

    /// Whether a message is of somebody that this guest exchanges with; gets to know who says hello.
    fn knows(&mut self, from: Mac, head: Head) -> bool {
        if self.peers.contains(&from) {
            return true;
        }
        if head != self.hello() || self.peers.len() >= self.others {
            return false;
        }
        self.peers.push(from);
        self.say(from, self.hello());
        true
    }

    /// A message has come: it is checked, then written to, and checked again later.
    fn data(
        &mut self,
        received: &Received,
        head: Head,
        mut buffer: Buffer,
        place: usize,
    ) -> Result<(), String> {
        let whole = received.bytes == head.bytes && head.bytes > 0;
        if !whole || buffer.sum(place, head.bytes) != head.sum {
            wrong(format_args!(
                "message {} of {} bytes: {} came, and they differ",
                head.number, head.bytes, received.bytes
            ));
        }
        self.rest += received.bytes;
        VERIFIED_PAGES.increase((self.rest / PAGE_SIZE) as u64);
        self.rest %= PAGE_SIZE;
        BYTES.increase(received.bytes as u64);
        OPERATIONS.increase(1);
        self.say(received.from, Head::new(Kind::Ack, head.number));
        let pages = Buffer::pages(place, received.bytes.max(1));
        buffer.note(pages.clone());
        buffer.scribble(&mut self.random, pages.clone());
        self.kept.push_back((buffer, pages));
        if self.kept.len() > KEPT
            && let Some((buffer, pages)) = self.kept.pop_front()
        {
            buffer.check(pages, "a message");
            self.post(buffer)?;
        }
        Ok(())
    }

    /// Sends from the buffers that are free. Of `unchanged` percent nothing was written before.
    fn send_some(&mut self, longest: usize, unchanged: u64) {
        for index in 0..self.sources.len() {
            if self.sources[index].sending.is_none() && self.net.sending() < ROOM {
                self.send(index, longest, unchanged);
            }
        }
    }

    fn send(&mut self, index: usize, longest: usize, unchanged: u64) {
        let random = &mut self.random;
        let source = &mut self.sources[index];
        if random.chance(10) {
            source.buffer.check_all("a buffer to send from");
        }
        if !random.chance(unchanged) {
            source.buffer.rewrite(self.job, random);
        }
        // All lengths are as likely, by their number of digits.
        let most = 1 << random.below(21);
        let bytes = 1 + random.below(longest.min(most));
        let offset = Buffer::place(random, bytes);
        self.next += 1;
        let head = Head {
            kind: Kind::Data,
            number: self.next,
            sum: source.buffer.sum(offset, bytes),
            bytes,
        };
        let runs = cut(random, source.buffer.address(offset), bytes);
        let Some(to) = self.peers.get(random.below(self.peers.len())) else {
            return;
        };
        // SAFETY: the buffer is not written to until the device has given it back.
        if unsafe { self.net.send_runs(*to, &head.encode(), runs) } {
            source.sending = Some(Sending {
                number: head.number,
                offset,
                bytes,
                returned: false,
                acknowledged: false,
                deadline: port::ticks() + PATIENCE_MS * shared::ticks_per_ms(),
            });
        }
    }

    /// Sends a message without bytes, now or when there is room.
    fn say(&mut self, to: Mac, head: Head) {
        // SAFETY: there is no memory but the message.
        if !unsafe { self.net.send(to, &head.encode(), &[]) } {
            self.unsent.push_back((to, head));
        }
    }

    /// Whether all messages have come, here and elsewhere. Says farewell when all of ours have.
    fn is_over(&mut self) -> bool {
        let idle = self.sources.iter().all(|source| source.sending.is_none());
        if !idle {
            return false;
        }
        if !core::mem::replace(&mut self.leaving, true) {
            for to in self.peers.clone() {
                self.next += 1;
                let until = port::ticks() + PATIENCE_MS * shared::ticks_per_ms();
                self.farewells.insert(self.next, until);
                self.say(to, Head::new(Kind::Done, self.next));
            }
        }
        let quiet = self.unsent.is_empty() && self.net.sending() == 0;
        quiet && self.farewells.is_empty() && self.gone.len() >= self.others
    }
}

impl Source {
    fn acknowledged(&mut self, number: u64) {
        if let Some(sending) = self.sending.as_mut().filter(|s| s.number == number) {
            sending.acknowledged = true;
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.sending = self.sending.filter(|s| !s.returned || !s.acknowledged);
    }
}

/// Cuts memory into up to four parts at any places.
fn cut(random: &mut Random, address: usize, bytes: usize) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let (mut from, mut left) = (address, bytes);
    while left > 0 {
        let last = runs.len() == 3 || random.chance(60);
        let now = if last { left } else { 1 + random.below(left) };
        runs.push((from, now));
        from += now;
        left -= now;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_is_the_same_memory() {
        let mut random = Random::new(3);
        for bytes in [1, 2, 3, 4096, LONGEST] {
            for _ in 0..100 {
                let runs = cut(&mut random, 1000, bytes);
                assert!(runs.len() <= 4 && runs.iter().all(|(_, len)| *len > 0));
                let mut next = 1000;
                for (from, len) in runs {
                    assert_eq!(from, next);
                    next += len;
                }
                assert_eq!(next, 1000 + bytes);
            }
        }
    }
}
