//! The client: reads all files into its own buffer cache, and verifies them again and again.

use super::super::{Job, wrong};
use super::{CLUSTER_BYTES, Kind, Message};
use crate::cache;
use crate::console;
use crate::hash;
use crate::memory;
use crate::net::{self, EVERYBODY, Mac, Net, Received};
use crate::pages::LANE;
use crate::port;
use crate::shared::{self, BYTES, CHECKSUM, OPERATIONS, VERIFIED_PAGES, usize_of};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ptr::with_exposed_provenance;
use mirrorball_abi::layout::PAGE_SIZE;

/// The cache's name for the server's files.
const NETWORK: usize = usize::MAX;
/// How long an answer is waited for before it is asked for again.
const PATIENCE_MS: u64 = 500;
/// How often that is done: a minute in all.
const MOST_TRIES: u32 = 120;

/// A cluster of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cluster {
    pub(super) file: u32,
    pub(super) number: u32,
    /// Its place among all clusters.
    pub(super) place: usize,
}

impl Cluster {
    /// Its name in the cache.
    pub(super) const fn key(self) -> (usize, u64) {
        (NETWORK, self.place as u64)
    }
}

/// A request that is not answered.
#[derive(Clone, Copy, Debug)]
struct Pending {
    to: Mac,
    message: Message,
    /// For `Read`: of which cluster.
    place: usize,
    deadline: u64,
    tries: u32,
}

/// What is known of a cluster that was read.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    bytes: usize,
    sum: u64,
}

/// One end of a conversation with a server.
#[derive(Debug)]
pub(super) struct Client {
    net: Net,
    server: Mac,
    next_request: u32,
    pending: BTreeMap<u32, Pending>,
    known: Vec<Known>,
}

pub(in super::super) fn run(job: &Job) -> Result<(), String> {
    let (passes, most) = (job.param(0, 2), job.param(1, u64::MAX));
    let window = job.count(2, 8).clamp(1, 32);
    let mut client = Client::new(window + 2)?;
    let clusters = client.find(most)?;
    client.expect(clusters.len());
    for _ in 0..passes {
        if shared::stop_requested() {
            break;
        }
        client.pass(&clusters, window)?;
    }
    let mut all = hash::Sum::new(0);
    client.known.iter().for_each(|known| all.word(known.sum));
    CHECKSUM.set(all.value());
    client.leave()?;
    console::line(format_args!(
        "fileclient: {} clusters, {} bytes",
        clusters.len(),
        BYTES.get()
    ));
    Ok(())
}

impl Client {
    /// A client that knows no server, with so many lanes for what comes.
    pub(super) fn new(lanes: usize) -> Result<Self, String> {
        let mut client = Self {
            net: net::open()?,
            server: EVERYBODY,
            next_request: 0,
            pending: BTreeMap::new(),
            known: Vec::new(),
        };
        for _ in 0..lanes {
            client.lend(memory::take_lane().ok_or("no memory for packets")?);
        }
        Ok(client)
    }

    /// So many clusters will be read.
    pub(super) fn expect(&mut self, clusters: usize) {
        self.known = alloc::vec![Known::default(); clusters];
    }

    /// Tells the server that nothing more is needed, unless the guest is asked to stop: then the
    /// server may have gone.
    pub(super) fn leave(&mut self) -> Result<(), String> {
        if !shared::stop_requested() {
            self.ask(Kind::Bye, 0)?;
        }
        Ok(())
    }

    /// Gives a lane to the device.
    fn lend(&mut self, lane: usize) {
        // SAFETY: the lane was taken for this, or has come back from the device or the cache; nobody
        // else has it.
        if let Some(lane) = unsafe { self.net.post(lane) } {
            memory::give(lane, LANE);
        }
    }

    /// Finds the server, and of each of its files the number, the path's checksum and the size.
    pub(super) fn files(&mut self) -> Result<Vec<(u32, u64, u64)>, String> {
        let files = self.ask(Kind::Hello, 0)?.value;
        let mut all = Vec::new();
        for file in 0..u32::try_from(files).unwrap_or(u32::MAX) {
            let sized = self.ask(Kind::Size, file)?;
            all.push((file, sized.value, sized.bytes));
        }
        Ok(all)
    }

    /// Finds the server and what it has: up to `most` bytes.
    fn find(&mut self, most: u64) -> Result<Vec<Cluster>, String> {
        let mut clusters = Vec::new();
        let mut left = most;
        for (file, _, size) in self.files()? {
            let size = size.min(left);
            left -= size;
            for number in 0..size.div_ceil(CLUSTER_BYTES) {
                clusters.push(Cluster {
                    file,
                    number: u32::try_from(number).unwrap_or(u32::MAX),
                    place: clusters.len(),
                });
            }
        }
        Ok(clusters)
    }

    /// Asks the server, and waits for the answer. The first to answer is the server.
    fn ask(&mut self, kind: Kind, file: u32) -> Result<Message, String> {
        let message = Message {
            file,
            ..Message::new(kind, 0)
        };
        let request = self.request(message, 0);
        loop {
            self.net.wait(self.deadline());
            if shared::stop_requested() {
                return Err("asked to end before the server had answered".into());
            }
            self.repeat()?;
            while let Some(received) = self.net.take() {
                let answer = self.answer(&received);
                self.lend(received.lane);
                let Some((answer, _)) = answer.filter(|(answer, _)| answer.request == request)
                else {
                    continue;
                };
                self.server = received.from;
                return match answer.kind {
                    Kind::Failed => Err("the server could not answer".into()),
                    _ => Ok(answer),
                };
            }
        }
    }

    /// Takes the request out that this answers, if it does.
    fn answer(&mut self, received: &Received) -> Option<(Message, Pending)> {
        let answer = Message::decode(&received.message)?;
        let asked = self.pending.get(&answer.request)?;
        let from = asked.to == received.from || asked.to == EVERYBODY;
        if !from || !answer.kind.answers(asked.message.kind) {
            return None;
        }
        Some((answer, self.pending.remove(&answer.request)?))
    }

    /// Visits all clusters: those that are in the cache are verified there, others are read.
    fn pass(&mut self, clusters: &[Cluster], window: usize) -> Result<(), String> {
        let mut todo: VecDeque<Cluster> = clusters.iter().copied().collect();
        loop {
            while self.pending.len() < window
                && let Some(cluster) = todo.pop_front()
            {
                if !self.verify_cached(cluster) {
                    let message = Message {
                        file: cluster.file,
                        cluster: cluster.number,
                        ..Message::new(Kind::Read, 0)
                    };
                    self.request(message, cluster.place);
                }
            }
            if shared::stop_requested() {
                // What still comes has a request that nobody remembers.
                self.pending.clear();
            }
            if self.pending.is_empty() {
                return Ok(());
            }
            self.net.wait(self.deadline());
            self.repeat()?;
            let (clusters, bytes) = self.take_all()?;
            OPERATIONS.increase(clusters);
            BYTES.increase(bytes);
        }
    }

    /// Takes all that has come into the cache; answers how many clusters and bytes that were.
    pub(super) fn take_all(&mut self) -> Result<(u64, u64), String> {
        let (mut clusters, mut bytes) = (0, 0);
        while let Some(received) = self.net.take() {
            let came = self.data(&received)?;
            clusters += u64::from(came > 0);
            bytes += came;
        }
        Ok((clusters, bytes))
    }

    /// Whether a request is not answered yet.
    pub(super) fn waits_for(&self, request: u32) -> bool {
        self.pending.contains_key(&request)
    }

    /// Takes a cluster that has come into the cache; answers its bytes.
    fn data(&mut self, received: &Received) -> Result<u64, String> {
        let Some((answer, pending)) = self.answer(received) else {
            self.lend(received.lane);
            return Ok(0);
        };
        let bytes = usize_of(answer.bytes);
        let pages = bytes.div_ceil(PAGE_SIZE);
        if answer.kind != Kind::Data || bytes == 0 || pages != received.pages() || pages > LANE {
            self.lend(received.lane);
            return Err("the server could not read its file".into());
        }
        let known = Known {
            bytes,
            sum: answer.value,
        };
        if let Some(place) = self.known.get_mut(pending.place) {
            *place = known;
        }
        verify(received.lane, known, pending.place);
        let valid = valid(pages);
        let key = (NETWORK, pending.place as u64);
        let next = cache::adopt(key, received.lane, valid).or_else(memory::take_lane);
        let next = next.or_else(|| {
            cache::shrink(LANE);
            memory::take_lane()
        });
        self.lend(next.ok_or("no memory for packets")?);
        Ok(answer.bytes)
    }

    /// Verifies a cluster that is in the cache; `false` if it is not.
    fn verify_cached(&self, cluster: Cluster) -> bool {
        let Some(known) = self
            .known
            .get(cluster.place)
            .filter(|known| known.bytes > 0)
        else {
            return false;
        };
        let wanted = valid(known.bytes.div_ceil(PAGE_SIZE));
        let Some(held) = cache::find(cluster.key(), wanted) else {
            return false;
        };
        verify(held.address(0), *known, cluster.place);
        true
    }

    /// Sends a request, to be repeated until it is answered; answers its number. `place`: of the cluster
    /// that is asked for.
    pub(super) fn request(&mut self, message: Message, place: usize) -> u32 {
        self.next_request = self.next_request.wrapping_add(1);
        let request = self.next_request;
        let pending = Pending {
            to: self.server,
            message: Message { request, ..message },
            place,
            deadline: port::ticks() + PATIENCE_MS * shared::ticks_per_ms(),
            tries: 0,
        };
        self.send(&pending);
        self.pending.insert(request, pending);
        request
    }

    fn send(&mut self, pending: &Pending) {
        // SAFETY: there are no pages. A request that finds no room is repeated like a lost one.
        let _ = unsafe { self.net.send(pending.to, &pending.message.encode(), &[]) };
    }

    /// When the next request is to be repeated.
    pub(super) fn deadline(&self) -> u64 {
        let deadlines = self.pending.values().map(|pending| pending.deadline);
        deadlines.min().unwrap_or(0)
    }

    /// Repeats the requests that were answered too late or never.
    pub(super) fn repeat(&mut self) -> Result<(), String> {
        while self.net.sent().is_some() {}
        let now = port::ticks();
        let late = self.pending.values_mut().filter(|p| p.deadline <= now);
        let late: Vec<_> = late
            .map(|pending| {
                pending.tries += 1;
                pending.deadline = now + PATIENCE_MS * shared::ticks_per_ms();
                *pending
            })
            .collect();
        for pending in late {
            if pending.tries > MOST_TRIES {
                return Err(format!("no answer to {:?}", pending.message.kind));
            }
            self.send(&pending);
        }
        Ok(())
    }
}

/// The first so many pages of a cluster, as the cache tells them.
pub(super) const fn valid(pages: usize) -> u16 {
    if pages >= LANE {
        u16::MAX
    } else {
        (1 << pages) - 1
    }
}

/// Compares a cluster at `address` with its checksum: every byte counts.
fn verify(address: usize, known: Known, place: usize) {
    // SAFETY: the lane is the caller's or held in the cache, and nobody writes it.
    let data =
        unsafe { core::slice::from_raw_parts(with_exposed_provenance(address), known.bytes) };
    VERIFIED_PAGES.increase(known.bytes.div_ceil(PAGE_SIZE) as u64);
    if hash::bytes(data) != known.sum {
        wrong(format_args!("cluster {place} differs"));
    }
}
